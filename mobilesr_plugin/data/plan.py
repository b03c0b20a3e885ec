"""What a preparation starts from: the pictures of a folder that can be used, and why others cannot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mobilesr_plugin.data.images import UnreadableImageError, list_images
from mobilesr_plugin.data.record import SourceImage, scan_sources
from mobilesr_plugin.errors import DataError, OptionError

# (pictures finished, pictures in all)
Progress = Callable[[int, int], None]

# HR is cropped to multiples of this, so that scales 2, 3, 4, 6 and 12 share one HR set (BasicSR's GTmod12).
SHARED_MODULUS = 12


@dataclass(frozen=True)
class Output:
    """One data set on disk.

    Attributes:
        path: LMDB or folder.
        images: number of images in it.
        made: whether this run wrote to it; otherwise it was complete before.
    """

    path: Path
    images: int
    made: bool


@dataclass(frozen=True)
class Prepared:
    """Outcome of a preparation.

    Attributes:
        outputs: HR first, then LR by scale.
        skipped: pictures that could not be used.
        too_small: pictures left out because a side is too short.
    """

    outputs: list[Output]
    skipped: list[UnreadableImageError] = field(default_factory=list)
    too_small: list[Path] = field(default_factory=list)


def common_modulus(scales: Iterable[int]) -> int:
    """Smallest multiple of 12 that every scale divides."""
    return math.lcm(SHARED_MODULUS, *scales)


def check_scales(scales: Sequence[int]) -> list[int]:
    """Return the scales sorted, each once.

    Raises:
        OptionError: none is given, or one is below 2.
    """
    if not scales or min(scales) < 2:
        raise OptionError(f"--scale must be a whole number of 2 or more, got {list(scales)}")
    return sorted(set(scales))


def plan(
    folder: Path, *, modulus: int, min_side: int, skip_corrupt: bool
) -> tuple[list[SourceImage], list[UnreadableImageError], list[Path]]:
    """Look at every picture of a folder without decoding it.

    Args:
        folder: HR pictures.
        modulus: sides are cropped to multiples of it.
        min_side: pictures with a shorter side, after cropping, are left out.
        skip_corrupt: go on without unreadable pictures.

    Returns:
        Usable pictures, unreadable ones, and those that are too small.

    Raises:
        DataError: no usable picture, two with one name, or an unreadable one without ``skip_corrupt``.
    """
    found, unreadable = scan_sources(list_images(folder))
    if unreadable and not skip_corrupt:
        raise corrupt(unreadable[0], others=len(unreadable) - 1)
    usable: list[SourceImage] = []
    too_small: list[SourceImage] = []
    for image in found:
        shorter = min(image.height, image.width)
        (usable if shorter - shorter % modulus >= min_side else too_small).append(image)
    if not usable:
        raise DataError(
            f"{folder} holds no usable picture: {len(unreadable)} unreadable, "
            f"{len(too_small)} with a side under {min_side} pixels"
        )
    return usable, unreadable, [image.path for image in too_small]


def corrupt(error: UnreadableImageError, others: int = 0) -> DataError:
    """The error to raise for an unreadable picture when none may be skipped."""
    more = f" (and {others} more)" if others > 0 else ""
    return DataError(f"{error}{more}; repair or remove it, or leave such pictures out with --skip-corrupt")
