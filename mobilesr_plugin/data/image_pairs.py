"""HR pictures to pairs of PNG folders for validation and benchmarks: HR cropped, LR bicubic, equal names."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mobilesr_plugin.data.bicubic import downscale, mod_crop
from mobilesr_plugin.data.images import (
    UnreadableImageError,
    encode_png,
    list_images,
    read_image,
    write_bytes,
)
from mobilesr_plugin.data.plan import Output, Prepared, Progress, check_scales, common_modulus, corrupt, plan
from mobilesr_plugin.data.record import RECORD_NAME, Record, SourceImage, check_record, write_record
from mobilesr_plugin.data.workers import default_workers, run_tasks
from mobilesr_plugin.errors import DataError

HR = 1  # in mappings from scale to folder, HR is the folder at scale 1

_PNG_LEVEL = 3  # BasicSR's for PNG files


@dataclass(frozen=True)
class PairTask:
    """One picture to write.

    Attributes:
        image: the source.
        modulus: what both sides are cropped to a multiple of.
        files: scale -> PNG file that is still missing (1 is HR).
    """

    image: SourceImage
    modulus: int
    files: dict[int, Path]


def benchmark_paths(out: Path, scales: Sequence[int]) -> dict[int, Path]:
    """BasicSR's names of benchmark folders: ``GTmod12`` (key 1), ``LRbicx3`` (key 3), ..."""
    return {HR: out / f"GTmod{common_modulus(scales)}"} | {s: out / f"LRbicx{s}" for s in scales}


def validation_paths(out: Path, name: str, scales: Sequence[int]) -> dict[int, Path]:
    """DIV2K's names of validation folders: ``<name>_HR`` (key 1), ``<name>_LR_bicubic/X3`` (key 3), ..."""
    return {HR: out / f"{name}_HR"} | {s: out / f"{name}_LR_bicubic" / f"X{s}" for s in scales}


def prepare_pairs(
    hr: Path,
    paths: dict[int, Path],
    *,
    other: str = "--name or --out",
    workers: int | None = None,
    skip_corrupt: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Write an HR folder and its LR folders, or go on with what was stopped.

    A folder appears under its name only when it is complete; until then its files gather in a hidden folder
    beside it. Where ``hr`` already is the HR folder to be made (DIV2K_valid_HR as downloaded), it is left
    untouched and LR is made from its pictures cropped to a multiple of the scale.

    Args:
        hr: folder of HR pictures.
        paths: scale -> folder, as ``benchmark_paths`` and ``validation_paths`` give them.
        other: options that choose other folders, for messages.
        workers: number of processes; the default is the number of CPUs.
        skip_corrupt: leave unreadable pictures out instead of failing.
        progress: called with (pictures finished, pictures in all).

    Returns:
        What was written and what was left out.

    Raises:
        OptionError: a scale is below 2.
        DataError: see ``plan``; or the result has another origin or cannot be written.
    """
    scales = check_scales([scale for scale in paths if scale != HR])
    in_place = hr.resolve() == paths[HR].resolve()
    modulus = common_modulus(scales)
    images, skipped, too_small = plan(
        hr, modulus=modulus, min_side=2 * max(scales), skip_corrupt=skip_corrupt
    )
    if in_place:
        _check_usable_in_place(images)
    sources = {image.key: image.fingerprint for image in images}

    wanted = {scale: path for scale, path in paths.items() if not (scale == HR and in_place)}
    records = {
        scale: Record({"modulus": scale if in_place else modulus, "scale": scale}, sources)
        for scale in wanted
    }
    building = {
        scale: path.with_name(f".{path.name}.partial") for scale, path in wanted.items() if not path.exists()
    }
    # All of them before the first is begun, so that a refusal leaves nothing behind.
    for scale, path in wanted.items():
        if path.exists() and not (path / RECORD_NAME).exists():
            raise DataError(
                f"{path} exists and was not made by this command; delete it or choose another {other}"
            )
        check_record(building.get(scale, path), records[scale], other=other)
    for scale, folder in building.items():
        write_record(folder, records[scale])

    tasks = []
    for image in images:
        files = {scale: folder / f"{image.key}.png" for scale, folder in building.items()}
        missing = {scale: file for scale, file in files.items() if not file.exists()}
        if missing:
            tasks.append(PairTask(image, 1 if in_place else modulus, missing))
    done = len(images) - len(tasks)
    if progress:
        progress(done, len(images))
    with closing(run_tasks(write_pair, tasks, workers or default_workers())) as results:
        for _, result in results:
            if isinstance(result, UnreadableImageError):
                if not skip_corrupt:
                    raise corrupt(result)
                skipped.append(result)
            done += 1
            if progress:
                progress(done, len(images))
    if not {image.path for image in images} - {error.path for error in skipped}:
        raise DataError(f"{hr} holds no readable picture")
    for scale, folder in building.items():
        _publish(folder, paths[scale])
    return Prepared(
        outputs=[Output(path, len(list_images(path)), scale in building) for scale, path in paths.items()],
        skipped=skipped,
        too_small=too_small,
    )


def write_pair(task: PairTask) -> None:
    """Decode, crop and shrink one picture, and write its files.

    Raises:
        UnreadableImageError: the picture is damaged.
        DataError: a file cannot be written.
    """
    image = mod_crop(read_image(task.image.path), task.modulus)
    for scale, path in task.files.items():
        write_bytes(path, encode_png(image if scale == HR else downscale(image, scale), _PNG_LEVEL))


def _check_usable_in_place(images: Sequence[SourceImage]) -> None:
    for image in images:
        if image.path.name != f"{image.key}.png":
            raise DataError(
                f"{image.path} cannot stay where it is: BasicSR pairs pictures by name and needs a PNG named "
                f"with ASCII letters, digits, _ or -; use another folder for --hr or --out"
            )


def _publish(folder: Path, path: Path) -> None:
    try:
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        folder.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
