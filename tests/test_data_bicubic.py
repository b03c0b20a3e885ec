"""Bicubic scaling has BasicSR's numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_fixtures import picture, read_png

from mobilesr_plugin.data.bicubic import downscale, upscale
from mobilesr_plugin.errors import DataError


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("grey", [False, True])
def test_equals_basicsr(scale: int, grey: bool) -> None:
    from basicsr.utils.matlab_functions import imresize

    image = picture(12 * 11 + 1, 12 * 9 + 2, seed=scale)
    image = image[:, :, 0] if grey else image
    height, width = (side // scale * scale for side in image.shape[:2])
    cropped = image[:height, :width].astype(np.float32) / 255
    expected = (imresize(cropped, 1 / scale) * 255).clip(0, 255).round().astype(np.uint8)
    small = downscale(image, scale)
    assert small.dtype == np.uint8
    np.testing.assert_array_equal(small, expected)

    expected = (imresize(small.astype(np.float32) / 255, scale) * 255).clip(0, 255).round().astype(np.uint8)
    np.testing.assert_array_equal(upscale(small, scale), expected)


def test_flat_areas_stay_flat() -> None:
    for value in (0, 1, 127, 255):
        image = np.full((24, 36, 3), value, np.uint8)
        assert (downscale(image, 3) == value).all()
        assert (upscale(image, 3) == value).all()


def test_channel_order_does_not_matter() -> None:
    image = picture(60, 48)
    np.testing.assert_array_equal(downscale(image[:, :, ::-1], 4)[:, :, ::-1], downscale(image, 4))


def test_every_size_gives_the_floor() -> None:
    for scale in (2, 3, 5, 7):
        for side in range(2 * scale, 6 * scale):
            assert downscale(np.zeros((side, 2 * scale), np.uint8), scale).shape == (side // scale, 2)


def test_too_small_is_a_stated_error() -> None:
    with pytest.raises(DataError, match="5x90 pixels is too small to shrink by 3"):
        downscale(np.zeros((5, 90, 3), np.uint8), 3)
    with pytest.raises(DataError, match="too small to enlarge"):
        upscale(np.zeros((1, 9, 3), np.uint8), 3)


def test_basicsr_itself_is_not_imported() -> None:
    code = (
        "import sys, numpy; from mobilesr_plugin.data.bicubic import downscale;"
        "downscale(numpy.zeros((12, 12), 'uint8'), 3); sys.exit('basicsr' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bicubic_of_set5_has_the_published_psnr(shared_data: Path) -> None:
    """28.634 dB: x3, RGB, 1 pixel cropped, average of five pictures."""
    values = []
    for path in sorted((shared_data / "Set5" / "HR").glob("*.png")):
        image = read_png(path)
        image = image[: image.shape[0] // 3 * 3, : image.shape[1] // 3 * 3]
        difference = (upscale(downscale(image, 3), 3).astype(float) - image)[1:-1, 1:-1]
        values.append(10 * np.log10(255**2 / np.mean(difference**2)))
    assert len(values) == 5
    assert np.mean(values) == pytest.approx(28.634, abs=0.002)
