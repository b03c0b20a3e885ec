"""Any plain network: from PyTorch to a file whose every value is known, on both sets of kernels."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from networks import calibrated, noise, seeded, tensor
from plain_networks import NAMES, PLAIN_NETWORKS, EveryLayer
from test_graph import Namesakes
from test_models import options as qat_options
from test_models import train
from torch import nn
from torch.nn import functional as F

from mobilesr_plugin import checkpoint
from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.export.onnx_file import write_onnx
from mobilesr_plugin.export.tflite_file import TensorFlowModel
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.graph.ops import Conv, Graph, PRelu, Repeat
from mobilesr_plugin.graph.rewrite import simplify
from mobilesr_plugin.graph.trace import trace
from mobilesr_plugin.models import QATSRModel
from mobilesr_plugin.options import KERNELS, QuantizationOptions
from mobilesr_plugin.quantization.insert import insert_quantizers, quantizers_of
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import OnnxRunner, TFLiteRunner
from mobilesr_plugin.verify.audit import audit
from mobilesr_plugin.verify.parity import first_difference, network_runner
from mobilesr_plugin.verify.tflite_graph import read_operators

SIZE = (18, 23)

Built = tuple[Graph, bytes, bytes]  # the graph, a file for any size, a file for SIZE


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Built]:
    """Quantizes and converts each network once."""
    done: dict[str, Built] = {}

    def build(name: str) -> Built:
        if name not in done:
            graph = lower(calibrated(PLAIN_NETWORKS[name]()))
            path = tmp_path_factory.mktemp("onnx") / "network.onnx"
            write_onnx(graph, path, integer_weights=False, shifted_image=True)
            model = TensorFlowModel(path)
            done[name] = graph, model.int8_file(), model.int8_file(size=SIZE)
        return done[name]

    return build


@pytest.mark.parametrize("name", NAMES)
def test_simplifying_keeps_the_function(name: str) -> None:
    network = PLAIN_NETWORKS[name]()
    image = tensor(noise(15, 21)[:, :, : getattr(network, "num_in_ch", 3)])
    with torch.no_grad():
        assert (simplify(trace(network))(image) - network(image)).abs().max() < 2e-5


@pytest.mark.parametrize("name", NAMES)
def test_every_operator_and_number_arrives(built: Callable[[str], Built], name: str) -> None:
    graph, any_size, one_size = built(name)
    assert audit(any_size, graph) == []
    assert audit(one_size, graph) == []
    floats = [op for op in read_operators(one_size) if any("float" in out.dtype for out in op.outputs)]
    assert [(op.kind, op.inputs[0].dtype) for op in floats] == [
        ("DEQUANTIZE", "uint8"),
        ("DEQUANTIZE", "int8"),
    ]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", NAMES)
def test_the_device_gives_the_bytes_of_validation(
    built: Callable[[str], Built], name: str, kernels: str
) -> None:
    graph, any_size, one_size = built(name)
    for content, fixed, sizes in ((any_size, False, [(33, 20), (1, 7)]), (one_size, True, [SIZE])):
        validation = network_runner(IntegerNetwork(graph, kernels, fixed_size=fixed))
        device = TFLiteRunner(content, kernels=kernels)
        for height, width in sizes:
            image = noise(height, width, seed=height)[None, :, :, : graph.input.channels]
            expected = validation(image)
            assert expected.shape[1:3] == (height * graph.scale, width * graph.scale)
            assert np.array_equal(device(image), expected), first_difference(
                graph, content, image[0], kernels
            )


def test_ecbsr_becomes_single_convolutions() -> None:
    """Three branches and an identity in each block; the device gets one convolution and a PReLU."""
    network = PLAIN_NETWORKS["ECBSR luma"]()
    traced = trace(network)
    convolutions = [name for name, module in traced.named_modules() if isinstance(module, nn.Conv2d)]
    assert convolutions == [f"backbone.{index}.conv" for index in range(5)]
    image = tensor(noise(12, 14)[:, :, :1])
    with torch.no_grad():
        branches = network.train()(image)
        assert (simplify(traced)(image) - branches).abs().max() < 1e-4


def test_the_base_of_srvgg_is_an_anchor(built: Callable[[str], Built]) -> None:
    """Nearest upsampling and an addition at high resolution become copies of the image before the shuffle."""
    kinds = [operator.kind for operator in read_operators(built("SRVGGNetCompact relu")[2])]
    ends = ["DEQUANTIZE", "QUANTIZE"]
    assert sorted(kinds) == sorted([*ends, *["CONV_2D"] * 6, "ADD", "DEPTH_TO_SPACE", *ends])


def test_a_network_without_a_clamp_is_fixed_to_pixels() -> None:
    quantized = calibrated(PLAIN_NETWORKS["SRVGGNetCompact relu"]())
    output = lower(quantized).output.output
    assert output is not None
    assert (output.scale, output.zero_point) == (np.float32(1 / 255), -128)


class TestRanges:
    """Which values share a range."""

    def test_a_clamp_in_the_middle_fixes_the_range_of_what_it_limits(self) -> None:
        ranges = {
            quantizer.qparams().range
            for quantizer in quantizers_of(calibrated(PLAIN_NETWORKS["every layer"]())).values()
            if quantizer.fixed
        }
        widths = sorted(round(high - low, 5) for low, high in ranges)
        assert widths == [1.0, 2.0]

    def test_concatenated_values_share_one_learned_range(self) -> None:
        graph = lower(calibrated(PLAIN_NETWORKS["every layer"]()))
        (concat,) = (op for op in graph if type(op).__name__ == "Concat" and len(set(op.inputs)) == 3)
        assert len({graph[name].output for name in concat.inputs}) == 1

    def test_a_fixed_part_is_brought_to_the_learned_range(self) -> None:
        """The image keeps its 256 values for its other readers; a copy of it is rounded again."""
        traced = insert_quantizers(EveryLayer(), QuantizationOptions())
        added = [name for name, _ in traced.named_modules() if name.startswith("cat_")]
        assert added
        assert not any(value.requires_grad for name, value in traced.named_parameters() if "cat_" in name)

    def test_a_clamp_with_another_reader_is_refused(self) -> None:
        class Peeking(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = nn.Conv2d(3, 3, 3, padding=1)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                y = self.conv(x)
                return torch.clamp(y, -1, 1) + y

        with pytest.raises(UnsupportedNetworkError, match="also read without the limit"):
            insert_quantizers(Peeking(), QuantizationOptions())

    def test_a_clamp_without_zero_is_refused(self) -> None:
        class Off(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.last = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.last(torch.clamp(self.first(x), 0.5, 1))

        with pytest.raises(UnsupportedNetworkError, match="must hold 0"):
            insert_quantizers(Off(), QuantizationOptions())


class Limited(nn.Module):
    """Clamps, whose nodes go away, between a ReLU of its own and parts that are rounded again.

    Also a convolution that copies the image, as an anchor does, beside an anchor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleList(nn.Conv2d(8 if index else 3, 8, 3, padding=1) for index in range(5))
        self.mixed, self.last = nn.Conv2d(11, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.own_anchor = nn.Conv2d(3, 12, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for conv in self.body:
            y = torch.clamp(conv(y), -1, 1)
        y = self.mixed(torch.cat([x, y], dim=1))
        y = self.last(F.relu(y) + y) + self.own_anchor(x)
        return F.pixel_shuffle(y + torch.repeat_interleave(x, 4, dim=1), 2)


def test_no_two_convolutions_have_equal_weights() -> None:
    """A converter would share them: convolutions by 1, copies of channels, and the network's own."""
    network = seeded(Limited())
    with torch.no_grad():
        network.own_anchor.weight.copy_(torch.eye(3).repeat(4, 1)[:, :, None, None])
    graph = lower(calibrated(network))
    weights = [op.weight for op in graph if isinstance(op, (Conv, Repeat))]
    by_one = [weight for weight in weights if np.allclose(weight, 1, atol=1e-4)]
    copies = [weight for weight in weights if weight.shape == (12, 3, 1, 1)]
    assert (len(by_one), len(copies)) == (3, 2)
    assert len({(weight.shape, weight.tobytes()) for weight in weights}) == len(weights)
    content = file_of(graph)
    assert audit(content, graph) == []
    image = noise(10, 13)[None]
    for kernels in KERNELS:
        validation = network_runner(IntegerNetwork(graph, kernels))
        assert np.array_equal(TFLiteRunner(content, kernels=kernels)(image), validation(image))


def test_modules_may_be_called_as_functions_and_ends_are(tmp_path: Path) -> None:
    """``self.add``, ``self.relu``, ``self.input``, ``self.output``, beside functions of these names."""
    network, image = seeded(Namesakes()), noise(10, 13)
    graph = lower(calibrated(network))
    content = file_of(graph)
    assert audit(content, graph) == []
    expected = network_runner(IntegerNetwork(graph))(image[None])
    assert np.array_equal(TFLiteRunner(content)(image[None]), expected)
    write_onnx(graph, tmp_path / "qdq.onnx")
    assert OnnxRunner(tmp_path / "qdq.onnx")(image[None]).shape == expected.shape
    write_onnx(lower(simplify(trace(network))), tmp_path / "float.onnx")
    with torch.no_grad():
        real = network(tensor(image)).permute(0, 2, 3, 1).numpy()
    # Five convolutions follow each other, of at most 54 products each, on values below 4: in float32 each sum
    # is wrong by at most 54 * 2^-24 * 4 * 54 in the worst order, and by far less here.
    found = OnnxRunner(tmp_path / "float.onnx").real(image[None].astype(np.float32) / 255)
    assert np.abs(found - real).max() < 5 * 54 * 2**-24 * 4 * 54


def file_of(graph: Graph) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(graph, path, integer_weights=False, shifted_image=True)
        return TensorFlowModel(path).int8_file()


class _Around(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(self.function(self.conv(x)), 2)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (nn.GELU(), "function is GELU"),
        (nn.Softplus(), "function is Softplus"),
        (nn.RReLU(), "function is RReLU"),
        (nn.Conv2d(12, 12, 3, padding=1, groups=3), "groups=3"),
        (nn.Conv2d(12, 12, 2), "function is Conv2d"),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), "bicubic"),
        (
            lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
            "align_corners True",
        ),
        (lambda x: F.interpolate(x, scale_factor=1.5), "scale_factor 1.5"),
        (lambda x: x * x, "multiplied"),
        (lambda x: x.mean(), "mean"),
    ],
)
def test_anything_else_is_refused_with_its_name_and_what_is_supported(
    function: Callable[[torch.Tensor], torch.Tensor], named: str
) -> None:
    with pytest.raises(UnsupportedNetworkError) as caught:
        insert_quantizers(seeded(_Around(function)), QuantizationOptions())
    message = str(caught.value)
    assert named in message
    assert "LeakyReLU" in message or "multiplied" in named
    assert "\n" not in message


