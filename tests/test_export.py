"""Exports of ABPN: what lies in the files, and that they compute what validation saw."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from filelock import FileLock
from networks import calibrated, noise, seeded_abpn
from PIL import Image

from mobilesr_plugin import checkpoint, pipeline
from mobilesr_plugin.errors import CheckpointError, DataError, OptionError, VerificationError
from mobilesr_plugin.export.tflite_file import TensorFlowModel
from mobilesr_plugin.graph.int8 import quantize_weight
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.graph.ops import Graph
from mobilesr_plugin.options import ExportOptions
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import OnnxRunner, TFLiteRunner
from mobilesr_plugin.verify.audit import audit, expected_operators, matched
from mobilesr_plugin.verify.parity import first_difference, network_runner
from mobilesr_plugin.verify.tflite_graph import read_operators

# One convolution more than the network has: copies of the image, which XNNPACK makes on all threads.
ENDS = ["DEQUANTIZE", "QUANTIZE"]  # between uint8 and int8
ABPN_INT8 = [*ENDS, *["CONV_2D"] * 8, "ADD", "DEPTH_TO_SPACE", *ENDS]
SIZE = "48x64"

Export = Callable[..., pipeline.Exported]


def save_checkpoint(path: Path, upscale: int, *, quantized: bool) -> Path:
    network = seeded_abpn(upscale)
    described = {"scale": upscale, "network_g": {"type": "ABPN", "num_in_ch": 3, "upscale": upscale}}
    entries = {"params": network.state_dict(), "mobilesr": checkpoint.describe(described)}
    if quantized:
        entries["params_float"] = entries["params"]
        entries["params"] = calibrated(network).state_dict()
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, entries)
    return path


def quantized_graph(ckpt: Path) -> Graph:
    network = checkpoint.restore(ckpt).quantized_network
    assert network is not None
    return lower(network)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Export:
    """Exports a seeded ABPN once for each set of arguments, for all test processes together."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def export(upscale: int = 3, io: str = "uint8") -> pipeline.Exported:
        folder = shared / f"abpn_x{upscale}_{io}"
        with FileLock(f"{folder}.lock"):
            if not (folder / "export" / "report.json").exists():
                ckpt = save_checkpoint(folder / "models" / "net_g_latest.pth", upscale, quantized=True)
                return pipeline.export(ckpt, ExportOptions(sizes=(SIZE,), io=io))
        report = json.loads((folder / "export" / "report.json").read_text())
        return pipeline.Exported(folder / "export", report)

    return export


@pytest.mark.parametrize("upscale", [2, 3, 4])
def test_int8_files_have_these_operators_and_no_others(exported: Export, upscale: int) -> None:
    ops = exported(upscale).report["ops"]
    assert sorted(ops[f"abpn_x{upscale}_int8.tflite"]) == sorted(ABPN_INT8)
    assert sorted(ops[f"abpn_x{upscale}_int8_{SIZE}.tflite"]) == sorted(ABPN_INT8)


@pytest.mark.parametrize("upscale", [2, 3, 4])
@pytest.mark.parametrize("fixed", [False, True])
def test_the_device_gives_the_bytes_that_validation_saw(exported: Export, upscale: int, fixed: bool) -> None:
    folder = exported(upscale).folder
    validation = network_runner(
        IntegerNetwork(quantized_graph(folder.parent / "models" / "net_g_latest.pth"))
    )
    name = f"abpn_x{upscale}_int8_{SIZE}.tflite" if fixed else f"abpn_x{upscale}_int8.tflite"
    device = TFLiteRunner(folder / name)
    for height, width in [(48, 64)] if fixed else [(48, 64), (31, 57), (1, 1), (5, 120)]:
        image = noise(height, width, seed=height)[None]
        pixels = device(image)
        assert pixels.shape == (1, height * upscale, width * upscale, 3)
        assert np.array_equal(pixels, validation(image))


