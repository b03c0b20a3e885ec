"""What is to be upscaled, and where each result goes."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilesr_plugin.errors import DataError, OptionError
from mobilesr_plugin.upscaling.picture_files import READABLE, WRITABLE

VIDEOS = frozenset(
    [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv"]
)
#: Containers that results are written to; a video of another kind becomes .mkv, which holds all streams.
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
DEFAULT_FOLDER = Path("upscaled")


@dataclass(frozen=True)
class Job:
    """One picture or video."""

    source: Path
    target: Path

    @property
    def is_video(self) -> bool:
        return self.source.suffix.lower() in VIDEOS


def plan(inputs: Sequence[str], out: Path | None, scale: int, form: str | None = None) -> list[Job]:
    """Finds the inputs and names the results ``<stem>_x<scale>``.

    Args:
        inputs: Files, folders and globs, pictures and videos mixed. Of folders and globs, what has another
            suffix is left out, and so are results of this very plan.
        out: A folder, or a file if there is one input; None: DEFAULT_FOLDER.
        scale: Upscaling factor.
        form: Suffix of the pictures' results without the dot; None: the input's.

    Raises:
        DataError: nothing is there.
        OptionError: a format that cannot be written, two results of one name, a result in place of its input.
    """
    if form is not None and f".{form}" not in WRITABLE:
        raise OptionError(f"format is {form!r}; it must be one of {', '.join(s[1:] for s in WRITABLE)}")
    named, found = _find(inputs)
    sources = list(dict.fromkeys([*named, *found]))
    if out is not None and not out.is_dir() and out.suffix.lower() in {*WRITABLE, *VIDEOS, *CONTAINERS}:
        return [_single(sources, out)]
    folder = out or DEFAULT_FOLDER
    jobs = [Job(source, folder / _name(source, scale, form)) for source in sources]
    made = {job.target.resolve() for job in jobs}
    jobs = [job for job in jobs if job.source in named or job.source.resolve() not in made]
    _check(jobs)
    return jobs


def _find(inputs: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Returns the files that were named, and those that folders and globs hold."""
    named: list[Path] = []
    found: list[Path] = []
    known = READABLE | VIDEOS
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            inside = [each for each in sorted(path.iterdir()) if _fits(each)]
            if not inside:
                raise DataError(f"{path} holds no picture and no video (looked for {_listed()})")
            found += inside
        elif path.exists():
            if path.suffix.lower() not in known:
                raise OptionError(f"{path} is no picture and no video by its name (known are {_listed()})")
            named.append(path)
        elif glob.has_magic(text):
            matched = [Path(each) for each in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207
            matched = [each for each in matched if _fits(each)]
            if not matched:
                raise DataError(f"{text} matches no picture and no video")
            found += matched
        else:
            raise DataError(f"{path} does not exist")
    return named, found


def _fits(path: Path) -> bool:
    return path.suffix.lower() in READABLE | VIDEOS and not path.name.startswith(".") and path.is_file()


def _listed() -> str:
    return ", ".join([*sorted(READABLE), *sorted(VIDEOS)])


def _name(source: Path, scale: int, form: str | None) -> str:
    suffix = source.suffix.lower()
    if suffix in VIDEOS:
        suffix = suffix if suffix in CONTAINERS else ".mkv"
    elif form is not None:
        suffix = f".{form}"
    elif suffix not in WRITABLE:
        suffix = ".png"
    return f"{source.stem}_x{scale}{suffix}"


def _single(sources: list[Path], out: Path) -> Job:
    if len(sources) != 1:
        raise OptionError(f"--out {out} names one file, but there are {len(sources)} inputs; give a folder")
    job = Job(sources[0], out)
    allowed = CONTAINERS if job.is_video else WRITABLE
    if out.suffix.lower() not in allowed:
        what = "a video" if job.is_video else "a picture"
        raise OptionError(f"--out {out}: {what} can be written to {', '.join(allowed)}")
    _check([job])
    return job


def _check(jobs: Sequence[Job]) -> None:
    targets: dict[Path, Path] = {}
    for job in jobs:
        target = job.target.resolve()
        if target == job.source.resolve():
            raise OptionError(f"{job.source} would be overwritten by its result; give another --out")
        if target in targets:
            raise OptionError(
                f"{targets[target]} and {job.source} would both become {job.target}; upscale them in "
                "two runs, each with an --out of its own"
            )
        targets[target] = job.source
