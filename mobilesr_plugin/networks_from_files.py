"""Networks as files hold them: .pth, .onnx and .tflite, all as functions from images to images."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mobilesr_plugin import checkpoint
from mobilesr_plugin.errors import DataError, OptionError
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import OnnxRunner, TFLiteRunner, to_uint8

Network = Callable[[torch.Tensor], torch.Tensor]  # (1, C, H, W) in [0, 1] -> (1, C, H * s, W * s)

_NEAR = 0.05  # published files have input ranges such as 0..249
_PROBE = (16, 16)  # height and width of the picture that tells a file's scale


@dataclass(frozen=True)
class FileNetwork:
    """A network of a file.

    Attributes:
        path: The file.
        part: Which network of the file, such as ``float``; empty if it is the only or the main one.
        kind: ``float``, ``float16`` or ``int8``.
        kernels: What computes it: ``xnnpack``, ``tflite_builtin``, ``onnxruntime``, ``torch``; an int8
            checkpoint computes as the kernels named here do.
        sha256: Of the file.
        checkpoint: sha256 of the checkpoint that it comes from, as far as that is known.
        scale: Upscaling factor.
        channels: 3 (RGB) or 1 (Y).
        fixed_size: (height, width) of the only image that it takes; None: any.
        network: Runs it on an image in [0, 1]; one that takes pixels rounds the image first.
        origin: What computes it.
    """

    path: Path
    part: str
    kind: str
    kernels: str
    sha256: str
    checkpoint: str | None
    scale: int
    channels: int
    fixed_size: tuple[int, int] | None
    network: Network
    origin: nn.Module | TFLiteRunner | OnnxRunner


def open_networks(
    path: Path, *, kernels: str, threads: int, opt_path: Path | None = None
) -> list[FileNetwork]:
    """Loads the networks of a file.

    Args:
        path: A .pth of BasicSR or of QATSRModel, a .onnx or a .tflite file. A checkpoint of
            quantization-aware training gives its integers and, where it holds it, its float network.
        kernels: For .tflite files, and the arithmetic of int8 checkpoints: ``xnnpack`` or ``tflite_builtin``.
        threads: Processor threads of .onnx and .tflite files.
        opt_path: Option file of checkpoints; see ``checkpoint.restore``.

    Raises:
        CheckpointError, DataError, MissingExtraError: the file cannot be loaded.
        OptionError: a file of another kind.
    """
    match path.suffix:
        case ".pth":
            return _of_checkpoint(path, kernels, opt_path)
        case ".onnx":
            return [_of_runner(path, OnnxRunner(path, threads=threads), "onnxruntime")]
        case ".tflite":
            return [_of_runner(path, TFLiteRunner(path, threads=threads, kernels=kernels), kernels)]
    raise OptionError(f"{path} is no .pth, .onnx or .tflite file")


def _of_checkpoint(path: Path, kernels: str, opt_path: Path | None) -> list[FileNetwork]:
    restored = checkpoint.restore(path, opt_path)
    sha256, scale = restored.source["sha256"], restored.scale
    found = []
    if restored.quantized_network is not None:
        integer = IntegerNetwork(lower(restored.quantized_network), kernels)
        channels = integer.graph.input.channels
        described = ("", "int8", kernels, sha256, sha256, scale, channels, None)
        found.append(FileNetwork(path, *described, _on_pixels(integer), integer))
    if restored.float_network is not None:
        network = restored.float_network
        channels, part = getattr(network, "num_in_ch", 3), "float" if found else ""
        described = (part, "float", "torch", sha256, sha256, scale, channels, None)
        found.append(FileNetwork(path, *described, network, network))
    return found


def _of_runner(path: Path, runner: TFLiteRunner | OnnxRunner, kernels: str) -> FileNetwork:
    if runner.channels not in (1, 3):
        raise DataError(f"{path} takes images of {runner.channels} channels; it must be 1 (Y) or 3 (RGB)")
    if isinstance(runner, TFLiteRunner):
        _check_result(path, runner)

    scale = _probed_scale(path, runner)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    made_from = _checkpoint_in_report(path, sha256)
    whole = ("", runner.kind, kernels, sha256, made_from, scale, runner.channels, runner.fixed_size)
    return FileNetwork(path, *whole, _of_pixels(runner), runner)


def shared_out(file: FileNetwork, parts: int) -> list[FileNetwork]:
    """Opens a .tflite file again, ``parts`` times, with its threads shared out; all can run at once.

    Any other network runs once at a time, on all threads: it is returned alone.
    """
    origin = file.origin
    if not isinstance(origin, TFLiteRunner) or origin.threads < parts:
        return [file]
    threads = [(origin.threads + part) // parts for part in range(parts)]
    runners = [TFLiteRunner(file.path, threads=share, kernels=file.kernels) for share in threads]
    return [dataclasses.replace(file, network=_of_pixels(runner), origin=runner) for runner in runners]


def _check_result(path: Path, runner: TFLiteRunner) -> None:
    """Refuses a TFLite file whose result is no picture, or not plainly one."""
    results = runner.results()
    if len(results) != 1:
        raise DataError(f"{path} has {len(results)} outputs; it must have one, the enlarged image")
    dtype = np.dtype(results[0]["dtype"]).name
    if dtype not in ("uint8", "int8", "float32"):
        raise DataError(f"{path} gives {dtype}; it must be uint8, int8 or float32 in [0, 1]")
    for name, detail in (("input", runner.input), ("output", results[0])):
        step = float(detail["quantization"][0])
        whole = 255 * step
        if step and min(abs(whole - 1), abs(step - 1)) > _NEAR:
            raise DataError(
                f"{path}: the codes of its {name} cover a range of {whole:g}; for codes that are pixels it "
                "must be 1 or 255; convert the file again with such ends, or with float32 ones in [0, 1]"
            )


def _probed_scale(path: Path, runner: TFLiteRunner | OnnxRunner) -> int:
    """Runs a file once to see how much larger its result is.

    Raises:
        DataError: it cannot run, or gives something else than an enlarged image.
    """
    height, width = runner.fixed_size or _PROBE
    try:
        probed = runner(np.full((1, height, width, runner.channels), 128, np.uint8))
    except DataError:
        raise
    except Exception as error:  # each runtime's own types
        reason = " ".join(str(error).split())
        raise DataError(f"{path} does not run on an image of {height}x{width}: {reason}") from error
    scale = probed.shape[1] // height if probed.ndim == 4 else 0
    if not scale or probed.shape != (1, height * scale, width * scale, runner.channels):
        raise DataError(
            f"{path} turns {height}x{width} pixels into {probed.shape}; it is no upscaling network"
        )
    return scale


def _checkpoint_in_report(path: Path, sha256: str) -> str | None:
    """Returns the checkpoint's sha256 if the export's report lies beside the file and is about it."""
    try:
        report = json.loads((path.parent / "report.json").read_text(encoding="utf-8"))
        if any(file["sha256"] == sha256 for file in report["files"]):
            return str(report["source"]["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no report, or another program's
    return None


def _of_pixels(runner: TFLiteRunner | OnnxRunner) -> Network:
    return lambda image: to_tensor(runner(to_pixels(image)))


def _on_pixels(network: IntegerNetwork) -> Network:
    """Rounds an image to pixels before the network, as its uint8 input on the device does."""
    return lambda image: network(to_tensor(to_pixels(image)))


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(N, H, W, C) uint8 -> (N, C, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255


def to_pixels(image: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) in [0, 1] -> (N, H, W, C) uint8."""
    return to_uint8(image.permute(0, 2, 3, 1).numpy())
