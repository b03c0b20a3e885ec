"""Integer kernels against real TFLite files: every code of every operator, on both sets of kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import calibrated, noise, seeded_abpn, seeded_sesr, tensor
from tensorflow_graph import int8_file

from mobilesr_plugin.errors import OptionError, UnsupportedNetworkError
from mobilesr_plugin.export.onnx_file import write_onnx
from mobilesr_plugin.export.tflite_file import TensorFlowModel
from mobilesr_plugin.graph.int8 import IMAGE, qparams_of_range
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.graph.ops import (
    Add,
    Concat,
    Conv,
    DepthToSpace,
    Graph,
    Input,
    LeakyRelu,
    Op,
    PRelu,
    QParams,
    Relu,
    ResizeBilinear,
)
from mobilesr_plugin.options import KERNELS
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.quantization.kernels.fixed_point import FloatMultiplier, Multiplier, fits_float64
from mobilesr_plugin.runtimes import TFLiteRunner
from mobilesr_plugin.verify.audit import matched
from mobilesr_plugin.verify.parity import first_difference, network_runner
from mobilesr_plugin.verify.tflite_graph import read_operators

Random = np.random.Generator


class Maker:
    """Random graphs: an image, some convolutions to start from, the operators of a test."""

    def __init__(self, seed: int, channels: int) -> None:
        self.random, self.channels = np.random.default_rng(seed), channels
        self.ops: list[Op] = [Input(name="image", channels=3, output=IMAGE)]

    def range(self) -> QParams:
        return qparams_of_range(-self.random.exponential(1) - 0.01, self.random.exponential(1) + 0.02)

    def conv(self, name: str, source: str, **given: object) -> Conv:
        inputs = next(self.count(op) for op in self.ops if op.name == source)
        out, groups = int(given.pop("out", self.channels)), int(given.get("groups", 1))
        size = int(self.random.choice([1, 3, 5]))
        weight = self.random.normal(0, 1, (out, inputs // groups, size, size)) / size
        weight *= self.random.exponential(1, (out, 1, 1, 1)) + 0.1
        bias = self.random.normal(0, 0.3, out).astype(np.float32)
        given.setdefault("output", self.range())
        return self.add(
            Conv(name=name, inputs=(source,), weight=weight.astype(np.float32), bias=bias, **given)
        )

    def add(self, op: Op) -> Op:
        self.ops.append(op)
        return op

    def count(self, op: Op) -> int:
        return Graph(tuple(self.ops)).channels()[op.name]

    def graph(self) -> Graph:
        """The graph, with a last convolution that writes pixels."""
        self.conv("last", self.ops[-1].name, out=3, output=IMAGE)
        return Graph(tuple(self.ops))


def convolution(make: Maker) -> None:
    make.conv("first", "image", relu=True)
    make.conv("second", "first")


def depthwise(make: Maker) -> None:
    make.conv("first", "image")
    make.conv("second", "first", groups=make.channels)
    make.conv("third", "second", groups=make.channels, relu=True)


def addition(make: Maker) -> None:
    make.conv("left", "image")
    make.conv("right", "image")
    make.add(Add(name="sum", inputs=("left", "right"), output=make.range()))
    make.add(Add(name="rectified", inputs=("sum", "left"), output=make.range(), relu=True))


def broadcast(make: Maker) -> None:
    make.conv("many", "image")
    make.conv("one", "image", out=1)
    make.add(Add(name="sum", inputs=("many", "one"), output=make.range()))
    make.add(Add(name="other", inputs=("one", "sum"), output=make.range(), relu=True))


def relu_alone(make: Maker) -> None:
    make.conv("left", "image")
    make.conv("right", "image")
    make.add(Add(name="sum", inputs=("left", "right"), output=make.range()))
    make.add(Relu(name="relu", inputs=("sum",), output=make.range()))
    make.add(Add(name="both", inputs=("relu", "sum"), output=make.range()))  # so that no ADD takes it in


def leaky_relu(make: Maker) -> None:
    make.conv("first", "image")
    make.add(
        LeakyRelu(
            name="leaky", inputs=("first",), slope=make.random.choice([0.01, 0.1, 0.2]), output=make.range()
        )
    )


def prelu(make: Maker) -> None:
    make.conv("first", "image")
    slope = make.random.uniform(-0.1, 0.5, make.channels).astype(np.float32)
    make.add(PRelu(name="prelu", inputs=("first",), slope=slope, output=make.range()))


def moves(make: Maker) -> None:
    shared = make.range()
    make.conv("left", "image", output=shared)
    make.conv("right", "image", out=16, output=shared)
    make.add(Concat(name="concat", inputs=("left", "right"), output=shared))
    wide = make.conv("wide", "concat", out=18)
    make.add(DepthToSpace(name="shuffle", inputs=("wide",), block=3, output=wide.output))


def resize(make: Maker) -> None:
    first = make.conv("first", "image")
    factor = int(make.random.integers(2, 5))
    make.add(ResizeBilinear(name="resize", inputs=("first",), factor=factor, output=first.output))


CASES = [convolution, depthwise, addition, broadcast, relu_alone, leaky_relu, prelu, moves, resize]
CHANNELS = (1, 3, 8, 17, 28)
SIZES = ((9, 13), (1, 1), (24, 1), (16, 31))


@cache
def graph_and_file(case: Callable[[Maker], None], seed: int, fixed: bool) -> tuple[Graph, bytes]:
    make = Maker(seed, channels=CHANNELS[seed % len(CHANNELS)] + (case is depthwise and seed % 5 == 0))
    case(make)
    graph = make.graph()
    return graph, int8_file(graph, SIZES[seed % len(SIZES)] if fixed else None)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_operators_give_the_devices_codes(case: Callable[[Maker], None], seed: int, kernels: str) -> None:
    graph, content = graph_and_file(case, seed, fixed=False)
    for height, width in SIZES:
        assert_same(graph, content, pixels(height, width, seed), kernels)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("seed", range(8))
def test_a_resize_in_a_file_for_one_size(seed: int, kernels: str) -> None:
    """XNNPACK takes it there, and rounds otherwise."""
    graph, content = graph_and_file(resize, seed, fixed=True)
    height, width = SIZES[seed % len(SIZES)]
    assert_same(graph, content, pixels(height, width, seed), kernels, fixed_size=True)


def test_the_two_resizes_differ() -> None:
    graph, content = graph_and_file(resize, 3, fixed=True)
    with pytest.raises(AssertionError):
        assert_same(graph, content, pixels(16, 31, 3), "xnnpack", fixed_size=False)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("slope", [0.003, 0.3])
def test_scales_that_xnnpack_leaves_to_others(slope: float, kernels: str) -> None:
    """Factors below 2^-8 of a LeakyReLU, and below 2^-10 of an addition."""
    make = Maker(5, channels=8)
    fine = qparams_of_range(-0.5, 0.05)
    coarse = qparams_of_range(-300.0, 400.0) if slope == 0.3 else fine
    make.conv("first", "image", output=fine)
    make.add(LeakyRelu(name="leaky", inputs=("first",), slope=slope, output=coarse))
    make.add(Add(name="sum", inputs=("leaky", "first"), output=coarse))
    graph = make.graph()
    assert_same(graph, int8_file(graph), pixels(20, 31, 0), kernels)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("halves", [1, 2])
def test_an_addition_full_of_ties(halves: int, kernels: str) -> None:
    """Inputs in halves and quarters of the output's scale."""
    make = Maker(7, channels=16)
    make.conv("left", "image", output=qparams_of_range(-1.0, 1.0))
    make.conv("right", "image", output=qparams_of_range(-1.0, 1.0))
    wide = qparams_of_range(-(2.0**halves), 2.0**halves)
    make.add(Add(name="sum", inputs=("left", "right"), output=wide))
    graph = make.graph()
    assert_same(graph, int8_file(graph), pixels(33, 40, 0), kernels)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("upscale", [2, 3, 4])
