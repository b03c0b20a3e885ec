"""Latency of exported files, measured alternately in one process so that ratios can be trusted.

Machines are noisy: a file is never timed in a run of its own. Each round runs every file once, in an
order that rotates, and the figures are medians over the rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.runtimes import OnnxRunner, TFLiteRunner

WARM_UP = 3


@dataclass(frozen=True)
class Latency:
    """Times of one file.

    Attributes:
        file: Its name.
        median: Milliseconds.
        low, high: 10th and 90th percentile, milliseconds.
        ratio: Median over that of the first file.
    """

    file: str
    median: float
    low: float
    high: float
    ratio: float


def measure(
    files: Sequence[Path],
    *,
    size: tuple[int, int],
    threads: int = 2,
    runs: int = 21,
    kernels: str = "xnnpack",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Latency]:
    """Times .tflite and .onnx files on the same seeded image.

    Args:
        files: The first one is the base of the ratios.
        size: (height, width) of the image, which fixed-size files must have.
        threads: Processor threads.
        runs: Rounds that count, after WARM_UP that do not.
        kernels: For TFLite: ``xnnpack`` or ``tflite_builtin``.
        progress: Called with the number of rounds done and of all.

    Raises:
        DataError: a file cannot be read, or has another size.
        OptionError: a file of another kind, or too few runs.
    """
    if runs < 3:
        raise OptionError(f"runs is {runs}; a median needs at least 3")
    calls = [_prepared_call(path, size, threads, kernels) for path in files]
    times: list[list[float]] = [[] for _ in files]
    for round_ in range(WARM_UP + runs):
        for step in range(len(calls)):
            index = (round_ + step) % len(calls)
            started = time.perf_counter()
            calls[index]()
            if round_ >= WARM_UP:
                times[index].append((time.perf_counter() - started) * 1e3)
        progress(round_ + 1, WARM_UP + runs)
    medians = [statistics.median(own) for own in times]
    results = []
    for path, own, median in zip(files, times, medians, strict=True):
        low, high = (float(value) for value in np.percentile(own, [10, 90]))
        results.append(Latency(path.name, median, low, high, median / medians[0]))
    return results


def _prepared_call(path: Path, size: tuple[int, int], threads: int, kernels: str) -> Callable[[], object]:
    pixels = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    match path.suffix:
        case ".tflite":
            runner = TFLiteRunner(path, threads=threads, kernels=kernels)
            runner(pixels[..., : runner.channels])
            return runner.invoke
        case ".onnx":
            onnx = OnnxRunner(path, threads=threads)
            image = pixels[..., : onnx.channels]
            return lambda: onnx(image)
    raise OptionError(f"{path} is no .tflite or .onnx file; export a checkpoint with mobilesr-export first")
