"""A few small LR-like pictures, for checks that need real content but no data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mobilesr_plugin.data.bicubic import downscale
from mobilesr_plugin.data.photographs import photograph

if TYPE_CHECKING:
    from mobilesr_plugin.data.bicubic import ImageU8

_NOISE_SIZE = (160, 192)


def sample_images() -> dict[str, ImageU8]:
    """Return pictures between 160 and 320 pixels wide, the same on every call.

    Returns:
        name -> (H, W, 3), RGB, uint8, [0, 255]. ``chelsea_odd`` has odd sides; ``noise`` is uniform noise,
        which reaches values and saturations that photographs do not.

    Raises:
        DataError: scikit-image is not installed or lacks a file.
    """
    noise = np.random.default_rng(0).integers(0, 256, (*_NOISE_SIZE, 3), dtype=np.uint8)
    return {
        "astronaut": downscale(photograph("astronaut.png"), 2),
        "coffee": downscale(photograph("coffee.png"), 2),
        "motorcycle": downscale(photograph("motorcycle_left.png"), 3),
        "chelsea_odd": np.ascontiguousarray(photograph("chelsea.png")[60:237, 100:305]),
        "noise": noise,
    }
