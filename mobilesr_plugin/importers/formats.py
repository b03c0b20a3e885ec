"""The table of formats; importing it is cheap, and each format's own module is imported when needed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobilesr_plugin.errors import OptionError

if TYPE_CHECKING:
    from mobilesr_plugin.importers.original import Reader


@dataclass(frozen=True)
class Format:
    """A kind of checkpoint.

    Attributes:
        source: What it is, for the command line's help.
        module: Module of this package with a function ``read``; see ``importers/original.py``.
        options: Names of the options that ``read`` takes beside the path.
    """

    source: str
    module: str
    options: tuple[str, ...] = ()


FORMATS = {
    "tf-abpn": Format("ABPN as published: a TensorFlow SavedModel, its folder or its variables", "tf_abpn"),
    "tf-sesr": Format("SESR as its authors train it: a TensorFlow SavedModel or checkpoint", "tf_sesr"),
    "srvgg": Format("SRVGGNetCompact of BasicSR or Real-ESRGAN: a .pth", "srvgg", ("act_type",)),
}


def format_named(name: str) -> Format:
    """Returns a row of the table.

    Raises:
        OptionError: no such format; the message lists them.
    """
    if name not in FORMATS:
        raise OptionError(f"format is {name!r}; it must be one of {', '.join(FORMATS)}")
    return FORMATS[name]


def reader(name: str) -> Reader:
    """Returns the function ``read`` of a format."""
    read: Reader = importlib.import_module(f"{__package__}.{format_named(name).module}").read
    return read
