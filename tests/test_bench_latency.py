"""`mobilesr bench latency`: what it cuts out of files, what it says of them, and the command."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from networks import calibrated, noise, seeded_abpn, seeded_sesr

from mobilesr_plugin import checkpoint
from mobilesr_plugin.bench import latency, npu, per_operator
from mobilesr_plugin.bench.delegation import BUILTIN, XNNPACK, kernels_of
from mobilesr_plugin.bench.memory import peak_memory
from mobilesr_plugin.bench.node_graphs import Candidate, candidates, convert, rounded
from mobilesr_plugin.bench.rounds import WARM_UP, alternate
from mobilesr_plugin.bench.tflite_cut import bare_convolutions, first_operators
from mobilesr_plugin.errors import DataError, MissingExtraError, OptionError
from mobilesr_plugin.export.onnx_file import write_onnx
from mobilesr_plugin.export.tflite_file import TensorFlowModel
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.runtimes import TFLiteRunner
from mobilesr_plugin.tflite_model import TFLiteModel
from mobilesr_plugin.verify.tflite_graph import read_operators, with_all_outputs

HEIGHT, WIDTH = SIZE = (24, 32)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a seeded ABPN x2 as .pth, .onnx and .tflite (any size and SIZE), and SESR-M3."""
    folder = tmp_path_factory.mktemp("files")
    network = seeded_abpn(2, num_feat=8, num_block=2)
    quantized = calibrated(network)
    network_g = {"type": "ABPN", "num_in_ch": 3, "num_feat": 8, "num_block": 2, "upscale": 2}
    described = checkpoint.describe({"scale": 2, "network_g": network_g})
    entries = {"params": quantized.state_dict(), "mobilesr": described}
    checkpoint.save(folder / "ranges_only.pth", entries)
    checkpoint.save(folder / "abpn.pth", {**entries, "params_float": network.state_dict()})
    graph = lower(quantized)
    write_onnx(graph, folder / "abpn.onnx")
    write_onnx(graph, folder / "ranges.onnx", integer_weights=False)
    model = TensorFlowModel(folder / "ranges.onnx")
    (folder / "abpn.tflite").write_bytes(model.int8_file())
    (folder / "abpn_fixed.tflite").write_bytes(model.int8_file(size=SIZE))
    (folder / "abpn_int8_ends.tflite").write_bytes(model.int8_file(size=SIZE, io="int8"))
    sesr = lower(calibrated(seeded_sesr(1, variant="M3", activation="relu")))
    write_onnx(sesr, folder / "sesr_ranges.onnx", integer_weights=False, shifted_image=True)
    (folder / "sesr.tflite").write_bytes(TensorFlowModel(folder / "sesr_ranges.onnx").int8_file(size=SIZE))
    return folder


def kinds(content: bytes) -> list[str]:
    return [operator.kind for operator in read_operators(content)]


# Parts of a file


@pytest.mark.parametrize("name", ["abpn_fixed", "abpn", "sesr"])
def test_a_cut_file_computes_what_the_whole_one_does_up_to_there(files: Path, name: str) -> None:
    content = (files / f"{name}.tflite").read_bytes()
    every, results = with_all_outputs(content)
    whole = TFLiteRunner(every)
    image = noise(HEIGHT, WIDTH)[None, :, :, : whole.channels]
    pixels, *values = whole.outputs(image)
    expected = dict(zip((tensor.index for tensor in results), values, strict=True))
    operators = read_operators(content)
    for count in range(1, len(operators)):
        part = first_operators(content, count)
        assert kinds(part) == kinds(content)[:count]
        runner = TFLiteRunner(part)
        runner(image)
        detail = runner._interpreter.get_output_details()[0]
        (wanted,) = operators[count - 1].outputs
        assert np.array_equal(runner._interpreter.get_tensor(detail["index"]), expected[wanted.index]), count
    assert np.array_equal(TFLiteRunner(first_operators(content, len(operators)))(image), pixels)


def test_what_is_read_later_is_an_output(files: Path) -> None:
    """Else a runtime may drop the anchor, which only the addition behind the convolutions reads."""
    content = (files / "abpn_fixed.tflite").read_bytes()
    order = kinds(content)
    operators = read_operators(content)
    (anchor,) = (
        index
        for index, found in enumerate(operators)
        if found.kind == "CONV_2D" and found.inputs[1].shape[1:3] == (1, 1)
    )
    last = order.index("ADD") - 1
    part = TFLiteModel(first_operators(content, last))
    assert TFLiteModel(content).outputs(anchor)[0] in list(part.graph.outputs)