TRAINED = {
    "SRVGGNetCompact": {"num_feat": 8, "num_conv": 1, "upscale": 2, "act_type": "prelu"},
    "ECBSR": {
        **{"num_in_ch": 3, "num_out_ch": 3, "num_block": 1, "num_channel": 8, "scale": 2},
        **{"with_idt": True, "act_type": "prelu"},
    },
    "MSRResNet": {"num_feat": 8, "num_block": 1, "upscale": 2},
}


@pytest.mark.parametrize("kind", TRAINED)
def test_networks_of_basicsr_train_for_int8_and_come_back(kind: str, tmp_path: Path) -> None:
    """QATSRModel takes a float checkpoint, trains, validates in integers, and saves what can be restored."""
    network_g = {"type": kind, **TRAINED[kind]}
    float_network = seeded(build_network(dict(network_g)))
    checkpoint.save(tmp_path / "own.pth", {"params": float_network.state_dict()})
    opt = qat_options(tmp_path, network_g=network_g)
    opt["path"]["pretrain_network_g"] = str(tmp_path / "own.pth")
    model = QATSRModel(opt)
    train(model, 1, 4)
    before, slopes = lower(model.net_g), [op for op in lower(model.net_g) if isinstance(op, PRelu)]
    train(model, 5, 6)
    assert all(conv.weight.any() for conv in before.convolutions)
    for op in slopes:
        assert not np.array_equal(op.slope, lower(model.net_g)[op.name].slope)  # slopes are trained too
    model.save(epoch=0, current_iter=6)
    image = tensor(noise(17, 21))
    model.feed_data({"lq": image})
    model.test()
    restored = checkpoint.restore(tmp_path / "net_g_6.pth")
    assert restored.name == f"{kind.lower()}_x2"
    assert restored.quantized_network is not None
    assert torch.equal(IntegerNetwork(lower(restored.quantized_network))(image), model.output)
    with torch.no_grad():
        assert torch.equal(restored.float_network(image), float_network(image))
