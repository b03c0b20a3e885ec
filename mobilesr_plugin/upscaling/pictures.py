"""A picture through a network: colour, grey, alpha and 16 bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mobilesr_plugin.colour import rgb_to_ycbcr, upscale_colour
from mobilesr_plugin.networks_from_files import Network
from mobilesr_plugin.upscaling.picture_files import Picture
from mobilesr_plugin.upscaling.upscaler import DEEP, Upscaler

# Colour beside luma is computed for so many pixels of the result at a time. The bands follow from the
# picture alone, not from the tiles, so tiles change nothing.
_BAND_PIXELS = 8_000_000
_BAND_BORDER = 4  # rows; the bicubic filter reads two on each side


def upscale_picture(picture: Picture, upscaler: Upscaler) -> Picture:
    """Returns the picture enlarged by the network; grey stays grey, and alpha is enlarged bicubically.

    16 bits are kept where the network takes real numbers, else rounded to 8.
    """
    notes = list(picture.notes)
    pixels, alpha = picture.pixels, picture.alpha
    if pixels.dtype == np.uint16 and not upscaler.takes_real:
        notes.append("16 bits were rounded to 8, which is what the network takes")
        pixels = _eight_bits(pixels)
        alpha = None if alpha is None else _eight_bits(alpha)
    note = upscaler.note((pixels.shape[0], pixels.shape[1]))
    notes += [note] if note else []
    deep = pixels.dtype == np.uint16
    run = upscaler.deep if deep else upscaler.pixels
    if pixels.ndim == 2:
        made = run(pixels[:, :, None])[:, :, 0]
    elif upscaler.channels == 3:
        made = run(pixels)
    else:
        made = _on_luma(pixels, upscaler, deep)
    if alpha is not None:
        alpha = _bicubic(alpha, upscaler.scale)
    return replace(picture, pixels=np.ascontiguousarray(made), alpha=alpha, notes=tuple(notes))


def _eight_bits(array: np.ndarray) -> np.ndarray:
    return np.rint(array / np.float32(257)).astype(np.uint8)


def _on_luma(pixels: np.ndarray, upscaler: Upscaler, deep: bool) -> np.ndarray:
    """Colour through a luma network: Y in tiles, then Cb, Cr and RGB in bands of rows."""
    height, width = pixels.shape[:2]
    scale, white = upscaler.scale, DEEP if deep else 255
    rows = max(_BAND_PIXELS // (width * scale**2), 1)
    luma = np.empty((height, width, 1), np.float32)
    for top in range(0, height, rows):
        luma[top : top + rows] = rgb_to_ycbcr(_tensor(pixels[top : top + rows], white))[0, 0, :, :, None]
    large = upscaler.luma(luma, deep=deep)[:, :, 0]
    made = np.empty((height * scale, width * scale, 3), pixels.dtype)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(top - _BAND_BORDER, 0), min(bottom + _BAND_BORDER, height)
        rgb = _tensor(pixels[first:last], white)
        band = upscale_colour(_constant(large[first * scale : last * scale]), rgb, channels=1)
        kept = band[0, :, (top - first) * scale : (bottom - first) * scale].permute(1, 2, 0).numpy()
        made[top * scale : bottom * scale] = np.rint(kept * np.float32(white))
    return made


def _constant(luma: np.ndarray) -> Network:
    """A network that has already run: its result, (h, W), float32 in [0, 1] or uint8."""
    known = torch.from_numpy(luma)[None, None]
    return lambda _: known.float() / 255 if luma.dtype == np.uint8 else known


def _tensor(rows: np.ndarray, white: int) -> torch.Tensor:
    """(h, W, 3) -> (1, 3, h, W) float32 in [0, 1]."""
    real = rows.astype(np.float32).transpose(2, 0, 1)[None]
    return torch.from_numpy(np.ascontiguousarray(real)) / white


def _bicubic(plane: np.ndarray, scale: int) -> np.ndarray:
    import cv2

    height, width = plane.shape
    return np.asarray(
        cv2.resize(plane, (width * scale, height * scale), interpolation=cv2.INTER_CUBIC), plane.dtype
    )
