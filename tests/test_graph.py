"""From a network to the deploy graph: the same function, in operators that a device has."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import noise, seeded, seeded_abpn, tensor
from torch import nn
from torch.nn import functional as F

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.export.onnx_file import write_onnx
from mobilesr_plugin.graph import ops
from mobilesr_plugin.graph.channel_order import to_block_major
from mobilesr_plugin.graph.channels import channels_of
from mobilesr_plugin.graph.int8 import IMAGE, quantize_weight
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.graph.rewrite import simplify
from mobilesr_plugin.graph.trace import trace
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.upscaling.field import field_of_graph
from mobilesr_plugin.upscaling.reach import NotTileableError
from mobilesr_plugin.verify.audit import expected_operators


def kinds(graph: ops.Graph) -> list[str]:
    return [type(op).__name__ for op in graph]


def run_float(graph: ops.Graph, image: torch.Tensor) -> torch.Tensor:
    """A plain second implementation of the deploy graph, to judge the lowering by."""
    values: dict[str, torch.Tensor] = {}
    for op in graph:
        inputs = [values[name] for name in op.inputs]
        match op:
            case ops.Input():
                out = image
            case ops.Conv():
                weight, bias = torch.from_numpy(op.weight), torch.from_numpy(op.bias)
                out = F.conv2d(inputs[0], weight, bias, padding="same", groups=op.groups)
                out = F.relu(out) if op.relu else out
            case ops.Add():
                out = inputs[0] + inputs[1]
            case ops.Repeat():
                out = torch.cat(inputs * op.times, dim=1)
            case ops.Clamp():
                out = inputs[0].clamp(op.low, op.high)
            case ops.DepthToSpace():
                n, c, h, w = inputs[0].shape
                b = op.block
                out = torch.zeros(n, c // b**2, h * b, w * b)
                for k in range(b**2):
                    out[:, :, k // b :: b, k % b :: b] = inputs[0][:, k * c // b**2 : (k + 1) * c // b**2]
        values[op.name] = out
    return values[graph.output.name]


@pytest.mark.parametrize("residual", ["anchor", "nearest", "feature", "none"])
@pytest.mark.parametrize("upscale", [2, 3, 4])
def test_deploy_graph_is_the_same_function(upscale: int, residual: str) -> None:
    network = seeded_abpn(upscale, residual=residual)
    graph = lower(simplify(trace(network)))
    image = tensor(noise(13, 17))
    with torch.no_grad():
        expected = network(image)
    assert run_float(graph, image).sub(expected).abs().max() < 1e-5
    assert graph.scale == upscale
    assert not graph.quantized


def test_operators_of_abpn() -> None:
    graph = lower(simplify(trace(seeded_abpn(3))))
    assert kinds(graph) == ["Input"] + ["Conv"] * 7 + ["Repeat", "Add", "Clamp", "DepthToSpace"]
    assert [conv.relu for conv in graph.convolutions] == [True] * 6 + [False]
    assert graph.parameters == 42_539
    assert graph.macs(360, 640) == 360 * 640 * 9 * (3 * 28 + 4 * 28 * 28 + 28 * 27 + 27 * 27)


def test_nearest_residual_becomes_an_anchor() -> None:
    """Upsampling after the shuffle and repeating before it are the same; the device gets the cheap one."""
    nearest = kinds(lower(simplify(trace(seeded_abpn(3, residual="nearest")))))
    anchor = kinds(lower(simplify(trace(seeded_abpn(3, residual="anchor")))))
    assert sorted(nearest) == sorted(anchor)


def test_the_anchor_is_whole_copies_of_the_image() -> None:
    graph = lower(simplify(trace(seeded_abpn(2))))
    (repeat,) = (op for op in graph if isinstance(op, ops.Repeat))
    assert (repeat.inputs, repeat.times) == ((graph.input.name,), 4)
    image = tensor(noise(5, 7))
    copies = F.conv2d(image, torch.from_numpy(repeat.weight))
    assert torch.equal(copies, torch.cat([image] * 4, dim=1))


def test_equal_copies_have_other_weights() -> None:
    """A converter shares equal constants, and then leaves a convolution in float."""
    first, second = (
        ops.Repeat(name="r", inputs=("x",), times=4, channels=3, number=number) for number in (0, 1)
    )
    assert not np.array_equal(first.weight, second.weight)
    assert np.array_equal(quantize_weight(first.weight), quantize_weight(second.weight))


def test_tracing_keeps_parameter_names_and_the_network() -> None:
    network = seeded_abpn(2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    traced = simplify(trace(network))
    assert list(traced.state_dict()) == list(before)
    traced.conv_first.weight.data.zero_()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


class _Wrapped(nn.Module):
    """One convolution and whatever follows it."""

    def __init__(self, after: object, conv: nn.Conv2d | None = None) -> None:
        super().__init__()
        self.conv = conv or nn.Conv2d(3, 12, 3, padding=1)
        self.after = after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.conv(x))


REFUSED = {
    "sigmoid": (_Wrapped(nn.Sigmoid()), "Sigmoid"),
    "tanh function": (_Wrapped(torch.tanh), "tanh"),
    "batch norm": (_Wrapped(nn.BatchNorm2d(12)), "BatchNorm2d"),
    "stride": (_Wrapped(nn.Identity(), nn.Conv2d(3, 12, 3, padding=1, stride=2)), "stride=(2, 2)"),
    "no padding": (_Wrapped(nn.Identity(), nn.Conv2d(3, 12, 3)), "conv is Conv2d"),
    "reflection": (
        _Wrapped(nn.Identity(), nn.Conv2d(3, 12, 3, padding=1, padding_mode="reflect")),
        "reflect",
    ),
    "bicubic": (_Wrapped(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic")), "bicubic"),
    "added constant": (_Wrapped(lambda x: x + 1.0), "constant"),
    "added tensor": (_Wrapped(lambda x: x + torch.ones(1)), "outside a layer"),
    "data-dependent": (_Wrapped(lambda x: x if x.sum() > 0 else -x), "cannot be traced"),
}


@pytest.mark.parametrize(("network", "named"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_counterpart_is_refused_by_name(network: nn.Module, named: str) -> None:
    with pytest.raises(UnsupportedNetworkError) as caught:
        lower(simplify(trace(network)))
    message = str(caught.value)
    assert named in message
    assert "\n" not in message


def test_a_relu_that_others_look_behind_stays() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return F.relu(y) + y

    network = seeded(Branching())
    graph = lower(simplify(trace(network)))
    assert kinds(graph) == ["Input", "Conv", "Relu", "Add"]
    assert not graph.convolutions[0].relu


def test_channels_needed_in_two_orders_are_refused() -> None:
    class TwoReaders(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Conv2d(3, 12, 3, padding=1)
            self.down = nn.Conv2d(12, 12, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.up(x)
            return F.pixel_shuffle(self.down(y) + y, 2)

    with pytest.raises(UnsupportedNetworkError, match="reordered"):
        lower(simplify(trace(seeded(TwoReaders()))))


def test_weights_are_copied_not_shared() -> None:
    network = seeded_abpn(2)
    graph = lower(simplify(trace(network)))
    first = graph.convolutions[0].weight.copy()
    network.conv_first.weight.data.zero_()
    assert np.array_equal(graph.convolutions[0].weight, first)


class Namesakes(nn.Module):
    """Modules named as a graph names functions, the image, and the ends of a file."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.add, self.body_0, self.cat_1_x = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))
        self.input, self.output, self.mixed = (nn.Conv2d(n, 3, 3, padding=1) for n in (3, 3, 6))
        self.body = nn.ModuleList([nn.Conv2d(3, 3, 3, padding=1)])
        self.relu, self.cat = nn.LeakyReLU(0.3), nn.PReLU(3, init=0.4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.x(x)
        y = F.relu(y) + self.input(y)
        y = self.relu(self.add(y))
        y = self.body[0](y) + self.body_0(y)
        y = self.cat(self.mixed(torch.cat([y, x], dim=1)))
        return self.output(y) + self.cat_1_x(y)


def test_modules_named_like_functions_are_not_mixed_up() -> None:
    network, image = seeded(Namesakes()), tensor(noise(11, 14))
    traced = simplify(trace(network))
    with torch.no_grad():
        assert (traced(image) - network(image)).abs().max() < 1e-5
    graph = lower(traced)
    assert len({op.name for op in graph}) == len(graph.ops)
    assert kinds(graph).count("Conv") == 8


def _read_after_relu(x: torch.Tensor) -> torch.Tensor:
    return F.relu(x, inplace=True) + x


def _read_after_addition(x: torch.Tensor) -> torch.Tensor:
    before = x
    x += F.relu(x)
    return x + before


class _OwnRelu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x) + x


