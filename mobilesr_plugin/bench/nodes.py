"""int8 latency of single operators and of the kinds of residual, to choose an architecture by.

After the "meta-node" study of ABPN (Z. Du et al., CVPR Workshops 2021, https://arxiv.org/abs/2105.09750).
Its figures are of a phone's NPU; these are of the processor that runs them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilesr_plugin.bench.delegation import kernels_of
from mobilesr_plugin.bench.node_graphs import Candidate, candidates, convert
from mobilesr_plugin.bench.rounds import Progress, alternate, check_runs
from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.native_output import silenced_native_output
from mobilesr_plugin.tflite_model import TFLiteModel

BASE = "conv 3x3"

#: The paper's milliseconds for whole networks on an NPU, as far as it names them.
PAPER = {"residual: feature": "5.2", "residual: anchor": "15.6", "residual: nearest": "about 4 x anchor"}


@dataclass(frozen=True)
class NodeTime:
    """One candidate.

    Attributes:
        name: Such as ``conv 3x3`` or ``residual: anchor``.
        network: Whether it is a whole network rather than one operator.
        shapes: Of its inputs, (N, H, W, C).
        output: Shape of its first output.
        operators: TFLite's operators that it became, in order.
        kernels: ``XNNPACK`` or ``TFLite`` for each of them.
        median, low, high: Milliseconds: median, 10th and 90th percentile.
        ratio: To the 3x3 convolution; median over the rounds of the ratio within a round.
        paper: The paper's milliseconds on an NPU; empty where it gives none.
    """

    name: str
    network: bool
    shapes: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    operators: tuple[str, ...]
    kernels: tuple[str, ...]
    median: float
    low: float
    high: float
    ratio: float
    paper: str


@dataclass(frozen=True)
class _Loaded:
    operators: tuple[str, ...]
    kernels: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    run: Callable[[], object]


def measure(
    *,
    size: tuple[int, int],
    channels: int = 28,
    scale: int = 3,
    threads: int = 2,
    runs: int = 21,
    progress: Progress = lambda done, total: None,
) -> list[NodeTime]:
    """Builds every candidate and times all of them alternately.

    Args:
        size: (height, width) of the image.
        channels: Of the hidden layers.
        scale: Upscaling factor of depth-to-space, resizing and the networks.
        threads: Processor threads.
        runs: Rounds that count, after some that do not.
        progress: Called with what is done, of candidates to build and rounds to run together.

    Raises:
        MissingExtraError: tensorflow or ai-edge-litert is not installed.
        OptionError: channels, scale or runs that make no sense.
        ExportError: TensorFlow's converter failed.
    """
    check_runs(runs)
    if min(size) < 2:
        raise OptionError(f"size is {size[0]}x{size[1]}; both must be at least 2")
    built = candidates(channels, scale)
    loaded = []
    for candidate in built:
        loaded.append(_load(candidate, size, threads))
        progress(len(loaded), len(built) + runs)
    times = alternate(
        [each.run for each in loaded],
        runs,
        lambda done, total: progress(len(built) + max(0, done - (total - runs)), len(built) + runs),
    )
    base = times[[candidate.name for candidate in built].index(BASE)]
    results = []
    for candidate, each, own in zip(built, loaded, times, strict=True):
        low, median, high = (float(value) for value in np.percentile(own, [10, 50, 90]))
        results.append(
            NodeTime(
                name=candidate.name,
                network=candidate.network,
                shapes=each.shapes,
                output=each.output,
                operators=each.operators,
                kernels=each.kernels,
                median=median,
                low=low,
                high=high,
                ratio=float(np.median(own / base)),
                paper=PAPER.get(candidate.name, ""),
            )
        )
    return results


def _load(candidate: Candidate, size: tuple[int, int], threads: int) -> _Loaded:
    from ai_edge_litert.interpreter import Interpreter

    content = convert(candidate, size)
    with silenced_native_output():
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
    generator = np.random.default_rng(0)
    inputs: list[dict[str, Any]] = interpreter.get_input_details()
    for detail in inputs:
        codes = generator.integers(-128, 128, detail["shape"], dtype=np.int8)
        interpreter.set_tensor(detail["index"], codes)
    interpreter.invoke()
    return _Loaded(
        operators=tuple(TFLiteModel(content).kinds),
        kernels=tuple(kernels_of(interpreter._get_ops_details())),
        shapes=tuple(tuple(int(size) for size in detail["shape"]) for detail in inputs),
        output=tuple(int(size) for size in interpreter.get_output_details()[0]["shape"]),
        run=interpreter.invoke,
    )