def test_every_number_arrives(exported: Export) -> None:
    """int8 weights, int32 biases, scales and zero points, read from the file's own tensors."""
    folder = exported(3).folder
    graph = quantized_graph(folder.parent / "models" / "net_g_latest.pth")
    content = (folder / "abpn_x3_int8.tflite").read_bytes()
    assert audit(content, graph) == []
    for operator in read_operators(content):
        if operator.kind == "CONV_2D":
            source, weight, bias = operator.inputs
            assert (source.dtype, weight.dtype, bias.dtype) == ("int8", "int8", "int32")
            assert len(weight.scale) == weight.shape[0]
            assert not weight.zero_point.any()


def test_the_audit_sees_another_network(exported: Export) -> None:
    content = (exported(3).folder / "abpn_x3_int8.tflite").read_bytes()
    other = lower(
        calibrated(seeded_abpn(3, num_feat=28, num_block=4), observer="percentile", percentile=99.0)
    )
    problems = audit(content, other)
    assert any("scale" in problem for problem in problems)
    fewer = lower(calibrated(seeded_abpn(3, num_block=3)))
    assert "expected" in audit(content, fewer)[0]


@pytest.mark.parametrize("kernels", ["xnnpack", "tflite_builtin"])
def test_a_difference_is_traced_to_its_layer(exported: Export, kernels: str) -> None:
    """One weight of one layer is another: this layer is named, and no other."""
    folder = exported(3).folder
    graph = quantized_graph(folder.parent / "models" / "net_g_latest.pth")
    content = (folder / "abpn_x3_int8.tflite").read_bytes()
    image = noise(40, 44)
    assert first_difference(graph, content, image, kernels) is None
    conv = graph.convolutions[2]
    weight = conv.weight.copy()
    weight[5] *= -1
    damaged = Graph(tuple(replace(op, weight=weight) if op is conv else op for op in graph))
    found = first_difference(damaged, content, image, kernels)
    assert found is not None
    assert found.layer == conv.name
    assert 0 < found.mismatched <= 40 * 44 < found.values


@pytest.mark.slow
@pytest.mark.parametrize("io", ["int8", "float32"])
def test_other_ends(exported: Export, io: str) -> None:
    usual, other = exported(3), exported(3, io=io)
    image = noise(48, 64)[None]
    pixels = [TFLiteRunner(done.folder / "abpn_x3_int8.tflite")(image) for done in (usual, other)]
    assert np.array_equal(*pixels)
    assert other.report["io"]["input"]["dtype"] == io
    assert read_operators((other.folder / "abpn_x3_int8.tflite").read_bytes())[0].inputs[0].dtype == io


def test_float_files_follow_the_float_network(exported: Export) -> None:
    folder = exported(3).folder
    network = checkpoint.restore(folder.parent / "models" / "net_g_latest.pth").float_network
    assert network is not None
    image = noise(33, 47)[None]
    expected = network_runner(network)(image).astype(int)
    for runner in (OnnxRunner(folder / "abpn_x3.onnx"), TFLiteRunner(folder / "abpn_x3_fp32.tflite")):
        assert np.abs(runner(image) - expected).max() <= 1
    assert np.abs(TFLiteRunner(folder / "abpn_x3_fp16.tflite")(image) - expected).max() <= 1
    fp16 = read_operators((folder / "abpn_x3_fp16.tflite").read_bytes())
    assert any(tensor.dtype == "float16" for operator in fp16 for tensor in operator.inputs)


def test_qdq_onnx_holds_the_same_integers(exported: Export) -> None:
    folder = exported(3).folder
    graph = quantized_graph(folder.parent / "models" / "net_g_latest.pth")
    model = onnx.load(folder / "abpn_x3_qdq.onnx")
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    content = read_operators((folder / "abpn_x3_int8.tflite").read_bytes())
    device = {op.name: operator for op, operator in matched(graph, content)}
    for conv in graph.convolutions:
        operator = device[conv.name]
        weight = constants[f"{conv.name}.weight.codes"]
        assert weight.dtype == np.int8
        assert np.array_equal(weight.transpose(0, 2, 3, 1), operator.inputs[1].values)
        assert np.array_equal(constants[f"{conv.name}.bias.codes"], operator.inputs[2].values)
    moved = {"DepthToSpace", "Identity"}
    kinds = {node.op_type for node in model.graph.node}
    assert kinds == {"QuantizeLinear", "DequantizeLinear", "Conv", "Relu", "Add"} | moved


