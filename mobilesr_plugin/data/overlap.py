"""What a data set of overlapping tiles costs against the whole images that they were cut from."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mobilesr_plugin.data.record import RECORD_NAME

_TILE_NAME = re.compile(r"(?P<image>.+)_s\d{3,}")  # as TileGrid and BasicSR's extract_subimages name them
_WORTH_SAYING = 1.2


def overlap_note(names: Iterable[str], tile_pixels: int, root: Path) -> str:
    """Returns one line on the cost of overlapping tiles; an empty text if the images are no such tiles.

    The names tell the tiles of an image apart and the record of ``data prepare`` has the step of their grid.
    Without a record it is taken to be half a tile, which is what BasicSR's scripts use for DIV2K.

    Args:
        names: of the HR images, without suffix.
        tile_pixels: number of pixels of an HR tile, which is taken to be square.
        root: LMDB or folder of the HR images.
    """
    tiles: Counter[str] = Counter()
    for name in names:
        match = _TILE_NAME.fullmatch(name)
        if match is None:
            return ""
        tiles[match["image"]] += 1
    side = math.isqrt(tile_pixels)
    step = _step(root) or side // 2
    if step >= side:
        return ""
    whole = sum(_pixels(count, side, step) for count in tiles.values())
    count = tiles.total()
    ratio = count * side**2 / whole if whole else 0.0
    if ratio < _WORTH_SAYING:
        return ""
    return (
        f"These are overlapping tiles: {count:,} of {len(tiles):,} images, about {ratio:.1f} times the "
        "pixels of the whole images; `mobilesr data prepare` without --crop-size writes whole images."
    )


def _pixels(count: int, side: int, step: int) -> float:
    """Estimates the pixels of an image that gave ``count`` tiles, in a grid as close to square as can be."""
    rows = next(number for number in range(math.isqrt(count), 0, -1) if count % number == 0)
    return _length(rows, side, step) * _length(count // rows, side, step)


def _length(count: int, side: int, step: int) -> float:
    # The last tile lies flush with the edge, anywhere within a step of the one before: half of it on average.
    return side + (count - 1.5) * step if count > 1 else side


def _step(root: Path) -> int | None:
    try:
        return int(json.loads((root / RECORD_NAME).read_text(encoding="utf-8"))["settings"]["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # made by other scripts
