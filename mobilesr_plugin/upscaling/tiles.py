"""Large images through a network piece by piece, with the very pixels of the whole image.

Tiles are windows of one size. Neighbours overlap by twice the receptive field's radius, and of each only
the part is kept that the zeros at its inner borders cannot reach. The padding at the image's own border
must be as in the whole image, so the outer tiles touch it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mobilesr_plugin.errors import DataError, OptionError


@dataclass(frozen=True)
class Window:
    """One tile along one axis: it reads ``start`` to ``stop``, and ``first`` to ``last`` of it is kept."""

    start: int
    stop: int
    first: int
    last: int


def windows(length: int, size: int, radius: int) -> list[Window]:
    """Covers ``length`` positions with windows of ``size``, each position kept once.

    Args:
        length: At least 1.
        size: At most ``length``; more than ``2 * radius`` unless it is ``length``.
        radius: What is lost at each inner border.
    """
    starts = [*range(0, length - size, size - 2 * radius), length - size] if size < length else [0]
    found, first = [], 0
    for start in starts:
        last = length if start + size == length else start + size - radius
        found.append(Window(start, start + size, first, last))
        first = last
    return found


def even_size(length: int, largest: int, radius: int) -> int:
    """The size of the fewest windows of at most ``largest`` that cover ``length``, made as even as can be."""
    if length <= largest:
        return length
    kept = largest - 2 * radius
    count = -(-(length - 2 * radius) // kept)
    return -(-(length - 2 * radius) // count) + 2 * radius


@dataclass(frozen=True)
class Tiling:
    """How images are cut.

    Attributes:
        radius: Overlap on each side; None: not known, so images stay whole.
        largest: Longest side of a tile; None: images stay whole.
        whole: Images of at most so many pixels stay whole.
        fixed: (height, width) that every tile must have; None: any.
        name: The network's file, for messages.
    """

    radius: int | None
    largest: int | None
    whole: int
    fixed: tuple[int, int] | None
    name: str

    def sizes(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Returns height and width of the tiles of an image of ``shape``.

        Raises:
            DataError: the image is smaller than the only size that the file takes.
            OptionError: tiles no larger than their overlap.
        """
        if self.fixed is not None:
            if self.fixed == shape:
                return shape
            return self._checked(self.fixed, shape)
        if self.largest is None or self.radius is None or shape[0] * shape[1] <= self.whole:
            return shape
        if max(shape) > self.largest <= 2 * self.radius:
            raise OptionError(
                f"tiles of {self.largest} pixels are no larger than their overlap, {self.radius} on each "
                f"side ({self.name}); give --tile at least {4 * self.radius}"
            )
        height, width = (even_size(side, self.largest, self.radius) for side in shape)
        return height, width

    def _checked(self, fixed: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
        """Tiles of a file for one size need images at least as large, and a known overlap."""
        wanted, got = ("x".join(map(str, each)) for each in (fixed, shape))
        if min(have - need for have, need in zip(shape, fixed, strict=True)) < 0:
            raise DataError(
                f"{self.name} takes images of {wanted}, and larger ones in tiles, but the image is {got}; "
                "use the file for any size, which mobilesr-export writes without a size in its name"
            )
        if self.radius is None:
            raise DataError(
                f"{self.name} takes images of {wanted} only, the image is {got}, and the overlap of tiles "
                "cannot be told from its operators; give it with --overlap, or use a file for any size"
            )
        if any(need <= 2 * self.radius and need < have for need, have in zip(fixed, shape, strict=True)):
            raise DataError(
                f"{self.name} takes images of {wanted}, which is no larger than the overlap of tiles, "
                f"{self.radius} on each side; use the file for any size"
            )
        return fixed

    def run(self, image: np.ndarray, network: Callable[[np.ndarray], np.ndarray], scale: int) -> np.ndarray:
        """Runs ``network`` on every tile of ``image``.

        Args:
            image: (H, W, C).
            network: From (h, w, C) to (h * scale, w * scale, C'), of any type.
            scale: Upscaling factor.

        Returns:
            (H * scale, W * scale, C').
        """
        height, width = image.shape[:2]
        size = self.sizes((height, width))
        if size == (height, width):
            return network(image)
        whole = None
        for row in windows(height, size[0], self.radius or 0):
            for column in windows(width, size[1], self.radius or 0):
                tile = np.ascontiguousarray(image[row.start : row.stop, column.start : column.stop])
                made = network(tile)
                if whole is None:
                    whole = np.empty((height * scale, width * scale, made.shape[2]), made.dtype)
                whole[row.first * scale : row.last * scale, column.first * scale : column.last * scale] = (
                    made[
                        (row.first - row.start) * scale : (row.last - row.start) * scale,
                        (column.first - column.start) * scale : (column.last - column.start) * scale,
                    ]
                )
        assert whole is not None
        return whole
