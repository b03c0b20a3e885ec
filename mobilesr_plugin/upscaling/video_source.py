"""Videos as they come: what is in the file, whether all of it is there, and its frames one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from mobilesr_plugin.errors import DataError, MissingExtraError

_MISSING_SECONDS = 0.5  # a file that ends so much before its stated end was cut short
_MICROSECONDS = 1_000_000
# ITU-T H.273: matrix coefficients and ranges
_UNSPECIFIED, _BT709, _SMPTE170M, _LIMITED, _FULL = 2, 1, 6, 1, 2
_MATRICES = frozenset((1, 4, 5, 6, 7, 9, 10))
_SD_WIDTH, _SD_HEIGHT = 1280, 576  # players take what is smaller and says nothing for BT.601


class UnreadableVideoError(DataError):
    """A video that cannot be used; the next input can."""


@dataclass(frozen=True)
class Colour:
    """Colour of a video, as ITU-T H.273 numbers it.

    ``matrix`` and ``range`` are never unspecified: a video that does not say is taken as players take it.
    """

    matrix: int
    range: int
    primaries: int
    transfer: int

    @property
    def full_range(self) -> bool:
        return self.range == _FULL


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is decoded.

    Attributes:
        packets: Packets of the video stream, usually one for each frame.
        width, height: Upright.
        turns: Quarter turns counter-clockwise that bring a frame upright.
        rate: Frames in a second, on average.
        time_base: Unit of timestamps, in seconds.
        aspect: Width of a pixel by its height; None if not told.
        colour: See ``Colour``.
        bits: Of a channel.
    """

    packets: int
    width: int
    height: int
    turns: int
    rate: Fraction
    time_base: Fraction
    aspect: Fraction | None
    colour: Colour
    bits: int


def import_av() -> Any:
    """Returns PyAV.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("av", "video") from error
    return av


def video_stream(container: Any) -> Any:
    """Returns the first video stream that is no cover picture; None if there is none."""
    av = import_av()
    cover = av.stream.Disposition.attached_pic
    return next((each for each in container.streams.video if not each.disposition & cover), None)


def scan(path: Path) -> VideoInfo:
    """Reads a video's packets, which takes little time, and decodes its first frame.

    Raises:
        UnreadableVideoError: missing, no video, damaged, or cut short.
    """
    av = import_av()
    try:
        with av.open(str(path)) as container:
            stream = video_stream(container)
            if stream is None:
                raise UnreadableVideoError(f"{path} holds no video stream")
            first = next(iter(container.decode(stream)), None)
            if first is None:
                raise UnreadableVideoError(f"{path} holds no frame; it is damaged or cut short")
            described = _described(stream, first)
        with av.open(str(path)) as container:
            packets, end = _count(container, video_stream(container).index)
            stated = container.duration
            start = container.start_time or 0
    except UnreadableVideoError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableVideoError(f"{path} cannot be read as a video: {reason}; get it again") from error
    lasts = end - start / _MICROSECONDS
    if stated and lasts < stated / _MICROSECONDS - _MISSING_SECONDS:
        raise UnreadableVideoError(
            f"{path} ends after {lasts:.1f} s of {stated / _MICROSECONDS:.1f} s: it is cut short, for "
            "example half downloaded; get it again"
        )
    return VideoInfo(packets=packets, **described)


def _count(container: Any, index: int) -> tuple[int, float]:
    """Packets of stream ``index``, and the time at which the last one of any stream ends, in seconds."""
    packets, end = 0, 0.0
    for packet in container.demux():
        if packet.size == 0:
            continue
        packets += packet.stream.index == index
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None:
            end = max(end, float((stamp + (packet.duration or 0)) * packet.time_base))
    return packets, end


def _described(stream: Any, frame: Any) -> dict[str, Any]:
    turns = round(frame.rotation / 90) % 4
    sides = (frame.width, frame.height)
    aspect = stream.sample_aspect_ratio or None
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    return {
        "width": sides[turns % 2],
        "height": sides[1 - turns % 2],
        "turns": turns,
        "rate": rate,
        "time_base": stream.time_base or 1 / rate,
        "aspect": 1 / aspect if aspect and turns % 2 else aspect,
        "colour": _colour(frame),
        "bits": max(component.bits for component in frame.format.components),
    }


def _colour(frame: Any) -> Colour:
    """Colour of the result, which is YUV also where the video is RGB."""
    small = frame.width < _SD_WIDTH and frame.height <= _SD_HEIGHT
    guessed = _SMPTE170M if small and not frame.format.is_rgb else _BT709
    matrix = frame.colorspace if frame.colorspace in _MATRICES else guessed
    full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
    limits = _FULL if full and not frame.format.is_rgb else _LIMITED
    return Colour(matrix, limits, frame.color_primaries, frame.color_trc)


def frames(path: Path, info: VideoInfo, skip: int = 0) -> Iterator[tuple[int, Any]]:
    """Yields timestamp, in ``info.time_base``, and frame; timestamps always grow.

    Args:
        path: The video.
        info: Of the same video.
        skip: Frames to leave out at the start. They are decoded all the same: seeking is not exact in
            every format, and decoding costs little beside the network.

    Raises:
        UnreadableVideoError: it is damaged.
    """
    av = import_av()
    last: int | None = None
    step = max(1, round(1 / (info.rate * info.time_base)))
    try:
        with av.open(str(path)) as container:
            stream = video_stream(container)
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                stamp = frame.pts
                if stamp is None or (last is not None and stamp <= last):
                    stamp = 0 if last is None else last + (step if frame.pts is None else 1)
                last = stamp
                if number >= skip:
                    yield stamp, frame
    except (av.FFmpegError, OSError) as error:
        at = float((last or 0) * info.time_base)
        reason = getattr(error, "strerror", None) or error
        raise UnreadableVideoError(f"{path} is damaged after {at:.1f} s: {reason}; get it again") from error