class _After(nn.Module):
    def __init__(self, after: object) -> None:
        super().__init__()
        self.conv, self.after = nn.Conv2d(3, 12, 3, padding=1), after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.conv(x))


@pytest.mark.parametrize("after", [_read_after_relu, _read_after_addition, _OwnRelu()])
def test_a_value_that_is_overwritten_and_read_again_is_refused(after: object) -> None:
    """PyTorch would give the later reader the new value, a graph the old one."""
    with pytest.raises(UnsupportedNetworkError, match=r"overwrites conv, which add\w* reads after|in place"):
        trace(_After(after))


def test_computed_weights_are_refused() -> None:
    for normalize in (torch.nn.utils.weight_norm, torch.nn.utils.parametrizations.weight_norm):
        network = _After(nn.Identity())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            normalize(network.conv)
        with pytest.raises(UnsupportedNetworkError, match=r"conv computes its weights|cannot be traced"):
            trace(network)


@dataclass(frozen=True, kw_only=True)
class Unknown(ops.Op):
    """An operator that nothing has been told of."""


def around_unknown(**given: object) -> ops.Graph:
    image = ops.Input(name="image", channels=3, **given)
    return ops.Graph((image, Unknown(name="new", inputs=("image",), **given)))


@pytest.mark.parametrize("ask", [ops.Graph.channels, ops.Graph.factors, lambda graph: graph.macs(1, 1)])
def test_unknown_operators_are_not_taken_for_ones_that_keep_the_shape(
    ask: Callable[[ops.Graph], object],
) -> None:
    with pytest.raises(UnsupportedNetworkError, match=r"^new \(Unknown\): the .* of its result is not known"):
        ask(around_unknown())


