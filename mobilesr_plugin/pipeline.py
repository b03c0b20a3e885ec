"""An export from checkpoint to verified files, stage by stage."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mobilesr_plugin import checkpoint, model_card, report
from mobilesr_plugin.colour import rgb_to_ycbcr
from mobilesr_plugin.data.calibration import calibration_images
from mobilesr_plugin.data.samples import sample_images
from mobilesr_plugin.errors import OptionError, VerificationError
from mobilesr_plugin.export.memory import bytes_per_pixel, check_sizes
from mobilesr_plugin.export.metadata import contract, with_contract
from mobilesr_plugin.export.onnx_file import write_onnx
from mobilesr_plugin.export.staging import REPORT, UNVERIFIED, publish, staging
from mobilesr_plugin.export.tflite_file import TensorFlowModel
from mobilesr_plugin.free_memory import free_memory
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.graph.ops import Graph
from mobilesr_plugin.graph.rewrite import simplify
from mobilesr_plugin.graph.trace import trace
from mobilesr_plugin.options import ExportOptions, QuantizationOptions, default_size, parse_size
from mobilesr_plugin.quantization.calibrate import calibrate
from mobilesr_plugin.quantization.insert import insert_quantizers
from mobilesr_plugin.verify.files import Simulations, Verification, verify_int8, verify_onnx_and_float
from mobilesr_plugin.verify.parity import to_tensor
from mobilesr_plugin.verify.references import References
from mobilesr_plugin.verify.tflite_graph import read_operators

CALIBRATION_IMAGES = 100

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """What an export is made from: the two deploy graphs, and the network that judges the float files.

    ``calibration`` is the error of each rule for ranges that was tried; see ``finish_calibration``.
    """

    name: str
    quantized: Graph
    float_graph: Graph | None
    float_network: nn.Module | None
    source: dict[str, str]
    calibration: dict[str, float]


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Attributes:
        folder: Where the files lie.
        report: The content of report.json.
    """

    folder: Path
    report: dict[str, Any]

    @property
    def left_over(self) -> list[str]:
        """TFLite files in the folder that are not of this export, by name."""
        own = {file["name"] for file in self.report["files"]}
        return sorted(path.name for path in self.folder.glob("*.tflite") if path.name not in own)


def export(
    ckpt: Path,
    options: ExportOptions,
    *,
    opt_path: Path | None = None,
    progress: Progress = lambda stage: None,
) -> Exported:
    """Exports a checkpoint to ONNX and TFLite, and verifies every file.

    Args:
        ckpt: A .pth file of BasicSR or of QATSRModel.
        options: Sizes, ends, calibration images and folder; the folder defaults to ``export`` beside
            the checkpoint's ``models`` folder.
        opt_path: Option file that describes the network; see ``checkpoint.restore``.
        progress: Called with the name of each stage.

    Raises:
        CheckpointError, OptionError, DataError, UnsupportedNetworkError, ExportError: nothing is written.
            Also where another export writes the same folder, or a size takes more memory than is free.
        VerificationError: a file differs from validation; the files are kept beside a file UNVERIFIED.
    """
    started = time.perf_counter()
    progress("reading the checkpoint")
    prepared = prepare(ckpt, options, opt_path)
    graph = prepared.quantized
    sizes = options.sizes
    if sizes is None:
        sizes = (default_size(graph.input.channels, graph.scale),)
    check_sizes(sizes, bytes_per_pixel(graph), free_memory())
    folder = Path(options.out) if options.out else default_folder(ckpt)
    with staging(folder) as unfinished:
        progress("writing ONNX")
        write_onnx_files(prepared, unfinished)
        progress("converting to TFLite")
        write_tflite_files(prepared, unfinished, sizes, options.io)
        progress("verifying")
        verification = verify(prepared, unfinished, sizes, options)
        problems = verification.problems
        progress("writing the report")
        write_contracts(prepared, unfinished, sizes, options.io, verification)
        content = report.build(
            name=prepared.name,
            graph=graph,
            source=prepared.source,
            command=report.export_command(ckpt, options, opt_path),
            io=options.io,
            sizes=[parse_size(size) for size in sizes],
            operators={path.name: operator_names(path) for path in sorted(unfinished.glob("*.tflite"))},
            verification=verification,
            calibration=prepared.calibration,
            files=[describe_file(path) for path in sorted(unfinished.iterdir())],
            seconds=time.perf_counter() - started,
        )
        (unfinished / model_card.FILE).write_text(model_card.markdown(content), encoding="utf-8")
        content["files"].append(describe_file(unfinished / model_card.FILE))
        (unfinished / REPORT).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (unfinished / "report.md").write_text(report.markdown(content), encoding="utf-8")
        if problems:
            (unfinished / UNVERIFIED).write_text("\n".join(problems) + "\n", encoding="utf-8")
        publish(unfinished, folder)
    if problems:
        raise VerificationError(f"{problems[0]}; the files in {folder} are marked {UNVERIFIED}")
    return Exported(folder, content)