def test_abpn(upscale: int, kernels: str) -> None:
    graph, content = abpn(upscale)
    for height, width in ((33, 47), (1, 1), (5, 120)):
        assert_same(graph, content, noise(height, width, seed=height), kernels)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("upscale", [2, 4])
@pytest.mark.parametrize("variant", ["M5", pytest.param("XL", marks=pytest.mark.slow)])
def test_sesr(variant: str, upscale: int, kernels: str) -> None:
    graph, content = sesr(variant, upscale)
    for height, width in ((24, 37), (7, 11), (1, 1)):
        assert_same(graph, content, noise(height, width, seed=height)[:, :, :1], kernels)


def test_the_two_sets_differ() -> None:
    """Or the tests above would prove nothing about one of them."""
    graph, content = abpn(3)
    image = noise(40, 44)
    for kernels, other in (KERNELS, KERNELS[::-1]):
        with pytest.raises(AssertionError):
            assert_same(graph, content, image, kernels, simulated=other)


@pytest.mark.parametrize("kernels", KERNELS)
def test_images_in_one_batch_do_not_meet(kernels: str) -> None:
    integer = IntegerNetwork(lower(calibrated(seeded_abpn(2))), kernels)
    images = [tensor(noise(17, 23, seed)) for seed in range(3)]
    together = integer(torch.cat(images))
    assert torch.equal(together, torch.cat([integer(image) for image in images]))