@pytest.mark.parametrize("name", ["abpn_fixed", "abpn_int8_ends", "abpn", "sesr"])
def test_bare_convolutions(files: Path, name: str) -> None:
    content = (files / f"{name}.tflite").read_bytes()
    bare = bare_convolutions(content)
    assert set(kinds(bare)) == {"CONV_2D"}
    before = [operator for operator in read_operators(content) if operator.kind == "CONV_2D"]
    before = [operator for operator in before if operator.inputs[1].shape[1:3] != (1, 1)]  # copies
    after = read_operators(bare)
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        assert np.array_equal(old.inputs[1].values, new.inputs[1].values)
        assert old.outputs[0].shape == new.outputs[0].shape
        source, weight, bias = new.inputs
        assert np.allclose(bias.scale, source.scale * weight.scale, rtol=1e-5)  # else TFLite refuses it
    for first, second in itertools.pairwise(after):
        assert second.inputs[0].index == first.outputs[0].index  # one chain
    runner = TFLiteRunner(bare)
    codes = runner.outputs(noise(HEIGHT, WIDTH)[None, :, :, : runner.channels])[0]
    assert codes.shape == (1, HEIGHT, WIDTH, before[-1].outputs[0].shape[3])
    assert set(kernels_of(runner.nodes())) == {XNNPACK}


def test_no_bare_convolutions(files: Path) -> None:
    (shuffle,) = (each for each in candidates(8, 2) if each.name == "depth-to-space")
    with pytest.raises(DataError, match="no convolution"):
        bare_convolutions(convert(shuffle, SIZE))
    with pytest.raises(DataError, match="no TFLite file"):
        bare_convolutions((files / "abpn.onnx").read_bytes())


# Which kernels


def test_which_operators_xnnpack_takes(files: Path) -> None:
    content = (files / "abpn_fixed.tflite").read_bytes()
    default, builtin = TFLiteRunner(content), TFLiteRunner(content, kernels="tflite_builtin")
    assert kernels_of(default.nodes()) == [XNNPACK] * len(kinds(content))
    assert kernels_of(builtin.nodes()) == [BUILTIN] * len(kinds(content))


def test_a_concatenation_of_nine_is_left(tmp_path: Path) -> None:
    """XNNPACK concatenates up to five values: at x3 the anchor is left, at x2 it is taken."""
    for scale, by in ((3, BUILTIN), (2, XNNPACK)):
        (anchor,) = (each for each in candidates(4, scale) if each.name == "residual: anchor")
        content = convert(anchor, SIZE)
        nodes = TFLiteRunner(content).nodes()
        assert dict(zip(kinds(content), kernels_of(nodes), strict=True))["CONCATENATION"] == by


# Time and memory


def test_rounds_rotate_and_warm_up() -> None:
    order: list[int] = []
    done: list[tuple[int, int]] = []
    times = alternate([lambda n=n: order.append(n) for n in range(3)], 4, lambda *now: done.append(now))  # type: ignore[misc]
    assert times.shape == (3, 4)
    rounds = [order[start : start + 3] for start in range(0, len(order), 3)]
    assert len(rounds) == 4 + WARM_UP
    assert all(sorted(own) == [0, 1, 2] for own in rounds)
    assert {own[0] for own in rounds} == {0, 1, 2}
    assert done[-1] == (7, 7)
    with pytest.raises(OptionError, match="runs is 2; a median needs at least 3"):
        alternate([], 2)


def test_the_slow_operator_is_found(tmp_path: Path) -> None:
    """A PReLU in TFLite's own kernels takes many times as long as the small convolutions around it."""
    conv, prelu = (each for each in candidates(16, 2) if each.name in ("PReLU", "conv 1x1"))

    def build(inputs: list[object]) -> object:
        import tensorflow

        first = rounded(tensorflow, conv.build(inputs))
        return conv.build([rounded(tensorflow, prelu.build([first]))])

    path = tmp_path / "file.tflite"
    path.write_bytes(convert(Candidate("three", False, (3,), build), (96, 96)))
    found = per_operator.measure(path, size=(96, 96), threads=1, runs=9)
    assert [(each.kind, each.kernels) for each in found.operators] == [
        ("CONV_2D", XNNPACK),
        ("PRELU", BUILTIN),
        ("CONV_2D", XNNPACK),
    ]
    assert all(each.shape == (1, 96, 96, 16) for each in found.operators)
    assert max(found.operators, key=lambda each: each.milliseconds).kind == "PRELU"
    assert found.operators[1].share > 0.5
    assert found.total == pytest.approx(sum(each.milliseconds for each in found.operators))
    assert found.ratio is not None
    assert found.ratio > 2


def test_memory_grows_with_the_image(files: Path) -> None:
    small, large = (
        peak_memory(files / "abpn.tflite", size, threads=1, kernels="xnnpack")
        for size in ((24, 32), (480, 640))
    )
    if small is None or large is None:
        pytest.skip("the system keeps no high-water mark of memory")
    one_layer = 480 * 640 * 8
    assert large - small > 2 * one_layer  # a layer's input and output, at least
    assert large < 480 * 640 * 1000