def test_unknown_operators_stop_every_stage_behind(tmp_path: Path) -> None:
    graph = around_unknown(output=IMAGE)
    for stage in (
        IntegerNetwork,
        expected_operators,
        lambda graph: write_onnx(graph, tmp_path / "network.onnx"),
        to_block_major,
    ):
        with pytest.raises(UnsupportedNetworkError, match=r"new \(Unknown\)"):
            stage(graph)
    assert not list(tmp_path.iterdir())


def test_an_unknown_operator_has_no_receptive_field() -> None:
    with pytest.raises(NotTileableError, match="Unknown"):
        field_of_graph(around_unknown())


class _UnknownModule(nn.Module):
    """Stands for a module that a pass puts into the traced network."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat(1, 2, 1, 1)


def test_unknown_modules_have_no_known_channels() -> None:
    traced = simplify(trace(_After(nn.PixelShuffle(2))))
    traced.set_submodule("after", _UnknownModule())
    shuffle = next(node for node in traced.graph.nodes if node.target == "after")
    with pytest.raises(UnsupportedNetworkError, match=r"after \(_UnknownModule\): the number of channels"):
        channels_of(traced, shuffle)


def test_values_that_do_not_fit_together_are_refused() -> None:
    image = ops.Input(name="image", channels=4)
    moved = ops.DepthToSpace(name="moved", inputs=("image",), block=2)
    for graph, message in (
        (ops.Graph((image, moved, ops.Concat(name="both", inputs=("image", "moved")))), "different sizes"),
        (
            ops.Graph((image, ops.DepthToSpace(name="odd", inputs=("image",), block=3))),
            "cannot take 4 channels",
        ),
        (
            ops.Graph(
                (
                    image,
                    ops.Concat(name="twice", inputs=("image", "image")),
                    ops.Add(name="sum", inputs=("image", "twice")),
                )
            ),
            "cannot take 4 and 8 channels",
        ),
        (ops.Graph((replace(image, output=IMAGE), moved)), "moved .* not quantized"),
    ):
        with pytest.raises(UnsupportedNetworkError, match=message):
            graph.channels(), graph.factors(), graph.quantized
