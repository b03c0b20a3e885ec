"""Bicubic down- and upscaling with BasicSR's own numbers.

LR images of super-resolution benchmarks come from MATLAB's ``imresize``, an antialiased bicubic filter that
no common image library reproduces. BasicSR carries a port of it, and that port is what is called here. A
vectorised form (two matrix products) was measured and rejected: it is only 1.7 times faster, and at x2 it
rounds ties differently, about 15 of a million pixels.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobilesr_plugin.errors import DataError

ImageU8 = npt.NDArray[np.uint8]


@functools.cache
def _imresize() -> Callable[[npt.NDArray[np.float32], float], npt.NDArray[np.float32]]:
    # Loaded from its file: `import basicsr.utils` would first import every network and model of BasicSR,
    # which takes seconds, once more in each worker process.
    package = importlib.util.find_spec("basicsr")
    if package is None or not package.submodule_search_locations:
        raise DataError(
            "BasicSR is not installed, and its bicubic filter is needed: pip install basicsr==1.4.2"
        )
    source = Path(package.submodule_search_locations[0]) / "utils" / "matlab_functions.py"
    spec = importlib.util.spec_from_file_location("mobilesr_plugin.data._basicsr_matlab_functions", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError as error:
        raise DataError(f"this BasicSR has no {source.name}: pip install basicsr==1.4.2") from error
    return module.imresize


def mod_crop(image: ImageU8, modulus: int) -> ImageU8:
    """Cut rows at the bottom and columns at the right until both sides are multiples of ``modulus``.

    Args:
        image: (H, W, C) or (H, W).
        modulus: at least 1.

    Returns:
        A view of ``image``.
    """
    height, width = image.shape[:2]
    return image[: height - height % modulus, : width - width % modulus]


def downscale(image: ImageU8, scale: int) -> ImageU8:
    """Crop to a multiple of ``scale``, then shrink with antialiased bicubic, as MATLAB and BasicSR do.

    Args:
        image: (H, W, C) in any channel order, or (H, W); uint8, [0, 255]; sides at least ``2 * scale``.
        scale: whole factor, 2 or more.

    Returns:
        (H // scale, W // scale[, C]), uint8, [0, 255], rounded half to even.

    Raises:
        DataError: the image is too small for the filter.
    """
    if min(image.shape[:2]) < 2 * scale:
        raise DataError(
            f"an image of {image.shape[0]}x{image.shape[1]} pixels is too small to shrink by {scale}: "
            f"both sides must be at least {2 * scale}"
        )
    return _resize(mod_crop(image, scale), 1 / scale)


def upscale(image: ImageU8, scale: int) -> ImageU8:
    """Enlarge with bicubic, the baseline of every table.

    Args:
        image: (H, W, C) in any channel order, or (H, W); uint8, [0, 255].
        scale: whole factor, 2 or more.

    Returns:
        (H * scale, W * scale[, C]), uint8, [0, 255], rounded half to even.

    Raises:
        DataError: the image is smaller than 2x2.
    """
    if min(image.shape[:2]) < 2:
        raise DataError(f"an image of {image.shape[0]}x{image.shape[1]} pixels is too small to enlarge")
    return _resize(image, scale)


def _resize(image: ImageU8, factor: float) -> ImageU8:
    result = _imresize()(image.astype(np.float32) / 255.0, factor)
    return np.ascontiguousarray((result * 255.0).clip(0.0, 255.0).round().astype(np.uint8))