def test_report(exported: Export) -> None:
    done = exported(3)
    report = json.loads((done.folder / "report.json").read_text())
    assert report["verified"] is True
    assert (report["model"], report["scale"], report["params"]) == ("abpn_x3", 3, 42_539)
    assert report["macs"] == {SIZE: 48 * 64 * 42_345}
    assert report["io"]["input"] == {"dtype": "uint8", "scale": np.float32(1 / 255).item(), "zero_point": 0}
    for file in report["files"]:
        content = (done.folder / file["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    assert report["parity"]["xnnpack"]["abpn_x3_int8.tflite"]["mismatched"] == 0
    assert report["parity"]["xnnpack"]["abpn_x3_int8.tflite"]["pixels"] > 1_000_000
    assert "verified" in (done.folder / "report.md").read_text()
    ckpt = done.folder.parent / "models" / "net_g_latest.pth"
    assert report["source"]["sha256"] == hashlib.sha256(ckpt.read_bytes()).hexdigest()
    assert report["seconds"] < 60


def test_nothing_else_is_left_behind(exported: Export) -> None:
    names = {path.name for path in exported(3).folder.iterdir()}
    assert names == {
        *("abpn_x3.onnx", "abpn_x3_qdq.onnx", "abpn_x3_fp32.tflite", "abpn_x3_fp16.tflite"),
        *("abpn_x3_int8.tflite", f"abpn_x3_int8_{SIZE}.tflite", "report.json", "report.md", "MODEL_CARD.md"),
    }


def test_float_checkpoint_is_calibrated_on_given_images(tmp_path: Path) -> None:
    ckpt = save_checkpoint(tmp_path / "float.pth", 2, quantized=False)
    with pytest.raises(OptionError, match="--calib"):
        pipeline.export(ckpt, ExportOptions(out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
    (tmp_path / "lr").mkdir()
    for seed in range(3):
        Image.fromarray(noise(40, 40, seed)).save(tmp_path / "lr" / f"{seed}.png")
    options = ExportOptions(out=str(tmp_path / "out"), calib=str(tmp_path / "lr"), sizes=())
    done = pipeline.export(ckpt, options)
    assert done.report["parity"]["xnnpack"]["abpn_x2_int8.tflite"]["mismatched"] == 0


def test_yaml_beside_the_checkpoint_describes_it(tmp_path: Path) -> None:
    network = seeded_abpn(2, num_feat=8, num_block=1)
    (tmp_path / "models").mkdir()
    ckpt = tmp_path / "models" / "net_g_latest.pth"
    checkpoint.save(ckpt, {"params": network.state_dict()})
    with pytest.raises(CheckpointError, match="--opt"):
        checkpoint.restore(ckpt)
    (tmp_path / "abpn_x2.yml").write_text(
        "scale: 2\nnetwork_g: {type: ABPN, num_in_ch: 3, num_feat: 8, num_block: 1, upscale: 2}\n"
    )
    restored = checkpoint.restore(ckpt)
    assert (restored.name, restored.scale, restored.quantized_network) == ("abpn_x2", 2, None)


def test_a_file_that_differs_is_kept_and_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A converter that damages one weight: exit code 3, the layer named, the files marked."""
    ckpt = save_checkpoint(tmp_path / "models" / "net_g_latest.pth", 2, quantized=True)
    graph = quantized_graph(ckpt)
    codes = quantize_weight(graph.convolutions[3].weight).transpose(0, 2, 3, 1).tobytes()
    convert = TensorFlowModel.int8_file

    def damaged(self: TensorFlowModel, **arguments: object) -> bytes:
        content = convert(self, **arguments)
        at = content.index(codes)
        flipped = bytes([content[at] ^ 0x40])
        return content[:at] + flipped + content[at + 1 :]

    monkeypatch.setattr(TensorFlowModel, "int8_file", damaged)
    with pytest.raises(VerificationError, match=r"body\.2") as caught:
        pipeline.export(ckpt, ExportOptions(sizes=()))
    assert caught.value.exit_code == 3
    folder = tmp_path / "export"
    assert "body.2: the int8 weights differ" in (folder / "UNVERIFIED").read_text()
    assert json.loads((folder / "report.json").read_text())["verified"] is False
    assert (folder / "abpn_x2_int8.tflite").exists()
    monkeypatch.undo()
    pipeline.export(ckpt, ExportOptions(sizes=()))
    assert not (folder / "UNVERIFIED").exists()


@pytest.mark.slow
def test_an_interrupted_export_leaves_nothing(tmp_path: Path) -> None:
    ckpt = save_checkpoint(tmp_path / "models" / "net_g_latest.pth", 2, quantized=True)
    command = [sys.executable, "-m", "mobilesr_plugin.cli", "export", "--ckpt", str(ckpt)]
    process = subprocess.Popen(
        command,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests may run in the background
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = tmp_path / "export"
    deadline = time.monotonic() + 60
    while not list(folder.glob(".unfinished-*/*.onnx")):
        assert time.monotonic() < deadline, "the export never began to write"
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_unwritable_output(tmp_path: Path) -> None:
    ckpt = save_checkpoint(tmp_path / "net.pth", 2, quantized=True)
    (tmp_path / "file").write_text("")
    done = cli("export", "--ckpt", ckpt, "--out", tmp_path / "file" / "export")
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["export", "--ckpt", "missing.pth"], 1, "missing.pth does not exist"),
        (["export", "--ckpt", "missing.pth", "--size", "360"], 1, "HEIGHTxWIDTH"),
        (["export", "--ckpt", "missing.pth", "--io", "int4"], 1, "uint8, int8, float32"),
        (["export"], 2, "--ckpt"),
        (["bench", "latency", "missing.tflite"], 1, "missing.tflite cannot be read"),
        (["bench", "latency", "setup.py"], 1, "no .tflite or .onnx"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], code: int, named: str) -> None:
    done = cli(*arguments)
    assert done.returncode == code
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert done.stderr.count("\n") == 1


def test_constants_lie_where_the_schema_wants_them(exported: Export) -> None:
    """force_align: 16 for the bytes of a buffer; ARM processors fault on int32 that lies elsewhere."""
    for path in exported(3).folder.glob("*_int8*.tflite"):
        content = path.read_bytes()
        model = schema.Model.GetRootAs(content)
        graph = model.Subgraphs(0)
        tensors = [graph.Tensors(index) for index in range(graph.TensorsLength())]
        buffers = [model.Buffers(tensor.Buffer()) for tensor in tensors]
        constants = [buffer for buffer in buffers if not buffer.DataIsNone() and buffer.DataLength() > 0]
        assert len(constants) > 7
        field = 4  # of `data`, the first in the table
        for buffer in constants:
            assert buffer._tab.Vector(buffer._tab.Offset(field)) % 16 == 0, path.name


def test_latency_table(exported: Export) -> None:
    folder = exported(3).folder
    files = [folder / f"abpn_x3_int8_{SIZE}.tflite", folder / "abpn_x3_fp32.tflite", folder / "abpn_x3.onnx"]
    done = cli("bench", "latency", *files, "--size", SIZE, "--runs", "5", "--json")
    rows = json.loads(done.stdout)
    assert [row["file"] for row in rows] == [path.name for path in files]
    assert rows[0]["ratio"] == 1
    assert all(0 < row["low"] <= row["median"] <= row["high"] for row in rows)


def test_a_fixed_file_says_its_size(exported: Export) -> None:
    runner = TFLiteRunner(exported(3).folder / f"abpn_x3_int8_{SIZE}.tflite")
    with pytest.raises(DataError, match="48x64 only, got 40x40"):
        runner(noise(40, 40)[None])


def test_expected_operators_depend_on_the_ends() -> None:
    graph = lower(calibrated(seeded_abpn(2)))
    assert expected_operators(graph) == sorted(ABPN_INT8)
    assert "QUANTIZE" not in expected_operators(graph, "int8")
    assert "DEQUANTIZE" in expected_operators(graph, "float32")


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mobilesr_plugin.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
