"""Samples per second of CachedPairedDataset and PairedImageDataset, measured alternately in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mobilesr_plugin.errors import OptionError

WARM_UP = 1

PAIRED, FLOAT32, UINT8 = "PairedImageDataset", "CachedPairedDataset", "CachedPairedDataset, uint8_batches"
_KINDS: dict[str, dict[str, Any]] = {
    PAIRED: {"type": "PairedImageDataset"},
    FLOAT32: {"type": "CachedPairedDataset"},
    UINT8: {"type": "CachedPairedDataset", "uint8_batches": True},
}


@dataclass(frozen=True)
class DatasetSpeed:
    """How fast one kind of data set gives training patches, through BasicSR's loader.

    Attributes:
        kind: PAIRED, FLOAT32 or UINT8.
        samples_per_second: Median over the rounds; up to float32 tensors on the CPU, as a model takes them.
        ratio: To PAIRED; median over the rounds of the ratio within a round.
    """

    kind: str
    samples_per_second: float
    ratio: float


def measure(
    gt: Path,
    lq: Path,
    *,
    scale: int,
    gt_size: int = 192,
    batch: int = 16,
    workers: int = 0,
    samples: int = 320,
    runs: int = 5,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[DatasetSpeed]:
    """Measures all kinds on one data set, with flips and transpositions.

    Args:
        gt: HR images, a folder or an LMDB.
        lq: LR images, likewise.
        scale: Of the images.
        gt_size: Side of an HR patch.
        batch: Patches in a batch.
        workers: Processes of the loader.
        samples: Patches that PairedImageDataset gives in a round; the others give 20 times as many.
        runs: Rounds that count, after WARM_UP that do not.
        threads: Processor threads of this process.
        progress: Called with the number of rounds done and of all.

    Returns:
        PAIRED, FLOAT32, UINT8.

    Raises:
        OptionError: too few runs, samples or threads, or no batch.
        DataError: the images cannot be used.
    """
    if runs < 3:
        raise OptionError(f"runs is {runs}; a median needs at least 3")
    if batch < 1 or samples < batch:
        raise OptionError(f"samples is {samples} and batch is {batch}; a round needs at least one batch")
    if threads < 1:
        raise OptionError(f"threads is {threads}; it must be 1 or more")
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        options = _options(gt, lq, scale, gt_size, batch, workers)
        loaders = {kind: _loader(kind, options, 40 * samples) for kind in _KINDS}
        batches = {kind: samples // batch * (1 if kind == PAIRED else 20) for kind in _KINDS}
        speeds: dict[str, list[float]] = {kind: [] for kind in _KINDS}
        for round_ in range(WARM_UP + runs):
            for kind in _KINDS if round_ % 2 else reversed(_KINDS):
                speed = _speed(loaders[kind], batches[kind], batch)
                if round_ >= WARM_UP:
                    speeds[kind].append(speed)
            progress(round_ + 1, WARM_UP + runs)
    finally:
        torch.set_num_threads(threads_before)
    return [
        DatasetSpeed(
            kind,
            statistics.median(found),
            statistics.median(a / b for a, b in zip(found, speeds[PAIRED], strict=True)),
        )
        for kind, found in speeds.items()
    ]


def _options(gt: Path, lq: Path, scale: int, gt_size: int, batch: int, workers: int) -> dict[str, Any]:
    return {
        "name": "speed",
        "phase": "train",
        "scale": scale,
        "dataroot_gt": str(gt),
        "dataroot_lq": str(lq),
        "io_backend": {"type": "lmdb" if gt.suffix == ".lmdb" else "disk"},
        "gt_size": gt_size,
        "use_hflip": True,
        "use_rot": True,
        "batch_size_per_gpu": batch,
        "num_worker_per_gpu": workers,
    }


def _loader(kind: str, options: dict[str, Any], samples: int) -> Any:
    from basicsr.data import build_dataloader, build_dataset
    from basicsr.data.data_sampler import EnlargedSampler

    options = {**options, **_KINDS[kind]}
    dataset = build_dataset(options)
    sampler = EnlargedSampler(dataset, 1, 0, ratio=-(-samples // len(dataset)))
    return build_dataloader(dataset, options, num_gpu=0, dist=False, sampler=sampler, seed=0)


def _speed(loader: Any, batches: int, batch: int) -> float:
    found = iter(loader)
    next(found)  # worker processes have started
    begin = time.perf_counter()
    for data in islice(found, batches):
        data["lq"].to("cpu"), data["gt"].to("cpu")
    return batches * batch / (time.perf_counter() - begin)