@pytest.mark.parametrize("kernels", KERNELS)
def test_users_settings_of_precision_change_nothing(kernels: str) -> None:
    integer = IntegerNetwork(lower(calibrated(seeded_abpn(3))), kernels)
    image = tensor(noise(30, 30))
    expected = integer(image)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        torch.backends.mkldnn.conv.fp32_precision = "bf16"
        assert torch.equal(integer(image), expected)
    finally:
        torch.backends.mkldnn.conv.fp32_precision = "none"
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("seed", range(5))
def test_the_quick_product_is_the_exact_one(seed: int) -> None:
    """float64 against 64-bit integers, at and around every tie that a factor of few bits has."""
    random = np.random.default_rng(seed)
    factors = [2.0**-8, 3 * 2.0**-9, 0.75, 0.5, 1.5, 2.0**-13, *random.exponential(0.01, 20)]
    sums = torch.cat([torch.arange(-4096, 4096), torch.from_numpy(random.integers(-(2**21), 2**21, 8192))])
    sums = sums.reshape(-1, 1).expand(-1, len(factors))
    exact = Multiplier(factors, ties_away=False)(sums)
    assert torch.equal(FloatMultiplier(factors)(sums.double()).long(), exact)
    assert fits_float64(2**21 - 1, [1e-9])
    assert not fits_float64(2**21, [2.0**-14])


def test_ties() -> None:
    halves = torch.tensor([[-3], [-1], [1], [3]])
    assert Multiplier([0.25], ties_away=False)(halves * 2).flatten().tolist() == [-1, 0, 1, 2]
    assert Multiplier([0.25], ties_away=True)(halves * 2).flatten().tolist() == [-2, -1, 1, 2]


def test_unknown_kernels_are_stated() -> None:
    graph = Maker(0, channels=3).graph()
    with pytest.raises(OptionError, match="xnnpack, tflite_builtin"):
        IntegerNetwork(graph, "neon")


def test_groups_must_be_one_or_all() -> None:
    make = Maker(0, channels=6)
    make.conv("first", "image")
    make.conv("second", "first", groups=2)
    with pytest.raises(UnsupportedNetworkError, match="second has 2 groups"):
        IntegerNetwork(make.graph())


def pixels(height: int, width: int, seed: int) -> np.ndarray:
    """(H, W, 3) uint8 of all values, so that codes are, too."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def assert_same(
    graph: Graph,
    content: bytes,
    image: np.ndarray,
    kernels: str,
    *,
    fixed_size: bool = False,
    simulated: str | None = None,
) -> None:
    """Every code of every operator, and the pixels, are those of the file on the device."""
    pairs = matched(graph, read_operators(content))
    assert [op.name for op, _ in pairs] == [op.name for op in graph if not isinstance(op, Input)]
    if simulated is None and fixed_size == (TFLiteRunner(content).fixed_size is not None):
        assert first_difference(graph, content, image, kernels) is None
    network = IntegerNetwork(graph, simulated or kernels, fixed_size=fixed_size)
    device, validation = TFLiteRunner(content, kernels=kernels), network_runner(network)
    assert np.array_equal(device(image[None]), validation(image[None]))


@cache
def abpn(upscale: int) -> tuple[Graph, bytes]:
    return exported(lower(calibrated(seeded_abpn(upscale))))


@cache
def sesr(variant: str, upscale: int) -> tuple[Graph, bytes]:
    return exported(lower(calibrated(seeded_sesr(variant=variant, upscale=upscale, activation="relu"))))


def exported(graph: Graph) -> tuple[Graph, bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ranges.onnx"
        write_onnx(graph, path, integer_weights=False, shifted_image=True)
        return graph, TensorFlowModel(path).int8_file()
