"""A file of any kind as a function that runs it once on a seeded image; for timing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilesr_plugin.bench.delegation import BUILTIN, XNNPACK, kernels_of
from mobilesr_plugin.errors import CheckpointError, DataError, OptionError
from mobilesr_plugin.export.memory import check_sizes
from mobilesr_plugin.free_memory import free_memory
from mobilesr_plugin.options import KERNELS
from mobilesr_plugin.runtimes import OnnxRunner, TFLiteRunner


@dataclass(frozen=True)
class Runnable:
    """What is timed.

    Attributes:
        part: What of the file runs; empty if it is the file as it is.
        xnnpack: Operators that XNNPACK took, in order; None for other kinds of files.
        builtin: Operators that were left to TFLite's own kernels.
        run: Runs it once.
    """

    part: str
    xnnpack: tuple[str, ...] | None
    builtin: tuple[str, ...] | None
    run: Callable[[], object]


def open_runnable(
    path: Path, size: tuple[int, int], *, threads: int, kernels: str, opt_path: Path | None = None
) -> Runnable:
    """Loads a .tflite, .onnx or .pth file and runs it once.

    Of a checkpoint the float network runs, in PyTorch, eager, channels-first float32: an int8 checkpoint
    computes as a device does, but not as fast, so its time would say nothing.

    Args:
        path: The file.
        size: (height, width) of the image.
        threads: Processor threads. PyTorch's hold for the whole process.
        kernels: For TFLite: ``xnnpack`` or ``tflite_builtin``.
        opt_path: Option file of a checkpoint; see ``checkpoint.restore``.

    Raises:
        DataError, CheckpointError: it cannot be read, or has another size.
        MissingExtraError: its runtime is not installed.
        OptionError: a file of another kind, no such kernels, or a size that takes more memory than is free.
    """
    if kernels not in KERNELS:
        raise OptionError(f"kernels is {kernels!r}; it must be one of {', '.join(KERNELS)}")
    match path.suffix:
        case ".tflite":
            return _of_tflite(path, size, threads, kernels)
        case ".onnx":
            return _of_onnx(path, size, threads)
        case ".pth":
            return _of_checkpoint(path, size, threads, opt_path)
    raise OptionError(
        f"{path} is no .tflite or .onnx file and no checkpoint (.pth); mobilesr-export writes the first two"
    )


def _check_memory(size: tuple[int, int], channels: int, bytes_per_value: int) -> None:
    """Image and result take this much at least; the scale of a file is not known before it runs."""
    check_sizes(["x".join(map(str, size))], 2 * channels * bytes_per_value, free_memory())


def random_pixels(size: tuple[int, int], channels: int) -> np.ndarray:
    """Returns (1, H, W, C) uint8 from a fixed seed."""
    return np.random.default_rng(0).integers(0, 256, (1, *size, channels), dtype=np.uint8)


def _of_tflite(path: Path, size: tuple[int, int], threads: int, kernels: str) -> Runnable:
    runner = TFLiteRunner(path, threads=threads, kernels=kernels)
    _check_memory(size, runner.channels, 1)
    runner(random_pixels(size, runner.channels))
    nodes = runner.nodes()
    by_kernels: dict[str, list[str]] = {XNNPACK: [], BUILTIN: []}
    for node, taken in zip(nodes, kernels_of(nodes), strict=False):  # delegates stand behind the operators
        by_kernels[taken].append(node["op_name"])
    return Runnable("", tuple(by_kernels[XNNPACK]), tuple(by_kernels[BUILTIN]), runner.invoke)


def _of_onnx(path: Path, size: tuple[int, int], threads: int) -> Runnable:
    if not path.is_file():
        raise DataError(f"{path} does not exist; mobilesr-export writes .onnx files")
    runner = OnnxRunner(path, threads=threads)
    if runner.fixed_size not in (None, size):
        raise DataError(
            f"{path} takes images of {'x'.join(map(str, runner.fixed_size))} only, got "
            f"{'x'.join(map(str, size))}; set --size"
        )
    _check_memory(size, runner.channels, 4)
    image = random_pixels(size, runner.channels)
    runner(image)
    return Runnable("", None, None, lambda: runner(image))


def _of_checkpoint(path: Path, size: tuple[int, int], threads: int, opt_path: Path | None) -> Runnable:
    import torch

    from mobilesr_plugin import checkpoint

    network = checkpoint.restore(path, opt_path).float_network
    if network is None:
        raise CheckpointError(
            f"{path} holds no float network that could be timed; export it, and time the files"
        )
    collapse = getattr(network, "collapse", None)  # networks that train with more than they compute
    network = (collapse() if collapse else network).eval()
    torch.set_num_threads(threads)
    channels = getattr(network, "num_in_ch", 3)
    _check_memory(size, channels, 4)
    image = torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(0))

    def run() -> None:
        with torch.inference_mode():
            network(image)

    run()
    return Runnable("float network, PyTorch", None, None, run)
