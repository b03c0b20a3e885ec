"""Colour images for networks that work on luma: Y goes through the network, Cb and Cr are resized.

Y, Cb and Cr are those of ITU-R BT.601 with 8-bit headroom (Y in 16..235 of 255), as in BasicSR's
``bgr2ycbcr`` and MATLAB's ``rgb2ycbcr``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

_FROM_RGB = torch.tensor(
    [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]], dtype=torch.float64
)
_HEADROOM = torch.tensor([16.0, 128.0, 128.0], dtype=torch.float64)


def rgb_to_ycbcr(rgb: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) RGB in [0, 1] -> Y, Cb, Cr in [0, 1]."""
    return _transform(rgb, _FROM_RGB, _HEADROOM)


def ycbcr_to_rgb(ycbcr: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) Y, Cb, Cr in [0, 1] -> RGB, clipped to [0, 1]."""
    to_rgb = torch.linalg.inv(_FROM_RGB) * 255**2
    offset = -(to_rgb @ _HEADROOM) / 255
    return _transform(ycbcr, to_rgb, offset).clamp(0, 1)


def upscale_colour(
    network: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, channels: int
) -> torch.Tensor:
    """Runs a network that takes ``channels`` on an image that may have other ones.

    Args:
        network: From (N, channels, H, W) to (N, channels, H * s, W * s), values in [0, 1].
        image: (N, C, H, W) in [0, 1]; RGB if C is 3, Y if it is 1.
        channels: 1 or 3.

    Returns:
        (N, C, H * s, W * s) in [0, 1]. A colour image in a luma network: Y by the network, Cb and Cr
        by bicubic interpolation. A grey image in a colour network: as three equal channels.
    """
    if channels == image.shape[1]:
        return network(image)
    if channels == 3:
        return network(image.expand(-1, 3, -1, -1)).mean(dim=1, keepdim=True)
    ycbcr = rgb_to_ycbcr(image)
    luma = network(ycbcr[:, :1])
    chroma = F.interpolate(ycbcr[:, 1:], size=luma.shape[2:], mode="bicubic", align_corners=False)
    return ycbcr_to_rgb(torch.cat([luma, chroma], dim=1))


def _transform(image: torch.Tensor, matrix: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    weights = (matrix / 255).to(image)
    mixed = torch.einsum("oc,nchw->nohw", weights, image)
    return mixed + (offset / 255).to(image).reshape(1, 3, 1, 1)
