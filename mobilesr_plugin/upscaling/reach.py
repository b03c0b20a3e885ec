"""Which input pixels an output pixel depends on: the arithmetic of receptive fields.

Along one axis, position ``j`` of a value that is ``factor`` times as large as the image depends on the
image's positions in ``[j / factor + low, j / factor + high]``. Each operator widens that interval. A tile
whose neighbours overlap by the radius of the whole network then gives the pixels that the whole image
gives, because zeros at its inner borders cannot reach what is kept of it (A. Araujo et al., "Computing
Receptive Fields of Convolutional Neural Networks", Distill 2019, https://distill.pub/2019/computing-receptive-fields).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

_HALF = Fraction(1, 2)


class NotTileableError(Exception):
    """An operator whose result at a place depends on more than a fixed neighbourhood."""


@dataclass(frozen=True)
class Field:
    """Receptive field of a network.

    Attributes:
        radius: Input pixels on each side of a pixel that its enlarged form depends on.
        shift_invariant: Whether an image moved by a pixel gives the same numbers, moved. Not so where
            positions are computed in rounded steps: a bilinear resize by a factor that is no power of 2.
        pixel_bytes: Memory that a pixel of the image takes, an estimate; see ``Memory``.
    """

    radius: int
    shift_invariant: bool
    pixel_bytes: int = field(default=1000, compare=False)


@dataclass
class Memory:
    """Bytes that a runtime needs for each pixel of the image.

    XNNPACK holds, for each convolution and all at a time, a pointer to every input of every output pixel
    (src/indirection.c); of the values, about those around the largest operator are there at a time.
    """

    pointers: int = 0
    values: int = 0

    def convolution(self, shape: tuple[int, ...], factor: Fraction) -> None:
        """Adds one of ``shape`` (out, in, kernel, kernel), on a value ``factor`` times the image's size."""
        outputs, inputs, *kernel = shape
        area = math.ceil(factor**2)
        self.pointers += 8 * math.prod(kernel) * area
        self.values = max(self.values, 4 * (outputs + inputs) * area)

    @property
    def total(self) -> int:
        return max(1, self.pointers + self.values)


@dataclass(frozen=True)
class Reach:
    """What a value depends on, along one axis."""

    factor: Fraction = Fraction(1)
    low: Fraction = Fraction(0)
    high: Fraction = Fraction(0)
    shift_invariant: bool = True

    def window(self, before: int, after: int) -> Reach:
        """Each position reads those from ``before`` in front of it to ``after`` behind it."""
        return replace(self, low=self.low - before / self.factor, high=self.high + after / self.factor)

    def convolution(self, kernel: int, dilation: int = 1, padding: int | None = None) -> Reach:
        """Stride 1; ``padding`` in front, None for one that keeps the size."""
        extent = (kernel - 1) * dilation
        before = extent // 2 if padding is None else padding
        return self.window(before, extent - before)

    def moved(self, by: int) -> Reach:
        """``by`` new positions in front."""
        return self.window(by, -by)

    def repeated(self, factor: int) -> Reach:
        """Depth-to-space and nearest-neighbour upsampling: ``factor`` positions for each."""
        larger = self.factor * factor
        return replace(self, factor=larger, low=self.low - Fraction(factor - 1) / larger)

    def resized(self, factor: int, neighbours: int) -> Reach:
        """Interpolation at half-pixel centres, ``neighbours`` positions on each side: 1 is bilinear."""
        centre = _HALF / factor - _HALF
        return Reach(
            self.factor * factor,
            self.low + (centre - neighbours) / self.factor,
            self.high + (centre + neighbours) / self.factor,
            self.shift_invariant and factor & (factor - 1) == 0,
        )

    def field(self, memory: Memory) -> Field:
        """The radius around a pixel that all of its enlarged positions stay in."""
        if self.factor.denominator != 1:
            raise NotTileableError("the network makes images smaller")
        last = (self.factor - 1) / self.factor
        radius = max(-math.ceil(self.low), math.floor(self.high + last), 0)
        return Field(radius, self.shift_invariant, memory.total)


def union(reaches: Sequence[Reach]) -> Reach:
    """Reach of an operator that reads several values at the same place."""
    if len({each.factor for each in reaches}) != 1:
        raise NotTileableError("values of different sizes meet")
    return Reach(
        reaches[0].factor,
        min(each.low for each in reaches),
        max(each.high for each in reaches),
        all(each.shift_invariant for each in reaches),
    )


def larger(first: Field, second: Field) -> Field:
    """One field for both axes."""
    invariant = first.shift_invariant and second.shift_invariant
    return Field(max(first.radius, second.radius), invariant, first.pixel_bytes)