def test_float_network_of_a_checkpoint(files: Path) -> None:
    (row,) = latency.measure([files / "abpn.pth"], size=SIZE, threads=1, runs=3)
    assert (row.file, row.part) == ("abpn.pth", "float network, PyTorch")
    assert row.xnnpack is None
    assert row.median > 0


# NPU


@pytest.fixture
def vela() -> None:
    pytest.importorskip("ethosu", reason="needs the extra npu")


@pytest.mark.usefixtures("vela")
def test_npu_estimates(files: Path) -> None:
    path = files / "abpn_int8_ends.tflite"
    small, large = (npu.estimate(path, name) for name in ("ethos-u55-32", "ethos-u55-256"))
    assert small.cycles > large.cycles > 0
    assert large.milliseconds == pytest.approx(large.cycles / large.megahertz / 1e3)
    assert large.cpu_operators == ("DEPTH_TO_SPACE",)
    assert large.reasons == ("DEPTH_TO_SPACE: Unsupported opType",)
    assert (large.accelerator, large.sram_bytes > 0) == ("ethos-u55-256", True)


@pytest.mark.usefixtures("vela")
def test_what_vela_cannot_compile(files: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="images of any size; Vela needs a file with a size in its name"):
        npu.estimate(files / "abpn.tflite", "ethos-u65-512")
    with pytest.raises(OptionError, match=r"npu is 'ethos-u99'; it must be one of ethos-u55-32, "):
        npu.estimate(files / "abpn_fixed.tflite", "ethos-u99")
    with pytest.raises(OptionError, match=r"no \.tflite file"):
        npu.estimate(files / "abpn.onnx", "ethos-u65-512")
    assert not list(tmp_path.iterdir())


def test_vela_is_not_installed(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ethosu", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mobilesr-plugin\[npu\]'") as caught:
        npu.estimate(files / "abpn_fixed.tflite", "ethos-u65-512")
    assert "\n" not in str(caught.value)


# The command


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mobilesr_plugin.cli", "bench", "latency", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})


@pytest.mark.slow
def test_json_has_everything(files: Path) -> None:
    given = [files / name for name in ("abpn_fixed.tflite", "abpn.onnx", "abpn.pth")]
    done = bench(*given, "--size", "24x32", "--runs", "3", "--threads", "1", "--per-op", "--json")
    assert done.stderr == ""
    rows = json.loads(done.stdout)
    assert [row["file"] for row in rows] == [path.name for path in given]
    assert rows[0]["ratio"] == 1
    for row in rows:
        assert 0 < row["low"] <= row["median"] <= row["high"]
        assert row["peak_bytes"] is None or row["peak_bytes"] > 100_000
    order = kinds(given[0].read_bytes())
    assert sorted(rows[0]["xnnpack"] + rows[0]["builtin"]) == sorted(order)
    assert [each["kind"] for each in rows[0]["per_operator"]["operators"]] == order
    assert rows[0]["per_operator"]["ratio"] > 0
    assert "per_operator" not in rows[1]


@pytest.mark.usefixtures("vela")
def test_tables(files: Path) -> None:
    path = files / "abpn_fixed.tflite"
    options = ["--size", "24x32", "--runs", "3", "--threads", "1"]
    done = bench(path, *options, "--per-op", "--npu", "ethos-u65-512")
    assert done.returncode == 0, done.stderr
    assert "| 2 DEQUANTIZE, 2 QUANTIZE, 6 CONV_2D, ADD, DEPTH_TO_SPACE |  |" in done.stdout
    for line in ("| QUANTIZE | 48x64x3 | XNNPACK |", "| sum | | | ", "| the whole / its convolutions | | | "):
        assert line in done.stdout
    assert "| abpn_fixed.tflite | ethos-u65-512 (Ethos_U65_Client_Server, " in done.stdout
    assert "- abpn_fixed.tflite: DEPTH_TO_SPACE: Unsupported opType" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["ranges_only.pth"], "ranges_only.pth holds no float network that could be timed; export it"),
        (["abpn_fixed.tflite", "--size", "30x30"], "takes images of 24x32 only, got 30x30"),
        (["abpn.onnx", "--runs", "2"], "runs is 2; a median needs at least 3"),
        (["abpn.onnx", "--per-op"], "--per-op and --npu need a .tflite file"),
        (["abpn.onnx", "--kernels", "gpu", "abpn.tflite"], "it must be one of xnnpack, tflite_builtin"),
        (["missing.onnx"], "missing.onnx does not exist"),
    ],
)
def test_wrong_usage_is_one_line(files: Path, arguments: list[str], named: str) -> None:
    given = [str(files / text) if "." in text else text for text in arguments]
    done = bench(*given, *([] if "--size" in given else ["--size", "24x32"]))
    assert done.returncode == 1
    assert named in done.stderr
    assert done.stderr.count("\n") == 1
