"""Frames of a video as images for a network, and results as frames: YUV, RGB, range and matrix.

A network of luma works on Y as it is, and Cb and Cr are enlarged bicubically. A network of colour gets RGB,
converted by the video's own matrix and range, and its result goes back by the same. What the network sees is
converted by FFmpeg with exact rounding. What it gives has many times the pixels and is encoded with loss:
OpenCV converts it in a third of the time, and some values are off by 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mobilesr_plugin.upscaling.video_source import Colour, VideoInfo, import_av

_FULL = 2
_STRIP = 64  # rows that are converted at once, so that a cache holds them; an even number
_PLANAR = ("yuv420p", "yuvj420p")
# H.273's matrix -> swscale's name for it; 5 and 6 are both BT.601, 10 counts as 9
_SWSCALE = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
# swscale's name -> share of red and blue in Y
_SHARES = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}


@dataclass(frozen=True)
class FrameImage:
    """A frame on its way through the network.

    Attributes:
        pixels: (H, W, 3) RGB or (H, W, 1) Y, uint8.
        chroma: Cb and Cr beside Y, each (H / 2, W / 2) uint8, rounded up; empty beside RGB.
    """

    pixels: np.ndarray
    chroma: tuple[np.ndarray, ...]


class FrameReader:
    """Frames of one video as images; of use to one thread."""

    def __init__(self, info: VideoInfo, channels: int) -> None:
        av = import_av()
        self.info, self.channels = info, channels
        self._reformat = av.video.reformatter.VideoReformatter().reformat

    def image(self, frame: Any) -> FrameImage:
        """Returns a frame upright, as the network takes it."""
        colour, turns = self.info.colour, self.info.turns
        if self.channels == 3:
            # The same values as those of rgb24, for which FFmpeg has slower code.
            green, blue, red = map(plane, self._converted(frame, "gbrp", _FULL).planes)
            pixels = cv2.merge([red, green, blue])
            return FrameImage(np.ascontiguousarray(np.rot90(pixels, turns)), ())
        if frame.format.name not in _PLANAR:
            frame = self._converted(frame, "yuv420p", colour.range)
        luma, *chroma = (np.ascontiguousarray(np.rot90(plane(each), turns)) for each in frame.planes)
        return FrameImage(luma[:, :, None], tuple(chroma))

    def _converted(self, frame: Any, form: str, limits: int) -> Any:
        colour = self.info.colour
        source = _FULL if frame.format.is_rgb else colour.range
        return self._reformat(frame, format=form, **_conversion(colour, source, limits))


class FrameWriter:
    """Results as frames of one video; of use to one thread. Sides are made even by repeating the last row."""

    def __init__(self, info: VideoInfo, scale: int) -> None:
        av = import_av()
        self.info, self.scale = info, scale
        self.width, self.height = (side * scale + side * scale % 2 for side in (info.width, info.height))
        self._frame = av.VideoFrame
        self._from_rgb = _from_rgb(info.colour)

    def frame(self, image: FrameImage, stamp: int) -> Any:
        """Returns an enlarged image as a yuv420p frame at time ``stamp``; its ``chroma`` is still small."""
        pixels = image.pixels
        height, width = pixels.shape[:2]
        if (height, width) != (self.height, self.width):
            missing = ((0, self.height - height), (0, self.width - width), (0, 0))
            pixels = np.pad(pixels, missing, mode="edge")
        made = self._frame(self.width, self.height, "yuv420p")
        planes = [plane(each) for each in made.planes]
        if image.chroma:
            planes[0][:] = pixels[:, :, 0]
            for target, chroma in zip(planes[1:], image.chroma, strict=True):
                target[:] = self._enlarged(chroma)
        else:
            self._convert(pixels, planes)
        made.pts, made.time_base = stamp, self.info.time_base
        return made

    def _convert(self, rgb: np.ndarray, planes: Sequence[np.ndarray]) -> None:
        """Writes Y, Cb and Cr; of the last two the mean of each square of four."""
        for top in range(0, self.height, _STRIP):
            luma, *chroma = cv2.split(cv2.transform(rgb[top : top + _STRIP], self._from_rgb))
            rows = len(luma)
            planes[0][top : top + rows] = luma
            for target, values in zip(planes[1:], chroma, strict=True):
                half = cv2.resize(values, (self.width // 2, rows // 2), interpolation=cv2.INTER_AREA)
                target[top // 2 : (top + rows) // 2] = half

    def _enlarged(self, chroma: np.ndarray) -> np.ndarray:
        """Bicubic. Cb and Cr lie on every second pixel of a row, and between two rows (H.264's default)."""
        step = 1 / self.scale
        inverse = np.array([[step, 0, (step - 1) / 4], [0, step, (step - 1) / 2]])
        size = (self.width // 2, self.height // 2)
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(chroma, inverse, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def plane(held: Any) -> np.ndarray:
    """(H, W) uint8: a view of a frame's plane."""
    rows = np.frombuffer(held, np.uint8).reshape(-1, held.line_size)
    return rows[: held.height, : held.width]


def _from_rgb(colour: Colour) -> np.ndarray:
    """Matrix from RGB and 1 to Y, Cb and Cr, all in 0..255, (3, 4) float64; H.273, equations 38 to 46."""
    red, blue = _SHARES[_SWSCALE[colour.matrix]]
    luma = np.array([red, 1 - red - blue, blue])
    rows = [luma, (np.eye(3)[2] - luma) / (2 - 2 * blue), (np.eye(3)[0] - luma) / (2 - 2 * red)]
    scale = np.ones(3) if colour.full_range else np.array([219, 224, 224]) / 255
    offset = (0 if colour.full_range else 16, 128, 128)
    return np.column_stack([np.array(rows) * scale[:, None], offset])


def _conversion(colour: Colour, source: int, target: int) -> dict[str, Any]:
    flags = import_av().video.reformatter.Interpolation
    matrix = _SWSCALE[colour.matrix]
    exact = flags.BICUBIC | flags.ACCURATE_RND | flags.FULL_CHR_H_INT | flags.FULL_CHR_H_INP
    return {
        "src_colorspace": matrix,
        "dst_colorspace": matrix,
        "src_color_range": source,
        "dst_color_range": target,
        "interpolation": int(exact),
        "threads": 1,  # other cores have the network and the encoder
    }