def prepare(ckpt: Path, options: ExportOptions, opt_path: Path | None) -> Prepared:
    """Restores the network, calibrates a float one, and lowers both forms to deploy graphs."""
    restored = checkpoint.restore(ckpt, opt_path)
    float_network, quantized = restored.float_network, restored.quantized_network
    errors: dict[str, float] = {}
    if quantized is None:
        assert float_network is not None
        if options.calib is None:
            raise OptionError(
                f"{ckpt} is a float checkpoint, which has no int8 ranges; give LR images to find them with "
                "--calib DIR_OR_LMDB, or train it with model_type QATSRModel"
            )
        images = calibration_images(Path(options.calib), restored.scale, CALIBRATION_IMAGES)
        quantized = insert_quantizers(float_network, QuantizationOptions())
        pictures = (to_tensor(image[None]) for image in images)
        if getattr(float_network, "num_in_ch", 3) == 1:
            pictures = (rgb_to_ycbcr(picture)[:, :1] for picture in pictures)
        errors = calibrate(quantized, pictures)
    float_graph = lower(simplify(trace(float_network))) if float_network is not None else None
    return Prepared(restored.name, lower(quantized), float_graph, float_network, restored.source, errors)


def default_folder(ckpt: Path) -> Path:
    """Returns ``experiments/<name>/export`` for a checkpoint in ``experiments/<name>/models``."""
    folder = ckpt.resolve().parent
    return (folder.parent if folder.name == "models" else folder) / "export"


def write_onnx_files(prepared: Prepared, folder: Path) -> None:
    """Writes ``<name>_qdq.onnx`` and, if the float network is known, ``<name>.onnx``."""
    write_onnx(prepared.quantized, folder / f"{prepared.name}_qdq.onnx")
    write_onnx(_float_graph(prepared), folder / f"{prepared.name}.onnx")


def write_tflite_files(prepared: Prepared, folder: Path, sizes: Sequence[str], io: str) -> None:
    """Writes the int8 files, one for each size and one for any, and the float ones."""
    name = prepared.name
    with tempfile.TemporaryDirectory() as scratch:
        ranges = Path(scratch) / "ranges.onnx"
        shifted = io != "float32"  # integer ends: the offset is part of the zero point
        write_onnx(prepared.quantized, ranges, integer_weights=False, shifted_image=shifted)
        quantized = TensorFlowModel(ranges)
    (folder / f"{name}_int8.tflite").write_bytes(quantized.int8_file(io=io))
    for size in sizes:
        fixed = quantized.int8_file(size=parse_size(size), io=io)
        (folder / int8_name(name, size)).write_bytes(fixed)
    floating = TensorFlowModel(folder / f"{name}.onnx")
    (folder / f"{name}_fp32.tflite").write_bytes(floating.float_file())
    (folder / f"{name}_fp16.tflite").write_bytes(floating.float_file(half=True))


def verify(prepared: Prepared, folder: Path, sizes: Sequence[str], options: ExportOptions) -> Verification:
    """Audits the int8 files and compares the pixels of every file with its reference."""
    name, graph = prepared.name, prepared.quantized
    images = list(sample_images().values())
    if graph.input.channels == 1:
        images = [image[:, :, 1:2] for image in images]
    int8_files = {int8_name(name): None, **{int8_name(name, size): parse_size(size) for size in sizes}}
    found = Verification()
    simulations = Simulations(graph)
    with References() as references:
        verify_int8(
            found,
            folder,
            int8_files,
            simulations,
            images,
            io=options.io,
            kernel_sets=options.kernels,
            references=references,
        )
        verify_onnx_and_float(found, folder, name, simulations, prepared.float_network, images, references)
    return found


def write_contracts(
    prepared: Prepared, folder: Path, sizes: Sequence[str], io: str, verification: Verification
) -> None:
    """Adds to each TFLite file what goes in, what comes out, and on which kernels it was verified."""
    name, graph = prepared.name, prepared.quantized
    files: list[tuple[str, str, str, tuple[int, int] | None]] = [
        (int8_name(name), "int8", io, None),
        (f"{name}_fp32.tflite", "float32", "float32", None),
        (f"{name}_fp16.tflite", "float16", "float32", None),
        *((int8_name(name, size), "int8", io, parse_size(size)) for size in sizes),
    ]
    for file, weights, dtype, size in files:
        wrong = weights != "int8" or any(problem.startswith(f"{file}:") for problem in verification.problems)
        ends = report.ends(graph, dtype)
        described = contract(
            model=name,
            scale=graph.scale,
            colour=ends["colour"],
            weights=weights,
            ends=ends,
            size=size,
            kernels=[] if wrong else [on for on, found in verification.parity.items() if file in found],
            source=prepared.source["sha256"],
        )
        (folder / file).write_bytes(with_contract((folder / file).read_bytes(), described))


def int8_name(name: str, size: str | None = None) -> str:
    """Returns the file name of the int8 file for ``size`` (None: any size)."""
    return f"{name}_int8_{size}.tflite" if size else f"{name}_int8.tflite"


def operator_names(path: Path) -> list[str]:
    """Returns the operators of a TFLite file in order of execution."""
    return [operator.kind for operator in read_operators(path.read_bytes())]


def describe_file(path: Path) -> dict[str, Any]:
    """Returns name, size in bytes and sha256 of a file."""
    content = path.read_bytes()
    return {"name": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _float_graph(prepared: Prepared) -> Graph:
    if prepared.float_graph is not None:
        return prepared.float_graph
    # Weights of a network that was trained for int8 from scratch: its own are the only float ones.
    bare = [dataclasses.replace(op, output=None) for op in prepared.quantized]
    return Graph(tuple(bare))
