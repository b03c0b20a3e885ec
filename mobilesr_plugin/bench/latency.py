"""Latency of checkpoints and exported files, measured alternately in one process.

Machines are noisy: a file is never timed in a run of its own. Each round runs every file once, in an
order that rotates, and the figures are medians over the rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilesr_plugin.bench.memory import peak_memory
from mobilesr_plugin.bench.rounds import Progress, alternate, check_runs
from mobilesr_plugin.bench.runnable import open_runnable


@dataclass(frozen=True)
class Latency:
    """Times of one file.

    Attributes:
        file: Its name.
        part: What of it runs, such as ``float network, PyTorch``; empty if it is the file as it is.
        median: Milliseconds.
        low, high: 10th and 90th percentile, milliseconds.
        ratio: Its times over those of the first file: median over the rounds of the ratio within a round.
        peak_bytes: Most memory that it takes; see ``memory.peak_memory``. None if not measured.
        xnnpack: Operators of a .tflite file that XNNPACK took, in order; None for other files.
        builtin: Operators that were left to TFLite's own kernels.
    """

    file: str
    part: str
    median: float
    low: float
    high: float
    ratio: float
    peak_bytes: int | None
    xnnpack: tuple[str, ...] | None
    builtin: tuple[str, ...] | None


def measure(
    files: Sequence[Path],
    *,
    size: tuple[int, int],
    threads: int = 2,
    runs: int = 21,
    kernels: str = "xnnpack",
    with_memory: bool = False,
    opt_path: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Latency]:
    """Times .tflite, .onnx and .pth files on the same seeded image.

    Args:
        files: The first one is the base of the ratios.
        size: (height, width) of the image, which fixed-size files must have.
        threads: Processor threads.
        runs: Rounds that count, after some that do not.
        kernels: For TFLite: ``xnnpack`` or ``tflite_builtin``.
        with_memory: Measure memory too, which starts a process for each file.
        opt_path: Option file of checkpoints; see ``checkpoint.restore``.
        progress: Called with the number of rounds done and of all.

    Raises:
        DataError, CheckpointError: a file cannot be read, or has another size.
        OptionError: a file of another kind, or too few runs.
    """
    check_runs(runs)
    settings: dict[str, Any] = {"threads": threads, "kernels": kernels, "opt_path": opt_path}
    opened = [open_runnable(path, size, **settings) for path in files]
    peaks = [peak_memory(path, size, **settings) if with_memory else None for path in files]
    times = alternate([each.run for each in opened], runs, progress)
    results = []
    for path, each, own, peak in zip(files, opened, times, peaks, strict=True):
        low, median, high = (float(value) for value in np.percentile(own, [10, 50, 90]))
        ratio = float(np.median(own / times[0]))
        taken = each.xnnpack, each.builtin
        results.append(Latency(path.name, each.part, median, low, high, ratio, peak, *taken))
    return results
