"""The int8 scheme, the quantizers, and the integer network against fake quantization."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from float_bounds import rounding_bound
from networks import calibrated, noise, seeded_abpn, tensor
from torch import nn
from torch.ao.quantization import disable_fake_quant, enable_fake_quant

from mobilesr_plugin.errors import OptionError, UnsupportedNetworkError
from mobilesr_plugin.graph.int8 import (
    IMAGE,
    QParams,
    qparams_of_range,
    quantize_bias,
    quantize_weight,
    weight_scales,
)
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.options import OBSERVERS, QuantizationOptions
from mobilesr_plugin.quantization.calibrate import calibrate
from mobilesr_plugin.quantization.fake_quant import ActivationQuantizer, fake_quantize, fake_quantize_weight
from mobilesr_plugin.quantization.insert import insert_quantizers, quantizers_of
from mobilesr_plugin.quantization.integer_network import IntegerNetwork, depth_to_space
from mobilesr_plugin.quantization.kernels import xnnpack
from mobilesr_plugin.quantization.observers import make_observer


@pytest.mark.parametrize("seed", range(20))
def test_a_range_survives_its_way_to_the_device(seed: int) -> None:
    """The converter computes the scale anew from float32 ends: it must find the very same bits."""
    generator = np.random.default_rng(seed)
    low, high = -generator.exponential(2), generator.exponential(2)
    q = qparams_of_range(low, high)
    ends = [np.float32(end) for end in q.range]
    assert np.float32((float(ends[1]) - float(ends[0])) / 255) == np.float32(q.scale)
    assert -128 <= q.zero_point <= 127
    assert ends[0] <= low + q.scale
    assert ends[1] >= high - q.scale


def test_ranges_hold_zero_exactly() -> None:
    assert qparams_of_range(0.0, 1.0) == IMAGE
    assert qparams_of_range(0.5, 1.0) == IMAGE  # zero is always inside
    assert qparams_of_range(-1.0, -0.5).zero_point == 127
    assert qparams_of_range(0.0, 0.0).scale > 0


def test_weights_use_all_codes_symmetrically() -> None:
    weight = np.random.default_rng(0).normal(size=(5, 4, 3, 3)).astype(np.float32)
    codes = quantize_weight(weight)
    assert codes.dtype == np.int8
    assert (np.abs(codes.reshape(5, -1).astype(int)).max(axis=1) == 127).all()
    error = np.abs(codes * weight_scales(weight).reshape(-1, 1, 1, 1) - weight)
    assert (error <= weight_scales(weight).reshape(-1, 1, 1, 1) / 2 + 1e-7).all()


def test_a_dead_channel_has_the_converters_smallest_scale() -> None:
    weight = np.zeros((3, 1, 3, 3), np.float32)
    weight[0], weight[1, 0, 0, 0] = 1, 1e-7
    assert list(weight_scales(weight)) == [1 / 127, 5e-7 / 127, 5e-7 / 127]
    assert quantize_weight(weight)[1].max() == 25
    assert not quantize_weight(weight)[2].any()


def test_fake_quantization_equals_torch() -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    q = qparams_of_range(-0.9, 1.7)
    ends = [torch.tensor(end) for end in q.range]
    expected = torch.fake_quantize_per_tensor_affine(x, q.scale, q.zero_point, -128, 127)
    assert torch.allclose(fake_quantize(x, *ends), expected, atol=1e-6)


def test_fake_quantized_weights_are_the_integers() -> None:
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    quantized, scales = fake_quantize_weight(weight)
    codes = quantize_weight(weight.numpy())
    assert np.array_equal(torch.round(quantized / scales.reshape(-1, 1, 1, 1)).numpy(), codes)


def test_learned_ranges_get_the_gradient_of_the_error() -> None:
    """Clipped values pull an end outwards when the target lies beyond it."""
    x = torch.tensor([[[[2.0, -2.0, 0.3]]]])
    low, high = torch.tensor(-1.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    ((fake_quantize(x, low, high) - x) ** 2).sum().backward()
    assert high.grad is not None and high.grad < 0  # a step against the gradient widens the range
    assert low.grad is not None and low.grad > 0


@pytest.mark.parametrize("kind", OBSERVERS)
def test_observers_cover_what_they_saw(kind: str) -> None:
    observer = make_observer(kind, 99.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        observer(torch.rand(1, 4, 32, 32, generator=generator) * 3 - 1)
    scale, zero_point = (float(value) for value in observer.calculate_qparams())
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    assert -1.1 < low < -0.9
    assert 1.9 < high < 2.1


def test_percentiles_leave_outliers_out() -> None:
    values = torch.rand(1, 1, 200, 200, generator=torch.Generator().manual_seed(0))
    values[0, 0, 0, 0] = 50.0
    highs = {}
    for kind in ("minmax", "percentile"):
        observer = make_observer(kind, 99.9)
        observer(values)
        scale, zero_point = (float(value) for value in observer.calculate_qparams())
        highs[kind] = (127 - zero_point) * scale
    assert highs["minmax"] == pytest.approx(50.0, rel=0.01)
    assert highs["percentile"] < 1.5


def test_quantizers_sit_where_the_device_rounds() -> None:
    quantized = insert_quantizers(seeded_abpn(3), QuantizationOptions())
    convolutions = ["conv_first", "body.0", "body.1", "body.2", "body.3", "conv_up", "conv_last"]
    assert sorted(quantizers_of(quantized)) == sorted([*convolutions, "add", "input"])
    fixed = {name for name, quantizer in quantizers_of(quantized).items() if quantizer.fixed}
    assert fixed == {"input", "add"}


def test_switched_off_quantizers_leave_the_float_network() -> None:
    network = seeded_abpn(3)
    quantized = calibrated(network)
    image = tensor(noise(20, 24))
    quantized.apply(disable_fake_quant)
    with torch.no_grad():
        # The final clamp is part of the last quantizer.
        difference = (quantized(image).clamp(0, 1) - network(image)).abs().max()
        assert difference <= rounding_bound(network, image) < 0.1 / 255
        quantized.apply(enable_fake_quant)
        assert not torch.equal(quantized(image), network(image))


def test_parameter_names_stay() -> None:
    network = seeded_abpn(2)
    names = list(insert_quantizers(network, QuantizationOptions()).state_dict())
    assert set(network.state_dict()) <= set(names)


@pytest.mark.parametrize("upscale", [2, 3, 4])
def test_training_sees_what_integers_compute(upscale: int) -> None:
    """Fake quantization is the integer network but for float rounding: almost all pixels are equal."""
    quantized = calibrated(seeded_abpn(upscale))
    image = tensor(noise(30, 34, seed=9))
    with torch.no_grad():
        trained = torch.round(quantized(image) * 255)
    integer = torch.round(IntegerNetwork(lower(quantized))(image) * 255)
    different = trained != integer
    assert different.float().mean() < 0.02
    assert (trained - integer).abs().max() <= 2


def test_integer_network_is_quantized_to_pixels() -> None:
    result = IntegerNetwork(lower(calibrated(seeded_abpn(3))))(tensor(noise(16, 16)))
    assert result.shape == (1, 3, 48, 48)
    codes = result * 255
    assert torch.equal(codes, torch.round(codes))
    assert result.min() >= 0
    assert result.max() <= 1


def test_wide_sums_run_in_float64() -> None:
    """Beyond 2^24 float32 would lose the last bits of a sum."""

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 128, 3, padding=1)
            self.last = nn.Conv2d(128, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.relu(self.first(x)))

    network = Wide()
    for conv in (network.first, network.last):
        conv.weight.data.fill_(0.01).view(-1)[::7] = -0.0101
    integer = IntegerNetwork(lower(calibrated(network)))
    dtypes = [layer.dtype for layer in integer.layers if hasattr(layer, "dtype")]
    assert dtypes == [torch.float32, torch.float64]


def test_requantization_rounds_half_to_even_and_clamps() -> None:
    sums = torch.tensor([0.5, 1.5, 2.5, -0.5, 300.0, -300.0]).reshape(1, 1, 1, 6)
    unit, q = QParams(scale=1.0, zero_point=0), QParams(scale=1.0, zero_point=-3)
    for relu, expected in ((False, [0, 2, 2, 0, 130, -125]), (True, [0, 2, 2, 0, 130, 0])):
        step = xnnpack.requantization(unit, np.ones(1), q, relu=relu, depthwise=False, bound=300.0)
        assert step(sums.clone()).flatten().tolist() == expected


def test_depth_to_space_is_block_major() -> None:
    x = torch.arange(12.0).reshape(1, 12, 1, 1)  # 2x2 block, 3 colours
    assert depth_to_space(x, 2)[0, :, 0, 0].tolist() == [0, 1, 2]
    assert depth_to_space(x, 2)[0, :, 1, 1].tolist() == [9, 10, 11]


def test_a_dead_layer_keeps_a_range_that_converters_accept() -> None:
    assert qparams_of_range(0.0, 1e-12).scale * 255 == pytest.approx(1e-3)
    assert float(fake_quantize(torch.zeros(1), torch.tensor(0.0), torch.tensor(0.0))) == 0.0


def test_a_bias_beyond_32_bits_is_stated() -> None:
    with pytest.raises(UnsupportedNetworkError, match="channel 1"):
        quantize_bias(np.array([0.1, 0.5], np.float32), IMAGE, np.array([1e-3, 1e-9]))


def test_copies_are_independent() -> None:
    """The averaged network is a deep copy: its convolutions must look at its own quantizers."""
    quantized = calibrated(seeded_abpn(2))
    copied = copy.deepcopy(quantized)
    quantizers_of(copied)["conv_first"].high.data.mul_(2)
    own = copied.get_submodule("body.0").input_quantizer
    assert own is quantizers_of(copied)["conv_first"]
    assert own is not quantizers_of(quantized)["conv_first"]


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.conv(x))


def test_what_would_round_twice_is_refused() -> None:
    with pytest.raises(UnsupportedNetworkError, match="2 times"):
        insert_quantizers(_Twice(), QuantizationOptions())


def test_auto_takes_the_rule_with_the_least_error() -> None:
    """Each rule's error is that of a network calibrated with this rule alone; the least one wins."""
    network = seeded_abpn(2)
    images = [tensor(noise(40, 44, seed)) for seed in range(4)]
    with torch.no_grad():
        expected = [network(image) for image in images]
    alone, ranges = {}, {}
    for rule in ("minmax", "percentile", "mse"):
        quantized = insert_quantizers(network, QuantizationOptions(observer=rule, percentile=99.0))
        calibrate(quantized, images)
        with torch.no_grad():
            alone[rule] = np.mean(
                [((quantized(x) - y) ** 2).mean() for x, y in zip(images, expected, strict=True)]
            )
        ranges[rule] = [quantizer.qparams() for quantizer in quantizers_of(quantized).values()]
    chosen = insert_quantizers(network, QuantizationOptions(observer="auto", percentile=99.0))
    errors = calibrate(chosen, images)
    assert errors == pytest.approx(alone)
    best = min(alone, key=lambda rule: alone[rule])
    assert [quantizer.qparams() for quantizer in quantizers_of(chosen).values()] == ranges[best]
    assert len({tuple(values) for values in ranges.values()}) == 3  # the rules do differ here


def test_a_network_without_clamp_is_fixed_to_the_image_range() -> None:
    network = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
    assert lower(calibrated(network)).output.output == IMAGE


@pytest.mark.parametrize(
    "given",
    [
        {"observer": "entropy"},
        {"ranges": "fixed"},
        {"percentile": 40.0},
        {"calibration_images": 0},
        {"observe_iters": -1},
        {"observe_iters": 5, "observer": "mse"},
        {"distillation": 1},
    ],
)
def test_bad_options_are_stated(given: dict[str, object]) -> None:
    with pytest.raises(OptionError) as caught:
        QuantizationOptions(**given)
    assert next(iter(given)) in str(caught.value)


def test_a_quantizer_needs_an_observer_or_a_range() -> None:
    with pytest.raises(ValueError, match="observer"):
        ActivationQuantizer(None)
