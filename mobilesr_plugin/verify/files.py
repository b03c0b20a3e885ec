"""Checks every file of an export against what it must compute."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from mobilesr_plugin.graph.ops import Graph
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import OnnxRunner, TFLiteRunner
from mobilesr_plugin.verify.audit import audit
from mobilesr_plugin.verify.parity import Runner, compare, first_difference, network_runner

Size = tuple[int, int]


@dataclasses.dataclass
class Verification:
    """What a check of files found.

    Attributes:
        parity: For each set of kernels and each file: pixels, mismatched, max_abs_diff.
        problems: Why the files must not be used; empty if the int8 files compute exactly what
            validation saw.
        notes: Differences that are known and do no harm.
    """

    parity: dict[str, dict[str, dict[str, int]]] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def compare(
        self, kernels: str, file: str, expected: Runner, runner: Runner, images: Sequence[np.ndarray]
    ) -> int:
        """Records how a file compares with its reference; returns the number of differing values."""
        parity = compare(expected, runner, images)
        self.parity.setdefault(kernels, {})[file] = dataclasses.asdict(parity)
        return parity.mismatched


def verify_int8(
    found: Verification,
    folder: Path,
    files: Mapping[str, Size | None],
    graph: Graph,
    images: Sequence[np.ndarray],
    *,
    io: str,
    kernel_sets: Sequence[str],
) -> None:
    """Audits int8 TFLite files and compares all their values with validation, on each set of kernels.

    Args:
        found: Where the result goes.
        folder: Folder of the files.
        files: Names, and for which (height, width) a file is; None for any.
        graph: Deploy graph of the files.
        images: (H, W, C) uint8; files for one size get the first one, mirrored or cropped.
        io: Type of the files' ends.
        kernel_sets: ``xnnpack``, ``tflite_builtin``.
    """
    for file, size in files.items():
        content = (folder / file).read_bytes()
        differing = audit(content, graph, io)
        found.problems += [f"{file}: {problem}" for problem in differing]
        pictures = images if size is None else [_of_size(images[0], size)]
        for kernels in kernel_sets:
            reference = network_runner(IntegerNetwork(graph, kernels, fixed_size=size is not None))
            device = TFLiteRunner(content, kernels=kernels)
            wrong = found.compare(kernels, file, reference, device, pictures)
            if wrong:
                where = None if differing else first_difference(graph, content, pictures[0], kernels)
                found.problems.append(
                    f"{file}: {wrong} of {found.parity[kernels][file]['pixels']} values differ from "
                    f"validation on {kernels}" + (f"; {where}" if where else "")
                )
        if size is not None and "xnnpack" in kernel_sets:
            _note_fixed_size(found, file, graph, pictures)


def _note_fixed_size(found: Verification, file: str, graph: Graph, images: Sequence[np.ndarray]) -> None:
    """A bilinear resize runs on other kernels in a file for one size than in a file for any."""
    any_size, one_size = (
        network_runner(IntegerNetwork(graph, "xnnpack", fixed_size=fixed)) for fixed in (False, True)
    )
    parity = compare(any_size, one_size, images)
    if parity.mismatched:
        found.notes.append(
            f"{file}: XNNPACK resizes in a file for one size, and TFLite's own kernel in one for any; they "
            f"round otherwise: {parity.mismatched:,} of {parity.pixels:,} values differ, by up to "
            f"{parity.max_abs_diff}. Each file equals its own simulation; validation is that for any size"
        )


def verify_onnx_and_float(
    found: Verification,
    folder: Path,
    name: str,
    graph: Graph,
    float_network: nn.Module | None,
    images: Sequence[np.ndarray],
) -> None:
    """Compares the ONNX files and the float TFLite files with their references; only reported.

    ONNX Runtime rounds by rules of its own, so the QDQ file is close to validation, not equal. Float
    files are compared with the float network; if only the int8 one is known, with its float ONNX file.
    """
    reference = network_runner(IntegerNetwork(graph))
    qdq = f"{name}_qdq.onnx"
    found.compare("onnxruntime", qdq, reference, OnnxRunner(folder / qdq), images)
    float_onnx = OnnxRunner(folder / f"{name}.onnx")
    float_reference: Runner = float_onnx
    if float_network is not None:
        float_reference = network_runner(float_network)
        found.compare("onnxruntime", f"{name}.onnx", float_reference, float_onnx, images)
    for kind in ("fp32", "fp16"):
        file = f"{name}_{kind}.tflite"
        found.compare("xnnpack", file, float_reference, TFLiteRunner((folder / file).read_bytes()), images)


def _of_size(image: np.ndarray, size: Size) -> np.ndarray:
    """Mirrors and crops (H, W, C) to ``size``."""
    height, width = (max(0, wanted - have) for wanted, have in zip(size, image.shape, strict=False))
    padded = np.pad(image, ((0, height), (0, width), (0, 0)), mode="symmetric")
    return np.ascontiguousarray(padded[: size[0], : size[1]])
