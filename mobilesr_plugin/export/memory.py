"""Memory that a network takes for an image, compared with what is free before anything is allocated."""

from __future__ import annotations

from collections.abc import Sequence

from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.graph.ops import Graph
from mobilesr_plugin.options import parse_size

BYTES = 4  # of one value: validation computes int8 values in float32


def bytes_per_pixel(graph: Graph) -> int:
    """Returns the least memory that validation needs for one pixel of the input image.

    While an operator runs, its inputs, its output and all values that a later one reads exist together::

        4 bytes * max over operators of (sum over values that exist of channels * factor^2)

    where ``factor`` is how much higher and wider than the image a value is. Operators take more for
    themselves while they run: a size that passes may still not fit, one that does not never fits.
    """
    channels, factors = graph.channels(), graph.factors()
    last_use = {name: op.name for op in graph for name in op.inputs}
    alive: dict[str, int] = {}
    most = 0
    for op in graph:
        alive[op.name] = channels[op.name] * factors[op.name] ** 2
        most = max(most, sum(alive.values()))
        for name in set(op.inputs):
            if last_use[name] == op.name:
                del alive[name]
    return BYTES * most


def bytes_of_images(channels: int, scale: int) -> int:
    """Returns the same where no graph is known yet: the image and the result alone."""
    return BYTES * channels * (1 + scale**2)


def check_sizes(sizes: Sequence[str], per_pixel: int, free: int) -> None:
    """Compares what fixed sizes take with the memory that is free.

    Args:
        sizes: As ``HxW`` text.
        per_pixel: Bytes for one pixel of the input.
        free: Bytes; 0: not known, and nothing is refused.

    Raises:
        OptionError: a size needs more.
    """
    for size in sizes:
        height, width = parse_size(size)
        needed = height * width * per_pixel
        if free and needed > free:
            raise OptionError(
                f"size {size} is too large: it takes at least {_amount(needed)} of memory, "
                f"and {_amount(free)} are free; choose a smaller one, or a machine with more memory"
            )


def _amount(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
