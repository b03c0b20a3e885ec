"""SESR on the device: every variant, scale and number of channels, operator by operator and byte by byte."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import calibrated, noise, seeded_sesr, tensor
from torch import nn

from mobilesr_plugin import checkpoint, pipeline
from mobilesr_plugin.archs.sesr_arch import VARIANTS
from mobilesr_plugin.export.onnx_file import write_onnx
from mobilesr_plugin.export.tflite_file import TensorFlowModel
from mobilesr_plugin.graph.int8 import quantize_bias, weight_scales
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.graph.rewrite import simplify
from mobilesr_plugin.graph.trace import trace
from mobilesr_plugin.options import ExportOptions, default_size
from mobilesr_plugin.quantization.insert import quantizers_of
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import TFLiteRunner
from mobilesr_plugin.verify.audit import audit
from mobilesr_plugin.verify.parity import network_runner
from mobilesr_plugin.verify.tflite_graph import read_operators

ENDS = ["DEQUANTIZE", "QUANTIZE"]  # between uint8 and int8
# Each variant, scale and number of channels once; the others are slow.
QUICK = {("M3", 4, 3), ("M5", 2, 1), ("M7", 4, 1), ("XL", 2, 3)}
CASES = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
    for case in itertools.product(VARIANTS, (2, 4), (1, 3))
]


@pytest.mark.parametrize(("variant", "upscale", "channels"), CASES)
def test_from_training_to_bytes(variant: str, upscale: int, channels: int, tmp_path: Path) -> None:
    network = seeded_sesr(channels, variant=variant, upscale=upscale, activation="relu")
    quantized = calibrated(network)
    for quantizer in quantizers_of(quantized).values():
        quantizer.learn_range()
    quantized(tensor(noise(16, 16, 3)[:, :, :channels])).square().mean().backward()
    for name, parameter in quantized.named_parameters():
        assert parameter.grad is not None or "quantizer" in name, name

    graph = lower(quantized)
    write_onnx(graph, tmp_path / "ranges.onnx", integer_weights=False, shifted_image=True)
    content = TensorFlowModel(tmp_path / "ranges.onnx").int8_file()
    operators = read_operators(content)
    convolutions = ["CONV_2D"] * (VARIANTS[variant].num_block + 2)
    copies = "CONV_2D"  # of the image, for each output channel of the last convolution
    expected = [*ENDS, copies, *convolutions, "ADD", "ADD", "DEPTH_TO_SPACE", *ENDS]
    assert sorted(operator.kind for operator in operators) == sorted(expected)
    assert audit(content, graph) == []
    (image,) = operators[0].inputs
    assert (image.dtype, image.zero_point[0], image.scale[0]) == ("uint8", 128, np.float32(1 / 255))

    device, validation = TFLiteRunner(content), network_runner(IntegerNetwork(graph))
    for height, width in ((24, 36), (7, 11), (1, 1)):
        pixels = noise(height, width, seed=height)[None, :, :, :channels]
        assert np.array_equal(device(pixels), validation(pixels))


def test_m5_x2_has_one_convolution_for_each_block(tmp_path: Path) -> None:
    graph = lower(calibrated(seeded_sesr(variant="M5", upscale=2, activation="relu")))
    write_onnx(graph, tmp_path / "ranges.onnx", integer_weights=False, shifted_image=True)
    content = TensorFlowModel(tmp_path / "ranges.onnx").int8_file()
    kinds = [operator.kind for operator in read_operators(content)]
    expected = [*ENDS, *["CONV_2D"] * 8, "ADD", "ADD", "DEPTH_TO_SPACE", *ENDS]
    assert sorted(kinds) == sorted(expected)


def test_the_offset_moves_into_the_last_bias_and_survives_the_converter(tmp_path: Path) -> None:
    """A constant bias would get the first channel's scale for all channels, silently."""
    graph = lower(calibrated(seeded_sesr(variant="M3", upscale=2, activation="relu")))
    last = graph.convolutions[-1]
    assert last.bias == pytest.approx(np.full(4, 128 / 255), abs=2e-6)
    assert len(set(last.bias.tolist())) > 1
    source = graph[last.inputs[0]].output
    assert source is not None
    expected = quantize_bias(last.bias, source, weight_scales(last.weight))
    assert len(set(expected.tolist())) == 4
    write_onnx(graph, tmp_path / "ranges.onnx", integer_weights=False, shifted_image=True)
    content = TensorFlowModel(tmp_path / "ranges.onnx").int8_file()
    written = [operator for operator in read_operators(content) if operator.kind == "CONV_2D"][-1]
    assert np.array_equal(written.inputs[2].values, expected)


