"""Time of each operator of a TFLite file, from files that are cut after it.

XNNPACK runs all operators that it takes as one node, and the Python interpreter has no profiler. So the
file is cut after its first operator, its second and so on; all parts run alternately, and an operator's
time is the median over the rounds of what its part takes longer than the one before. A single difference
is noisy: expect an error of some per cent of the whole, and small operators to come out below zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilesr_plugin.bench.delegation import kernels_of
from mobilesr_plugin.bench.rounds import Progress, alternate
from mobilesr_plugin.bench.runnable import random_pixels
from mobilesr_plugin.bench.tflite_cut import bare_convolutions, first_operators
from mobilesr_plugin.errors import DataError
from mobilesr_plugin.runtimes import TFLiteRunner
from mobilesr_plugin.tflite_model import TFLiteModel


@dataclass(frozen=True)
class OperatorTime:
    """One operator.

    Attributes:
        kind: TFLite's name, such as ``CONV_2D``.
        shape: Of its output, (N, H, W, C).
        kernels: ``XNNPACK`` or ``TFLite``.
        milliseconds: What it adds.
        share: Of the whole file's median, 0 to 1.
    """

    kind: str
    shape: tuple[int, ...]
    kernels: str
    milliseconds: float
    share: float


@dataclass(frozen=True)
class PerOperator:
    """Times within one file.

    Attributes:
        operators: In order of execution.
        total: Sum of the operators' times, milliseconds.
        whole: Median of the whole file, milliseconds.
        bare_convolutions: Median of its convolutions alone, milliseconds; None where they do not fit
            together.
        ratio: Whole over bare convolutions; median over the rounds of the ratio within a round.
    """

    operators: tuple[OperatorTime, ...]
    total: float
    whole: float
    bare_convolutions: float | None
    ratio: float | None


def measure(
    path: Path,
    *,
    size: tuple[int, int],
    threads: int = 2,
    runs: int = 21,
    kernels: str = "xnnpack",
    progress: Progress = lambda done, total: None,
) -> PerOperator:
    """Times every operator of a .tflite file; see ``latency.measure`` for the arguments.

    Raises:
        DataError: the file cannot be read, has another size, or takes no image.
        OptionError: too few runs.
    """
    whole = TFLiteRunner(path, threads=threads, kernels=kernels)
    pixels = random_pixels(size, whole.channels)
    whole(pixels)
    nodes = kernels_of(whole.nodes())
    content = path.read_bytes()
    model = TFLiteModel(content)
    count = len(model.kinds)
    parts = [first_operators(content, index + 1) for index in range(count - 1)]
    runners = [*(TFLiteRunner(part, threads=threads, kernels=kernels) for part in parts), whole]
    try:
        bare = TFLiteRunner(bare_convolutions(content), threads=threads, kernels=kernels)
    except DataError:
        bare = None
    shapes = [runner.outputs(pixels)[0].shape for runner in runners]
    calls = [runner.invoke for runner in runners]
    if bare is not None:
        bare.outputs(random_pixels(size, bare.channels))
        calls.append(bare.invoke)
    times = alternate(calls, runs, progress)
    added = np.median(np.diff(times[:count], axis=0, prepend=0), axis=1)
    median = float(np.median(times[count - 1]))
    return PerOperator(
        operators=tuple(
            OperatorTime(kind, shape, taken, float(own), float(own) / median)
            for kind, shape, taken, own in zip(model.kinds, shapes, nodes, added, strict=True)
        ),
        total=float(added.sum()),
        whole=median,
        bare_convolutions=float(np.median(times[count])) if bare else None,
        ratio=float(np.median(times[count - 1] / times[count])) if bare else None,
    )
