"""PSNR and SSIM of pictures under the two protocols, which are never mixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Protocol:
    """How two pictures are compared.

    Attributes:
        name: ``rgb_crop1`` or ``y_crop_scale``.
        luma: Compare Y of BT.601 (as BasicSR computes it, 16..235) instead of RGB.
    """

    name: str
    luma: bool

    def border(self, scale: int) -> int:
        """Pixels left out on each side."""
        return scale if self.luma else 1


PROTOCOLS = {
    "rgb_crop1": Protocol("rgb_crop1", luma=False),
    "y_crop_scale": Protocol("y_crop_scale", luma=True),
}
SSIM_WINDOW = 11  # side of SSIM's Gaussian window, in pixels

_LUMA = np.array([65.481, 128.553, 24.966]) / 255  # BT.601 weights of R, G, B


def psnr(first: np.ndarray, second: np.ndarray, protocol: Protocol, scale: int) -> float:
    """Returns ``10 log10(255^2 / MSE)`` in dB; infinite for equal pictures.

    Args:
        first, second: (H, W, 3) uint8, RGB.
        protocol: What is compared.
        scale: Upscaling factor, which some protocols crop by.
    """
    border = protocol.border(scale)
    inner = slice(border, -border)
    difference = first[inner, inner].astype(np.float64) - second[inner, inner]
    if protocol.luma:
        difference = difference @ _LUMA  # Y is linear in RGB: the difference of Y is Y of the difference
    error = float(np.mean(difference**2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def ssim(first: np.ndarray, second: np.ndarray, protocol: Protocol, scale: int) -> float:
    """Returns the structural similarity as BasicSR's ``calculate_ssim`` computes it, at most 1.

    Gaussian window of 11x11 with sigma 1.5, constants of Wang et al.
    (https://ece.uwaterloo.ca/~z70wang/research/ssim/); RGB is the mean over the channels.

    Args:
        first, second: (H, W, 3) uint8, RGB; SSIM_WINDOW or more on each side inside the border.
        protocol: What is compared.
        scale: Upscaling factor, which some protocols crop by.
    """
    from basicsr.metrics.psnr_ssim import calculate_ssim

    bgr = [picture[:, :, ::-1] for picture in (first, second)]
    return float(calculate_ssim(*bgr, crop_border=protocol.border(scale), test_y_channel=protocol.luma))