@pytest.mark.parametrize("activation", ["prelu", "relu"])
@pytest.mark.parametrize("channels", [1, 3])
def test_folding_the_offset_keeps_the_function(activation: str, channels: int) -> None:
    network = seeded_sesr(channels, variant="M3", upscale=4, activation=activation)
    image = tensor(noise(15, 21)[:, :, :channels])
    with torch.no_grad():
        difference = simplify(trace(network))(image) - network(image)
    assert difference.abs().max() < 1e-5


@pytest.mark.parametrize("io", ["uint8", pytest.param("float32", marks=pytest.mark.slow)])
def test_a_whole_export(tmp_path: Path, io: str) -> None:
    """A ReLU network for int8 that was trained from a PReLU one in float: both are exported."""
    trained_from = {"type": "SESR", "variant": "M5", "upscale": 2}
    described = checkpoint.describe(
        {"scale": 2, "network_g": {**trained_from, "activation": "relu"}}, trained_from
    )
    entries = {
        "params": calibrated(seeded_sesr(activation="relu")).state_dict(),
        "params_float": seeded_sesr(activation="prelu").state_dict(),
        "mobilesr": described,
    }
    checkpoint.save(tmp_path / "net.pth", entries)
    options = ExportOptions(sizes=("40x48",), io=io, out=str(tmp_path / "out"))
    done = pipeline.export(tmp_path / "net.pth", options)
    assert done.report["model"] == "sesr_m5_x2"
    assert done.report["params"] == 13_520 + 16 * 6 + 4  # a bias for each channel
    assert done.report["macs"]["40x48"] == 40 * 48 * 13_520
    int8 = done.report["ops"]["sesr_m5_x2_int8.tflite"]
    assert ("SUB" in int8) == (io == "float32")
    assert "PRELU" in done.report["ops"]["sesr_m5_x2_fp32.tflite"]
    floats = done.report["parity"]["xnnpack"]["sesr_m5_x2_fp32.tflite"]
    assert floats["max_abs_diff"] <= 1
    if io == "uint8":
        assert done.report["io"]["input"] == {
            "dtype": "uint8",
            "scale": np.float32(1 / 255).item(),
            "zero_point": 128,
        }


@pytest.mark.parametrize("dead", ["body.4", "body.0"])
def test_dead_layers_stay_exact(dead: str, tmp_path: Path) -> None:
    """A layer that writes nothing has a range of nothing, which XNNPACK would refuse."""
    network = seeded_sesr(activation="relu").collapse()
    conv = network.get_submodule(dead)
    with torch.no_grad():
        conv.weight.copy_(-conv.weight.abs() if dead == "body.4" else conv.weight * 1e-9)
        conv.weight[1] = 0
    graph = lower(calibrated(network))
    write_onnx(graph, tmp_path / "ranges.onnx", integer_weights=False, shifted_image=True)
    content = TensorFlowModel(tmp_path / "ranges.onnx").int8_file()
    assert audit(content, graph) == []
    device, validation = TFLiteRunner(content), network_runner(IntegerNetwork(graph))
    pixels = noise(24, 36)[None, :, :, :1]
    assert np.array_equal(device(pixels), validation(pixels))


def test_default_sizes() -> None:
    assert default_size(channels=1, scale=2) == "1080x1920"  # 1080p to 4K
    assert default_size(channels=1, scale=4) == default_size(channels=3, scale=2) == "360x640"


def test_x4_is_one_shuffle_of_four() -> None:
    graph = lower(simplify(trace(seeded_sesr(upscale=4))))
    assert graph.scale == 4
    assert sum(type(op).__name__ == "DepthToSpace" for op in graph) == 1
    assert isinstance(seeded_sesr(upscale=4).collapse().conv_first, nn.Conv2d)
