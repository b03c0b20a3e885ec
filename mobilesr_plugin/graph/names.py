"""Names of modules that are put into a traced network."""

from __future__ import annotations

from torch import fx


def unused_name(traced: fx.GraphModule, wanted: str) -> str:
    """Returns ``wanted``, or something like it that no module of the network has.

    A network may well have a convolution that it calls ``add``, ``cat``, ``relu`` or ``input``.
    """
    while hasattr(traced, wanted):
        wanted += "_again"
    return wanted
