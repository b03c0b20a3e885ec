"""What an accuracy table compares: bicubic, checkpoints and exported files, as functions of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mobilesr_plugin.colour import upscale_colour
from mobilesr_plugin.data import bicubic
from mobilesr_plugin.networks_from_files import FileNetwork, open_networks, to_pixels, to_tensor

Upscaler = Callable[[np.ndarray], np.ndarray]  # (H, W, 3) uint8 RGB -> (H * s, W * s, 3) uint8 RGB


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
    """Loads the networks of a file; arguments and errors are those of ``open_networks``."""
    opened = open_networks(path, kernels=kernels, threads=threads, opt_path=opt_path)
    return [_candidate(network) for network in opened]


def _candidate(file: FileNetwork) -> Candidate:
    def run(low: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return to_pixels(upscale_colour(file.network, to_tensor(low[None]), file.channels))[0]

    described = (file.path, file.part, file.kind, file.kernels, file.sha256, file.checkpoint)
    return Candidate(*described, file.scale, file.fixed_size, run)
