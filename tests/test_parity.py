"""A comparison that has nothing to compare, or compares what is not alike, never passes."""

from __future__ import annotations

import numpy as np
import pytest

from mobilesr_plugin.errors import VerificationError
from mobilesr_plugin.verify.parity import compare


def grey(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., :1]


def flat(pixels: np.ndarray) -> np.ndarray:
    return np.full_like(pixels, 7)


def test_nothing_is_not_equal() -> None:
    with pytest.raises(VerificationError, match="no image to compare"):
        compare(flat, flat, [])


@pytest.mark.parametrize("other", [lambda pixels: grey(flat(pixels)), lambda pixels: flat(pixels)[:, :1]])
def test_results_of_another_shape_are_not_stretched(other: object) -> None:
    """Broadcasting would repeat the one channel, or the one row, and find no difference."""
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(VerificationError, match=r"4x5x3 becomes one of .*; the reference makes 4x5x3"):
        compare(flat, other, [image])
    assert compare(flat, flat, [image]).pixels == 60
