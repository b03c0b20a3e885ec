"""Frames of a video as images for a network, and results as frames: YUV, RGB, range and matrix.

A network of luma works on Y as it is, and Cb and Cr are enlarged bicubically. A network of colour gets RGB,
converted by the video's own matrix and range, and its result goes back by the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mobilesr_plugin.upscaling.video_source import Colour, VideoInfo, import_av

_FULL = 2
_PLANAR = ("yuv420p", "yuvj420p")
# H.273's matrix -> swscale's name for it; 5 and 6 are both BT.601, 10 counts as 9
_SWSCALE = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}


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
            pixels = self._converted(frame, "rgb24", _FULL).to_ndarray()
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
        self._reformat = av.video.reformatter.VideoReformatter().reformat
        self._frame = av.VideoFrame

    def frame(self, image: FrameImage, stamp: int) -> Any:
        """Returns an enlarged image as a yuv420p frame at time ``stamp``; its ``chroma`` is still small."""
        pixels = image.pixels
        height, width = pixels.shape[:2]
        if (height, width) != (self.height, self.width):
            missing = ((0, self.height - height), (0, self.width - width), (0, 0))
            pixels = np.pad(pixels, missing, mode="edge")
        if not image.chroma:
            colour = self.info.colour
            large = self._frame.from_numpy_buffer(np.ascontiguousarray(pixels), format="rgb24")
            made = self._reformat(large, format="yuv420p", **_conversion(colour, _FULL, colour.range))
        else:
            made = self._frame(self.width, self.height, "yuv420p")
            planes = [pixels[:, :, 0], *(self._enlarged(each) for each in image.chroma)]
            for target, source in zip(made.planes, planes, strict=True):
                plane(target)[:] = source
        made.pts, made.time_base = stamp, self.info.time_base
        return made

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
