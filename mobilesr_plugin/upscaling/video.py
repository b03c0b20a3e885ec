"""A video through a network: decoding, network and encoding at once, in bounded memory."""

from __future__ import annotations

import functools
import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from mobilesr_plugin.upscaling.upscaler import Upscaler
from mobilesr_plugin.upscaling.video_frames import FrameImage, FrameReader, FrameWriter
from mobilesr_plugin.upscaling.video_mux import join
from mobilesr_plugin.upscaling.video_segments import (
    SEGMENT_FRAMES,
    Encoder,
    Segments,
    default_codec,
    encoder_options,
)
from mobilesr_plugin.upscaling.video_source import UnreadableVideoError, VideoInfo, frames, scan

_AHEAD = 4  # frames between two threads
_AT_ONCE = 2  # frames in the network
_LOOK = 0.1  # seconds after which a waiting thread looks whether another one has failed

T = TypeVar("T")
Stamped = tuple[int, FrameImage]


@dataclass(frozen=True)
class Made:
    """A finished video: (width, height), number of frames, and what could not be kept."""

    size: tuple[int, int]
    frames: int
    notes: tuple[str, ...]


def upscale_video(
    source: Path,
    target: Path,
    upscaler: Upscaler,
    *,
    codec: str | None = None,
    crf: int = 23,
    preset: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Made:
    """Upscales a video, and goes on where an earlier run of the same job was stopped.

    Frame times, sound, subtitles, chapters and tags are kept; so are colour matrix and range.

    Args:
        source: A video of any kind that FFmpeg reads.
        target: A file of ``inputs.CONTAINERS``.
        upscaler: The network.
        codec: Encoder; None: libx264, or mpeg4 where that is missing.
        crf: Its quality, smaller is better.
        preset: Of libx264 and libx265; None: the fastest. Slower ones make smaller files.
        progress: Called with the number of frames done and of all.

    Raises:
        UnreadableVideoError: the source is damaged, cut short or no video.
        CannotWriteError: the disk is full; finished segments stay.
        OptionError, MissingExtraError: no such encoder or preset; PyAV is not installed.
    """
    codec = codec or default_codec()
    encoder_options(codec, crf, preset)  # an unknown one is told before the work
    info = scan(source)
    shape = (info.height, info.width)
    upscaler.tiling.sizes(shape)  # a size that it cannot take is told, too
    segments = Segments(target, _job(source, upscaler, shape, [codec, crf, preset]))
    writer = FrameWriter(info, upscaler.scale)
    size = (writer.width, writer.height)
    encoder = Encoder(codec, crf, preset, size, info)
    done = _Pipeline(source, upscaler, segments, writer, encoder, progress).run()
    if not done:
        raise UnreadableVideoError(f"{source} holds no frame; it is damaged or cut short")
    notes = join(segments.paths, encoder, source, target)
    segments.clear()
    return Made(size, done, (*_notes(info, upscaler, size), *notes))


def _job(source: Path, upscaler: Upscaler, shape: tuple[int, int], encoder: list[Any]) -> dict[str, Any]:
    """What makes a segment: all that would change its content."""
    state = source.stat()
    file = upscaler.file
    return {
        "source": [str(source.resolve()), state.st_size, state.st_mtime_ns],
        "network": [file.sha256, file.part, file.kernels, *upscaler.tiling.sizes(shape)],
        "encoder": [*encoder, SEGMENT_FRAMES],
    }


def _notes(info: VideoInfo, upscaler: Upscaler, size: tuple[int, int]) -> Iterator[str]:
    note = upscaler.note((info.height, info.width))
    if note:
        yield note
    if info.bits > 8:
        yield f"{info.bits} bits became 8"
    if size != (info.width * upscaler.scale, info.height * upscaler.scale):
        yield "sides were made even, as yuv420p needs, by repeating the last row or column"


class _Stopped(Exception):
    """Another thread has failed, or the user has interrupted."""


class _Channel(Generic[T]):
    """A bounded queue that can be closed by its writer and abandoned by anybody.

    Without room its writer waits until the reader has taken what it put.
    """

    def __init__(self, stop: threading.Event, room: int) -> None:
        self._queue: queue.Queue[T | None] = queue.Queue(room or 1)
        self._room = room
        self._stop = stop

    def put(self, item: T | None) -> None:
        """Waits for room. None closes the channel."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_LOOK)
                break
            except queue.Full:
                continue
        while not self._room and not self._queue.empty() and not self._stop.is_set():
            time.sleep(_LOOK)
        if self._stop.is_set():
            raise _Stopped

    def __iter__(self) -> Iterator[T]:
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=_LOOK)
            except queue.Empty:
                continue
            if item is None:
                return
            yield item
        raise _Stopped


class _Pipeline:
    """Threads: one decodes, _AT_ONCE run the network, one encodes; this one keeps the order."""

    def __init__(
        self,
        source: Path,
        upscaler: Upscaler,
        segments: Segments,
        writer: FrameWriter,
        encoder: Encoder,
        progress: Callable[[int, int], None],
    ) -> None:
        self.source, self.info, self.segments = source, encoder.info, segments
        at_once, room = (1, 0) if encoder.large else (_AT_ONCE, _AHEAD)
        self.channels, self.upscalers = upscaler.channels, upscaler.shared_out(at_once)
        self.writer, self.encoder, self.progress = writer, encoder, progress
        self.stop = threading.Event()
        self.small: _Channel[Stamped] = _Channel(self.stop, room)
        self.large: _Channel[Stamped] = _Channel(self.stop, room)
        self.failures: list[BaseException] = []

    def run(self) -> int:
        """Returns the number of frames in all segments, earlier ones included."""
        done = before = self.segments.frames
        threads = [threading.Thread(target=self._guarded, args=[work]) for work in (self._read, self._write)]
        for thread in threads:
            thread.start()
        try:
            self.progress(done, max(self.info.packets, done))
            for stamp, image in self._upscaled():
                self.large.put((stamp, image))
                done += 1
                self.progress(done, max(self.info.packets, done))
            self.large.put(None)
            threads[1].join()
        except _Stopped:
            pass  # the reason is among the failures
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()
        if self.failures:
            raise self.failures[0]
        assert self.segments.frames == done >= before
        return done

    def _upscaled(self) -> Iterator[Stamped]:
        """Yields the frames in their order, one for each that was read."""
        free: queue.SimpleQueue[Upscaler] = queue.SimpleQueue()
        for upscaler in self.upscalers:
            free.put(upscaler)

        def run(image: FrameImage) -> FrameImage:
            upscaler = free.get()
            try:
                return FrameImage(upscaler.pixels(image.pixels), image.chroma)
            finally:
                free.put(upscaler)

        running: deque[tuple[int, Future[FrameImage]]] = deque()
        with ThreadPoolExecutor(len(self.upscalers)) as networks:
            for stamp, image in self.small:
                running.append((stamp, networks.submit(run, image)))
                if len(running) > len(self.upscalers) or self.encoder.large:
                    stamp, first = running.popleft()
                    yield stamp, first.result()
            for stamp, last in running:
                yield stamp, last.result()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except _Stopped:
            pass
        except BaseException as error:  # raised again in the main thread
            self.failures.append(error)
            self.stop.set()

    def _read(self) -> None:
        reader = FrameReader(self.info, self.channels)
        for stamp, frame in frames(self.source, self.info, skip=self.segments.frames):
            self.small.put((stamp, reader.image(frame)))
        self.small.put(None)

    def _write(self) -> None:
        results = iter(self.large)
        for first in results:
            part = itertools.chain([first], itertools.islice(results, SEGMENT_FRAMES - 1))
            self.segments.add(functools.partial(self._encode, part))

    def _encode(self, part: Iterator[Stamped], file: BinaryIO) -> int:
        return self.encoder.encode((self.writer.frame(image, stamp) for stamp, image in part), file)
