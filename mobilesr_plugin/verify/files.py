"""Checks every file of an export against what it must compute."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from mobilesr_plugin.graph.ops import Graph, ResizeBilinear
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import OnnxRunner, TFLiteRunner
from mobilesr_plugin.verify.audit import audit
from mobilesr_plugin.verify.parity import Runner, compare, first_difference
from mobilesr_plugin.verify.references import References

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


class Simulations:
    """The integer networks that files are compared with.

    A file for one size differs from one for any size only where a bilinear resize runs on other kernels.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.resizes = any(isinstance(op, ResizeBilinear) for op in graph)
        self._networks: dict[tuple[str, bool], IntegerNetwork] = {}

    def network(self, kernels: str, *, fixed_size: bool = False) -> IntegerNetwork:
        """Returns the same object each time."""
        key = kernels, fixed_size and self.resizes
        if key not in self._networks:
            self._networks[key] = IntegerNetwork(self.graph, kernels, fixed_size=fixed_size)
        return self._networks[key]


def verify_int8(
    found: Verification,
    folder: Path,
    files: Mapping[str, Size | None],
    simulations: Simulations,
    images: Sequence[np.ndarray],
    *,
    io: str,
    kernel_sets: Sequence[str],
    references: References,
) -> None:
    """Audits int8 TFLite files and compares all their values with validation, on each set of kernels.

    Args:
        found: Where the result goes.
        folder: Folder of the files.
        files: Names, and for which (height, width) a file is; None for any.
        simulations: Of the deploy graph of the files.
        images: (H, W, C) uint8; files for one size get the first one, mirrored or cropped.
        io: Type of the files' ends.
        kernel_sets: ``xnnpack``, ``tflite_builtin``.
        references: Runs the simulations.
    """
    pictures = {file: images if size is None else [_of_size(images[0], size)] for file, size in files.items()}
    expected = {
        (file, kernels): references.of(
            simulations.network(kernels, fixed_size=size is not None), pictures[file]
        )
        for file, size in files.items()
        for kernels in kernel_sets
    }
    for file, size in files.items():
        content = (folder / file).read_bytes()
        differing = audit(content, simulations.graph, io)
        found.problems += [f"{file}: {problem}" for problem in differing]
        for kernels in kernel_sets:
            # One thread: references have the other processors, and XNNPACK's threads spin while they wait.
            device = TFLiteRunner(content, kernels=kernels, threads=1)
            wrong = found.compare(kernels, file, expected[file, kernels], device, pictures[file])
            if wrong:
                where = (
                    None
                    if differing
                    else first_difference(simulations.graph, content, pictures[file][0], kernels)
                )
                found.problems.append(
                    f"{file}: {wrong} of {found.parity[kernels][file]['pixels']} values differ from "
                    f"validation on {kernels}" + (f"; {where}" if where else "")
                )
        if size is not None and "xnnpack" in kernel_sets and simulations.resizes:
            _note_fixed_size(found, file, simulations, pictures[file], references)


def _note_fixed_size(
    found: Verification,
    file: str,
    simulations: Simulations,
    images: Sequence[np.ndarray],
    references: References,
) -> None:
    """A bilinear resize runs on other kernels in a file for one size than in a file for any."""
    any_size, one_size = (
        references.of(simulations.network("xnnpack", fixed_size=fixed), images) for fixed in (False, True)
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
    simulations: Simulations,
    float_network: nn.Module | None,
    images: Sequence[np.ndarray],
    references: References,
) -> None:
    """Compares the ONNX files and the float TFLite files with their references; only reported.

    ONNX Runtime rounds by rules of its own, so the QDQ file is close to validation, not equal. Float
    files are compared with the float network; if only the int8 one is known, with its float ONNX file.
    """
    qdq = f"{name}_qdq.onnx"
    validation = references.of(simulations.network("xnnpack"), images)
    found.compare("onnxruntime", qdq, validation, OnnxRunner(folder / qdq, threads=1), images)
    float_onnx = OnnxRunner(folder / f"{name}.onnx", threads=1)
    float_reference: Runner = float_onnx
    if float_network is not None:
        float_reference = references.of(float_network, images)
        found.compare("onnxruntime", f"{name}.onnx", float_reference, float_onnx, images)
    for kind in ("fp32", "fp16"):
        file = f"{name}_{kind}.tflite"
        device = TFLiteRunner((folder / file).read_bytes(), threads=1)
        found.compare("xnnpack", file, float_reference, device, images)


def _of_size(image: np.ndarray, size: Size) -> np.ndarray:
    """Mirrors and crops (H, W, C) to ``size``."""
    height, width = (max(0, wanted - have) for wanted, have in zip(size, image.shape, strict=False))
    padded = np.pad(image, ((0, height), (0, width), (0, 0)), mode="symmetric")
    return np.ascontiguousarray(padded[: size[0], : size[1]])
