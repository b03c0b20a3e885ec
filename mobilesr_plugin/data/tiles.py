"""Cut large pictures into overlapping tiles, on BasicSR's grid, or leave them whole.

The grid is that of BasicSR's ``extract_subimages`` (crop 480, step 240, thresh 0 for DIV2K): tiles at every
``step`` pixels, and one more flush with the far edge where the last would stop short of it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one picture, in HR pixels.

    Attributes:
        height: picture height, a multiple of every scale in use.
        width: picture width, likewise.
        crop: side of a tile; a side of the picture that is shorter is taken whole. None: the picture is the
            only tile, under its own name.
        step: distance of neighbouring tiles; not used for whole pictures.
    """

    height: int
    width: int
    crop: int | None = None
    step: int = 1

    @property
    def tile_height(self) -> int:
        return self.height if self.crop is None else min(self.crop, self.height)

    @property
    def tile_width(self) -> int:
        return self.width if self.crop is None else min(self.crop, self.width)

    def origins(self) -> list[tuple[int, int]]:
        """Top-left corners (y, x), row by row."""
        return [
            (y, x)
            for y in _starts(self.height, self.tile_height, self.step)
            for x in _starts(self.width, self.tile_width, self.step)
        ]

    def names(self, stem: str) -> list[str]:
        """Names in the order of ``origins``: ``0001_s001``, ``0001_s002``, ...; whole: ``0001``."""
        if self.crop is None:
            return [stem]
        return [f"{stem}_s{index:03d}" for index in range(1, len(self.origins()) + 1)]


def _starts(length: int, tile: int, step: int) -> list[int]:
    starts = list(range(0, length - tile + 1, step))
    if starts[-1] + tile < length:
        starts.append(length - tile)
    return starts
