"""All jobs, one after another: what exists is skipped, what fails is told at the end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mobilesr_plugin.errors import DataError, MobileSRError
from mobilesr_plugin.upscaling.inputs import Job
from mobilesr_plugin.upscaling.picture_files import Picture, encoder_of, read_picture
from mobilesr_plugin.upscaling.pictures import upscale_picture
from mobilesr_plugin.upscaling.upscaler import Upscaler
from mobilesr_plugin.upscaling.writing import CannotWriteError, write

# Results wait for their encoding beside the next picture only while they are small.
_WAITING = 2
_WAITING_BYTES = 64_000_000

Progress = Callable[[str, int, int], None]  # what, done, total


@dataclass(frozen=True)
class Result:
    """One result.

    Attributes:
        source, target: Files.
        state: ``made``, ``skipped`` (it exists already) or ``failed``.
        size: (width, height) of the result; None unless it was made.
        frames: Of a video.
        seconds: What it took.
        notes: What could not be kept, or what went wrong.
    """

    source: Path
    target: Path
    state: str
    size: tuple[int, int] | None = None
    frames: int | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class VideoOptions:
    """How videos are encoded; see ``video_segments.encoder_options``."""

    codec: str | None = None
    crf: int = 23
    preset: str | None = None


def upscale_all(
    jobs: Sequence[Job],
    upscaler: Upscaler,
    *,
    overwrite: bool = False,
    video: VideoOptions | None = None,
    progress: Progress = lambda what, done, total: None,
    finished: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Upscales pictures and videos; what a file can be blamed for is told, and the next one is taken.

    Args:
        jobs: See ``inputs.plan``.
        upscaler: The network.
        overwrite: Make anew what exists.
        video: How videos are encoded.
        progress: Called with what is being done (``files`` or a video's name), done and total.
        finished: Called with each result.

    Raises:
        CannotWriteError: a result cannot be written (the disk is full); what was finished stays.
        OptionError, MissingExtraError: a codec that is not there; PyAV is not installed.
    """
    results: list[Result] = []
    waiting: deque[Future[Result]] = deque()

    def take(result: Result) -> None:
        results.append(result)
        finished(result)
        progress("files", len(results), len(jobs))

    def flush(left: int = 0) -> None:
        while len(waiting) > left:
            take(waiting.popleft().result())

    with ThreadPoolExecutor(1) as writer:
        for job in jobs:
            if job.target.exists() and not overwrite:
                flush()
                take(Result(job.source, job.target, "skipped"))
                continue
            if job.is_video:
                flush()
                take(_video(job, upscaler, video or VideoOptions(), progress))
                continue
            started = time.perf_counter()
            try:
                picture = upscale_picture(read_picture(job.source), upscaler)
            except (DataError, MemoryError) as error:
                flush()
                take(Result(job.source, job.target, "failed", notes=(_reason(job, error),)))
                continue
            waiting.append(writer.submit(_write, job, [picture], started))
            small = picture.pixels.nbytes <= _WAITING_BYTES
            del picture
            flush(_WAITING if small else 0)
        flush()
    return results


def _video(job: Job, upscaler: Upscaler, options: VideoOptions, progress: Progress) -> Result:
    from mobilesr_plugin.upscaling.video import upscale_video

    started = time.perf_counter()
    name = job.source.name
    try:
        made = upscale_video(
            job.source,
            job.target,
            upscaler,
            codec=options.codec,
            crf=options.crf,
            preset=options.preset,
            progress=lambda done, total: progress(name, done, total),
        )
    except CannotWriteError:
        raise
    except (DataError, MemoryError) as error:
        return Result(job.source, job.target, "failed", notes=(_reason(job, error),))
    seconds = time.perf_counter() - started
    return Result(job.source, job.target, "made", made.size, made.frames, seconds, made.notes)


def _write(job: Job, held: list[Picture], started: float) -> Result:
    """Takes the picture out of ``held``, so that its memory is free while it is encoded."""
    target, picture = job.target, held.pop()
    height, width = picture.pixels.shape[:2]
    encode, dropped = encoder_of(picture, target.suffix.lower())
    notes = (*picture.notes, *dropped)
    del picture
    try:
        data = encode()
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        note = f"{target} cannot hold the picture: {reason}; choose another --format, such as png"
        return Result(job.source, target, "failed", notes=(note,))
    write(target, lambda file: file.write(data))
    return Result(job.source, target, "made", (width, height), None, time.perf_counter() - started, notes)


def _reason(job: Job, error: Exception) -> str:
    if isinstance(error, MobileSRError):
        return str(error)
    return f"{job.source}: there is not enough memory for it; give a smaller --tile"
