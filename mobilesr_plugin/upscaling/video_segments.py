"""Finished parts of a video that is being made, so that an interrupted run can go on.

Beside the result lies a hidden folder with segments of SEGMENT_FRAMES frames, each encoded for itself, and
``job.json``, which says what they were made from. A segment is whole or not there. When all are there,
they become one file, without encoding anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.upscaling.video_source import VideoInfo, import_av
from mobilesr_plugin.upscaling.writing import write

SEGMENT_FRAMES = 120
_LARGE = (
    16_000_000  # pixels of a frame, of which few may be in memory: some 4 bytes each, times those under way
)
_CONTAINER = "nut"  # FFmpeg's own: any codec, and timestamps in any unit
#: Of libx264 and libx265, fastest first; slower ones make smaller files.
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_FASTEST = (None, PRESETS[0])
_MPEG4_LAMBDA = 118  # FF_QP2LAMBDA


class Segments:
    """The segments of one result.

    Args:
        target: The result.
        job: What it is made from and how, as plain data. Segments of another job are thrown away.
    """

    def __init__(self, target: Path, job: dict[str, Any]) -> None:
        self.folder = target.with_name(f".{target.name}.unfinished")
        self._list = self.folder / "job.json"
        self._job = job
        self._frames = self._kept()

    @property
    def frames(self) -> int:
        """Frames in all finished segments."""
        return sum(self._frames)

    @property
    def paths(self) -> list[Path]:
        return [self._path(number) for number in range(len(self._frames))]

    def add(self, fill: Callable[[BinaryIO], int]) -> None:
        """Writes one more segment; ``fill`` returns the number of its frames, 0 for none.

        Raises:
            CannotWriteError: the disk is full; the segments before stay.
        """
        path, counted = self._path(len(self._frames)), [0]

        def counting(file: BinaryIO) -> None:
            counted[0] = fill(file)

        write(path, counting)
        if not counted[0]:
            path.unlink()
            return
        listed = json.dumps({"job": self._job, "frames": [*self._frames, counted[0]]})
        write(self._list, lambda file: file.write(listed.encode()))
        self._frames.append(counted[0])

    def clear(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._frames = []

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.{_CONTAINER}"

    def _kept(self) -> list[int]:
        try:
            listed = json.loads(self._list.read_text(encoding="utf-8"))
            frames = [int(count) for count in listed["frames"]]
            if listed["job"] == self._job and all(self._path(n).is_file() for n in range(len(frames))):
                return frames
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing yet, or nothing of use
        shutil.rmtree(self.folder, ignore_errors=True)
        return []


def default_codec() -> str:
    """H.264 by libx264 where this PyAV has it, else MPEG-4."""
    return "libx264" if "libx264" in import_av().codecs_available else "mpeg4"


def encoder_options(codec: str, crf: int, preset: str | None) -> dict[str, str]:
    """Returns FFmpeg's options for a codec; without ``preset`` fast ones, so that the network sets the pace.

    Raises:
        OptionError: there is no such encoder, or it has no such preset.
    """
    av = import_av()
    try:
        known = av.codec.Codec(codec, "w").type == "video"
    except (av.FFmpegError, ValueError):
        known = False
    if not known:
        raise OptionError(f"codec is {codec!r}, which PyAV has no video encoder for; use libx264 or mpeg4")
    x26 = codec in ("libx264", "libx265")
    if preset is not None and (not x26 or preset not in PRESETS):
        allowed = f"it must be one of {', '.join(PRESETS)}" if x26 else f"{codec} has none here, leave it out"
        raise OptionError(f"preset is {preset!r}; {allowed}")
    match codec:
        case "libx264" if preset in _FASTEST:
            # One quantizer for all frames needs no look ahead, which takes a quarter of this preset's time
            # and gains nothing with it: at equal PSNR files are smaller without. 0 is without loss.
            return {"qp": str(max(crf - 2, min(crf, 1))), "preset": PRESETS[0]}
        case "libx264":
            return {"crf": str(crf), "preset": str(preset)}
        case "libx265":
            return {"crf": str(crf), "preset": preset or PRESETS[0], "x265-params": "log-level=error"}
        case "libsvtav1":
            return {"crf": str(crf), "preset": "10"}
        case "libvpx-vp9":
            return {"crf": str(crf), "b": "0", "deadline": "realtime", "cpu-used": "6"}
        case "mpeg4":  # has no CRF; its quantizer runs from 2 to 31
            quantizer = min(max(crf // 6, 2), 31)
            return {"flags": "+qscale", "global_quality": str(_MPEG4_LAMBDA * quantizer)}
    return {}


@dataclass(frozen=True)
class Encoder:
    """How a video is encoded.

    Attributes:
        codec, crf, preset: See ``encoder_options``.
        size: (width, height).
        info: Of the source, for rate, time base, colour and aspect.
    """

    codec: str
    crf: int
    preset: str | None
    size: tuple[int, int]
    info: VideoInfo

    @property
    def large(self) -> bool:
        """Whether frames are so large that only one is worked on at a time."""
        return self.size[0] * self.size[1] > _LARGE

    @property
    def fastest(self) -> bool:
        """Whether encoding takes so little that one thread is enough."""
        return self.codec == "libx264" and self.preset in _FASTEST

    def add_to(self, container: Any) -> Any:
        """Adds a stream of this kind to an output container, and returns it."""
        info, colour = self.info, self.info.colour
        stream = container.add_stream(
            self.codec, rate=info.rate, options=encoder_options(self.codec, self.crf, self.preset)
        )
        context = stream.codec_context
        context.width, context.height = self.size
        context.pix_fmt = "yuv420p"
        context.time_base = stream.time_base = info.time_base
        if self.large or self.fastest:
            # Each thread has frames of its own, and several take more of the processor, which the network
            # needs; one encodes 300 frames of 1920x1080 in a second.
            context.thread_count = 1
        context.max_b_frames = 0  # so that segments join without gaps in decoding order
        if info.aspect:
            context.sample_aspect_ratio = info.aspect
        context.colorspace, context.color_range = colour.matrix, colour.range
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        return stream

    def encode(self, frames: Iterable[Any], file: BinaryIO) -> int:
        """Encodes yuv420p frames with growing timestamps to a segment, and returns their number."""
        count = 0
        with import_av().open(file, "w", format=_CONTAINER) as container:
            stream = self.add_to(container)
            for frame in frames:
                container.mux(stream.encode(frame))
                count += 1
            if count:
                container.mux(stream.encode(None))
        return count


def packets(paths: Iterable[Path]) -> Iterator[Any]:
    """Yields the packets of all segments in order."""
    av = import_av()
    for path in paths:
        with av.open(str(path)) as container:
            for packet in container.demux(video=0):
                if packet.size:
                    packet.dts = packet.pts  # there are no B frames, and NUT may leave dts out
                    yield packet
