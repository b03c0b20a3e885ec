"""The three kinds of data set that ``mobilesr data prepare`` makes from a folder of HR pictures."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from mobilesr_plugin.data.image_pairs import benchmark_paths, prepare_pairs, validation_paths
from mobilesr_plugin.data.plan import Prepared, Progress, check_scales
from mobilesr_plugin.data.training_set import MIN_SIDE, prepare_training
from mobilesr_plugin.errors import OptionError


class Kind(str, Enum):
    """What a data set is for."""

    TRAIN = "train"
    VALID = "valid"
    BENCHMARK = "benchmark"


def prepare(
    hr: Path,
    out: Path,
    kind: Kind = Kind.TRAIN,
    *,
    scales: Sequence[int],
    name: str | None = None,
    crop_size: int | None = None,
    step: int | None = None,
    min_side: int = MIN_SIDE,
    workers: int | None = None,
    skip_corrupt: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Make one data set, or go on with one that was stopped.

    Args:
        hr: folder of HR pictures.
        out: folder for the result, for example ``datasets/DIV2K``.
        kind: ``train``: LMDBs; ``valid``, ``benchmark``: PNG folders (they differ in name).
        scales: factors, each 2 or more.
        name: start of the names (not ``benchmark``); the default is ``<out's name>_train`` (``_valid``).
        crop_size: side of an HR tile (``train`` only, as are the next two); None: whole pictures.
        step: distance of neighbouring HR tiles; the default is half of ``crop_size``.
        min_side: shortest side of a usable picture.
        workers: number of processes; the default is the number of CPUs.
        skip_corrupt: leave unreadable pictures out instead of failing.
        progress: called with (pictures finished, pictures in all).

    Returns:
        What was written and what was left out.

    Raises:
        OptionError: scale, crop size or step make no sense.
        DataError: pictures that cannot be read, or a result that cannot be written.
    """
    scales = check_scales(scales)
    if kind is Kind.TRAIN:
        return prepare_training(
            hr,
            out,
            scales=scales,
            name=name,
            crop_size=crop_size,
            step=step,
            min_side=min_side,
            workers=workers,
            skip_corrupt=skip_corrupt,
            progress=progress,
        )
    if kind is Kind.BENCHMARK and name is not None:
        raise OptionError(
            f"--name is {name!r}, but benchmark folders have fixed names; choose another --out instead"
        )
    if kind is Kind.VALID:
        paths, other = validation_paths(out, name or f"{out.resolve().name}_valid", scales), "--name or --out"
    else:
        paths, other = benchmark_paths(out, scales), "--out"
    return prepare_pairs(
        hr, paths, other=other, workers=workers, skip_corrupt=skip_corrupt, progress=progress
    )
