"""What an accuracy table compares: bicubic, checkpoints and exported files, as functions of pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mobilesr_plugin import checkpoint
from mobilesr_plugin.colour import upscale_colour
from mobilesr_plugin.data import bicubic
from mobilesr_plugin.errors import DataError, OptionError
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import OnnxRunner, TFLiteRunner, to_uint8

Upscaler = Callable[[np.ndarray], np.ndarray]  # (H, W, 3) uint8 RGB -> (H * s, W * s, 3) uint8 RGB
Network = Callable[[torch.Tensor], torch.Tensor]  # (1, C, H, W) in [0, 1] -> (1, C, H * s, W * s)

_PROBE = (16, 16)  # height and width of the picture that tells a file's scale


@dataclass(frozen=True)
class Candidate:
    """One row of an accuracy table.

    Attributes:
        path: Its file; None for bicubic.
        part: Which network of the file, such as ``float``; empty if it is the only or the main one.
        kind: ``bicubic``, ``float``, ``float16`` or ``int8``.
        kernels: What computes it: ``xnnpack``, ``tflite_builtin``, ``onnxruntime``, ``torch``; an int8
            checkpoint computes as the kernels named here do. None for bicubic.
        sha256: Of the file; None for bicubic.
        checkpoint: sha256 of the checkpoint that it comes from, as far as that is known.
        scale: Upscaling factor.
        fixed_size: (height, width) of the only LR image that it takes; None: any.
        upscale: Runs it.
    """

    path: Path | None
    part: str
    kind: str
    kernels: str | None
    sha256: str | None
    checkpoint: str | None
    scale: int
    fixed_size: tuple[int, int] | None
    upscale: Upscaler


def bicubic_candidate(scale: int) -> Candidate:
    """Returns bicubic upscaling, the baseline of every table."""
    return Candidate(
        None, "", "bicubic", None, None, None, scale, None, lambda low: bicubic.upscale(low, scale)
    )


def open_candidates(
    path: Path, *, kernels: str, threads: int, opt_path: Path | None = None
) -> list[Candidate]:
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


def _of_checkpoint(path: Path, kernels: str, opt_path: Path | None) -> list[Candidate]:
    restored = checkpoint.restore(path, opt_path)
    sha256, scale = restored.source["sha256"], restored.scale
    found = []
    if restored.quantized_network is not None:
        integer = IntegerNetwork(lower(restored.quantized_network), kernels)
        run = _on_colour(_on_pixels(integer), integer.graph.input.channels)
        found.append(Candidate(path, "", "int8", kernels, sha256, sha256, scale, None, run))
    if restored.float_network is not None:
        network = restored.float_network
        run = _on_colour(network, getattr(network, "num_in_ch", 3))
        part = "float" if found else ""
        found.append(Candidate(path, part, "float", "torch", sha256, sha256, scale, None, run))
    return found


def _of_runner(path: Path, runner: TFLiteRunner | OnnxRunner, kernels: str) -> Candidate:
    if runner.channels not in (1, 3):
        raise DataError(f"{path} takes images of {runner.channels} channels; it must be 1 (Y) or 3 (RGB)")

    def network(image: torch.Tensor) -> torch.Tensor:
        return _to_tensor(runner(_to_pixels(image)))

    height, width = runner.fixed_size or _PROBE
    probed = runner(np.full((1, height, width, runner.channels), 128, np.uint8))
    scale = probed.shape[1] // height
    if probed.shape != (1, height * scale, width * scale, runner.channels):
        raise DataError(
            f"{path} turns {height}x{width} pixels into {probed.shape}; it is no upscaling network"
        )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    made_from = _checkpoint_in_report(path, sha256)
    run = _on_colour(network, runner.channels)
    return Candidate(path, "", runner.kind, kernels, sha256, made_from, scale, runner.fixed_size, run)


def _checkpoint_in_report(path: Path, sha256: str) -> str | None:
    """Returns the checkpoint's sha256 if the export's report lies beside the file and is about it."""
    try:
        report = json.loads((path.parent / "report.json").read_text())
        if any(file["sha256"] == sha256 for file in report["files"]):
            return str(report["source"]["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no report, or another program's
    return None


def _on_colour(network: Network, channels: int) -> Upscaler:
    def run(low: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return _to_pixels(upscale_colour(network, _to_tensor(low[None]), channels))[0]

    return run


def _on_pixels(network: IntegerNetwork) -> Network:
    """Rounds Y to pixels before the network, as its uint8 input on the device does."""
    return lambda image: network(_to_tensor(_to_pixels(image)))


def _to_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255


def _to_pixels(image: torch.Tensor) -> np.ndarray:
    return to_uint8(image.permute(0, 2, 3, 1).numpy())
