"""One file of the encoded video and of the source's sound, subtitles, chapters and tags."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from mobilesr_plugin.upscaling.inputs import CONTAINERS
from mobilesr_plugin.upscaling.video_segments import Encoder, packets
from mobilesr_plugin.upscaling.video_source import import_av, video_stream
from mobilesr_plugin.upscaling.writing import write

_COPIED = ("audio", "subtitle")


def join(segments: Sequence[Path], encoder: Encoder, source: Path, target: Path) -> tuple[str, ...]:
    """Writes ``target`` at once, and returns notes on streams that its container cannot hold.

    Raises:
        CannotWriteError: the disk is full, or the folder is not writable.
    """
    notes: list[str] = []
    form = CONTAINERS[target.suffix.lower()]
    write(target, lambda file: notes.extend(_mux(file, form, segments, encoder, source)))
    return tuple(notes)


def _mux(file: BinaryIO, form: str, segments: Sequence[Path], encoder: Encoder, source: Path) -> list[str]:
    av = import_av()
    notes = []
    with av.open(str(source)) as given, av.open(file, "w", format=form) as made:
        # A stream as the segments' own, for its header and colour tags; nothing is encoded with it.
        video = encoder.add_to(made)
        video.metadata.update(video_stream(given).metadata)
        copied: dict[int, Any] = {}
        for stream in given.streams:
            if stream.type not in _COPIED:
                continue
            try:
                copy = made.add_stream_from_template(stream)
            except (av.FFmpegError, ValueError) as error:
                notes.append(f"stream {stream.index} ({stream.type}) was left out: {error}")
                continue
            copy.metadata.update(stream.metadata)
            copy.disposition = stream.disposition
            copied[stream.index] = copy
        made.metadata.update(given.metadata)
        if given.chapters():
            made.set_chapters(given.chapters())
        streams = [given.streams[index] for index in copied]
        both = heapq.merge(_timed(packets(segments)), _timed(_of_source(given, streams)), key=lambda t: t[0])
        for _, packet in both:
            packet.stream = copied[packet.stream.index] if packet.stream.container is given else video
            made.mux(packet)
    return notes


def _of_source(given: Any, streams: list[Any]) -> Iterator[Any]:
    if streams:
        yield from (packet for packet in given.demux(streams) if packet.size and packet.dts is not None)


def _timed(each: Iterator[Any]) -> Iterator[tuple[float, Any]]:
    """Packets with their times in seconds, so that both sources are read side by side."""
    for packet in each:
        yield float(packet.dts * packet.time_base), packet
