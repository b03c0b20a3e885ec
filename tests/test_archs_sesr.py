"""SESR: every variant in every form is the same function, and weights move between the forms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from mobilesr_plugin.archs.linear_block import LinearBlock
from mobilesr_plugin.archs.sesr_arch import INPUT_OFFSET, SESR, VARIANTS, original_channel_order
from mobilesr_plugin.archs.sesr_weights import convert_state, transfer_x2
from mobilesr_plugin.bench.training_step import forward_macs
from mobilesr_plugin.errors import CheckpointError, OptionError

EVERY = list(itertools.product(VARIANTS, (2, 4), (1, 3)))
SMALL = {"num_block": 2, "num_feat": 6, "num_expand": 64}

# Collapsed weights and G multiply-accumulates for an output of 1280x720, table 1 of the paper for x2.
PUBLISHED = {
    ("M3", 2): (8912, 2.05),
    ("M5", 2): (13520, 3.12),
    ("M7", 2): (18128, 4.18),
    ("M11", 2): (27344, 6.30),
    ("XL", 2): (105376, 24.28),
    ("M5", 4): (18320, 1.06),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more, and on busy cores threads wait for each other at length."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(seed: int = 0, **arguments: object) -> SESR:
    """A seeded network whose slopes and biases are not zero, so that nothing cancels."""
    torch.manual_seed(seed)
    made = SESR(**arguments)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.startswith("activations") or name.endswith("bias"):
                parameter.uniform_(-0.2, 0.3)
    return made


def image(channels: int = 1, height: int = 9, width: int = 7, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(1))


def assert_close(first: torch.Tensor, second: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Differences are at most ``tolerance`` of the largest value."""
    scale = float(second.detach().abs().max())
    assert float((first - second).detach().abs().max()) <= tolerance * scale


@pytest.mark.parametrize(("variant", "upscale", "channels"), EVERY)
def test_every_form_is_the_same_function(variant: str, upscale: int, channels: int) -> None:
    """To 1e-5 in float32; and in float64, where nothing but an error could be larger, to 1e-9."""
    arguments = {"variant": variant, "upscale": upscale, "num_in_ch": channels}
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        collapsed = network(**arguments).to(dtype)
        expanded = SESR(**arguments, linear_block="expanded").to(dtype)
        expanded.load_state_dict(collapsed.state_dict())  # the same names
        plain = collapsed.collapse()

        low, target = image(channels).to(dtype), image(channels, 9 * upscale, 7 * upscale).to(dtype)
        out = {form: form(low) for form in (collapsed, expanded)}
        assert out[collapsed].shape == target.shape
        torch.testing.assert_close(out[expanded], out[collapsed], rtol=0, atol=tolerance)
        torch.testing.assert_close(plain(low), out[collapsed], rtol=0, atol=tolerance)
        for values in out.values():
            F.mse_loss(values, target).backward()
        for (name, mine), other in zip(collapsed.named_parameters(), expanded.parameters(), strict=True):
            assert mine.grad is not None and other.grad is not None and mine.grad.abs().max() > 0, name
            torch.testing.assert_close(mine.grad, other.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("variant", "upscale", "channels"), EVERY)
def test_sizes(variant: str, upscale: int, channels: int) -> None:
    plain = SESR(channels, variant=variant, upscale=upscale, linear_block="plain")
    kernels = {name: value for name, value in plain.state_dict().items() if "activations" not in name}
    sizes, width = VARIANTS[variant], VARIANTS[variant].num_feat
    count = 25 * channels * width + sizes.num_block * 9 * width**2 + 25 * width * channels * upscale**2
    assert sum(value.numel() for value in kernels.values()) == count
    macs = forward_macs(plain, 1, 720 // upscale, 1280 // upscale)
    assert macs == count * 720 * 1280 // upscale**2
    if channels == 1 and (variant, upscale) in PUBLISHED:
        weights, published_macs = PUBLISHED[variant, upscale]
        assert count == weights
        assert macs / 1e9 == pytest.approx(published_macs, abs=0.0051)
    with torch.no_grad():
        for height, width in ((1, 1), (1, 6), (5, 3)):
            shape = (1, channels, height * upscale, width * upscale)
            assert plain(image(channels, height, width, batch=1)).shape == shape


def test_is_the_network_of_the_paper() -> None:
    """Against the formula written out with functions."""
    net = network(upscale=2, num_in_ch=3, **SMALL, bias=True).collapse()
    x = image(3)
    state = net.state_dict()
    first = F.conv2d(x - 128 / 255, state["conv_first.weight"], state["conv_first.bias"], padding=2)
    out = first
    for index in range(2):
        out = F.conv2d(out, state[f"body.{index}.weight"], state[f"body.{index}.bias"], padding=1)
        out = torch.where(out > 0, out, out * state[f"activations.{index}.weight"].view(1, -1, 1, 1))
    out = F.conv2d(out + first, state["conv_last.weight"], state["conv_last.bias"], padding=2)
    out = F.pixel_shuffle(out, 2) + F.interpolate(x, scale_factor=2, mode="nearest")
    assert 0 < (out < 0).float().mean() < 1
    assert_close(net(x), out.clamp(0, 1), 1e-6)
    assert INPUT_OFFSET == 128 / 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("upscale", [2, 4])
def test_without_weights_it_is_nearest_upsampling(channels: int, upscale: int) -> None:
    net = SESR(channels, upscale=upscale, linear_block="plain", **SMALL)
    nn.init.zeros_(net.conv_last.weight)
    x = image(channels)
    torch.testing.assert_close(net(x), F.interpolate(x, scale_factor=upscale, mode="nearest"), rtol=0, atol=0)


def test_output_is_clipped() -> None:
    net = network(linear_block="plain")
    with torch.no_grad():
        net.conv_last.weight.mul_(50)
    out = net(image())
    assert out.min() == 0 and out.max() == 1


def test_x4_order_of_the_original() -> None:
    """Two shuffles by 2 in TensorFlow's order (sub-pixel first) are our one by 4, channels reordered."""

    def depth_to_space(x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        x = x.view(n, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(n, c // 4, 2 * h, 2 * w)

    x = image(16)
    ours = F.pixel_shuffle(x[:, original_channel_order(4)], 4)
    torch.testing.assert_close(ours, depth_to_space(depth_to_space(x)), rtol=0, atol=0)
    x = image(4)
    ours = F.pixel_shuffle(x[:, original_channel_order(2)], 2)
    torch.testing.assert_close(ours, depth_to_space(x), rtol=0, atol=0)


def test_collapsed_network_is_plain_and_can_be_traced() -> None:
    for channels in (1, 3):
        net = network(num_in_ch=channels, **SMALL)
        plain = net.collapse()
        assert not any(isinstance(module, LinearBlock) for module in plain.modules())
        assert [name for name in plain.state_dict() if "activations" not in name] == [
            "conv_first.weight",
            "body.0.weight",
            "body.1.weight",
            "conv_last.weight",
        ]
        assert plain.linear_block == "plain" and net.linear_block == "collapsed"
        traced = fx.symbolic_trace(plain)
        called = {
            type(plain.get_submodule(node.target)) for node in traced.graph.nodes if node.op == "call_module"
        }
        assert called == {nn.Conv2d, nn.PReLU}
        x = image(channels)
        torch.testing.assert_close(traced(x), plain(x), rtol=0, atol=0)
        torch.testing.assert_close(plain.collapse()(x), plain(x), rtol=0, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("upscale", [2, 4])
def test_weights_convert_in_both_directions(variant: str, upscale: int) -> None:
    arguments = {"variant": variant, "upscale": upscale, "bias": True}
    expanded = network(**arguments)
    plain = SESR(**arguments, linear_block="plain")
    plain.load_state_dict(convert_state(expanded.state_dict(), plain))
    x = image()
    assert_close(plain(x), expanded(x))

    back = network(seed=5, **arguments)
    state = convert_state(plain.state_dict(), back)
    back.load_state_dict(state)
    assert_close(back(x), plain(x))
    for (name, block, _), (_, conv, _) in zip(back.blocks(), plain.blocks(), strict=True):
        kernel, bias = block.collapsed()
        assert_close(kernel, conv.weight, 2e-6)
        assert torch.equal(bias, conv.bias)
        back(x).mean().backward()
        for grad in (block.expand.grad, block.project.grad.transpose(0, 1)):  # all channels go on learning
            assert (grad.flatten(1).norm(dim=1) > 0).all(), name

    same = convert_state(expanded.state_dict(), SESR(**arguments, linear_block="expanded"))
    assert all(torch.equal(same[name], value) for name, value in expanded.state_dict().items())


def test_weights_of_another_expanded_width_convert() -> None:
    wide = network(**{**SMALL, "num_expand": 90})
    narrow = network(seed=2, **SMALL)
    narrow.load_state_dict(convert_state(wide.state_dict(), narrow))
    assert_close(narrow(image()), wide(image()), 1e-6)


def test_prelu_weights_start_a_relu_network_and_the_other_way_round() -> None:
    prelu = network(**SMALL)
    relu = network(seed=1, activation="relu", linear_block="plain", **SMALL)
    state = convert_state(prelu.state_dict(), relu)
    assert not any("activations" in name for name in state)
    relu.load_state_dict(state)
    for index in range(2):
        nn.init.zeros_(prelu.activations[index].weight)
    assert_close(relu(image()), prelu(image()), 1e-6)

    again = network(seed=2, **SMALL)
    again.load_state_dict(convert_state(relu.state_dict(), again))
    assert_close(again(image()), relu(image()), 1e-6)


@pytest.mark.parametrize("form", ["collapsed", "expanded", "plain"])
@pytest.mark.parametrize("source_form", ["collapsed", "plain"])
def test_x2_weights_really_move_to_x4(form: str, source_form: str) -> None:
    x2 = network(upscale=2, linear_block=source_form, bias=True)
    x4 = network(seed=9, upscale=4, linear_block=form, bias=True)
    before = {name: value.clone() for name, value in x4.state_dict().items()}
    state, moved, kept = transfer_x2(x2.state_dict(), x4)
    assert all(torch.equal(before[name], value) for name, value in x4.state_dict().items())
    x4.load_state_dict(state)
    assert sorted(moved + kept) == sorted(before)
    assert kept == [name for name in before if name.startswith("conv_last.")]
    assert not any(torch.equal(x4.state_dict()[name], before[name]) for name in moved)
    assert all(torch.equal(x4.state_dict()[name], before[name]) for name in kept)
    one, other = x2.collapse().state_dict(), x4.collapse().state_dict()
    for name, value in one.items():
        if not name.startswith("conv_last."):
            assert_close(other[name], value, 1e-6)


def test_weights_of_other_networks_are_named() -> None:
    x2, x4 = network(**SMALL), network(upscale=4, **SMALL)
    with pytest.raises(CheckpointError, match=r"^conv_last .* 6 to 4 channels with 5x5.* 6 to 16 channels"):
        convert_state(x2.state_dict(), x4)
    with pytest.raises(CheckpointError, match=r"^conv_first .* 3 to 6 channels .* 1 to 6 channels"):
        convert_state(network(num_in_ch=3, **SMALL).state_dict(), x2)
    with pytest.raises(CheckpointError, match="last block has 4 output channels; got a last block with 16"):
        transfer_x2(x4.state_dict(), x4)
    with pytest.raises(CheckpointError, match="got no last block"):
        transfer_x2({"conv.weight": torch.zeros(1)}, x4)
    with pytest.raises(CheckpointError, match=r"no body.2.expand .*num_block"):
        transfer_x2(x2.state_dict(), network(upscale=4, **{**SMALL, "num_block": 3}))
    with pytest.raises(OptionError, match="upscale 2"):
        transfer_x2(x2.state_dict(), x2)
    damaged = {**x2.state_dict(), "body.1.project": torch.zeros(6, 3, 1, 1)}
    with pytest.raises(CheckpointError, match=r"body\.1 in the checkpoint is damaged"):
        convert_state(damaged, x2.collapse())
    with pytest.raises(CheckpointError, match=r"kernel of shape \(7,\)"):
        convert_state({"conv_first.weight": torch.zeros(7)}, x2)
    foreign = {"something.else": torch.zeros(1)}
    assert convert_state(foreign, x2) == foreign  # for the loader to judge


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_in_ch": 2}, "num_in_ch is 2; it must be one of 1, 3"),
        ({"num_in_ch": 3, "num_out_ch": 1}, "must be equal"),
        ({"variant": "M4"}, "variant is 'M4'; it must be one of M3, M5, M7, M11, XL"),
        ({"upscale": 3}, "upscale is 3; it must be one of 2, 4"),
        ({"linear_block": "fast"}, "must be one of collapsed, expanded, plain"),
        ({"activation": "gelu"}, "must be one of prelu, relu"),
        ({"num_block": 0}, "num_block is 0; it must be 1 or more"),
        ({"num_feat": -1}, "num_feat is -1"),
        ({"num_expand": 15}, "num_expand is 15; it must be at least 16"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SESR(**arguments)


@pytest.mark.parametrize("form", ["collapsed", "expanded"])
def test_training_learns(form: str) -> None:
    """From the initial weights, on blurred noise: the loss falls, in both forms by the same steps."""
    net = SESR(num_block=2, num_feat=8, num_expand=32, linear_block=form)
    torch.manual_seed(0)
    net.load_state_dict(SESR(num_block=2, num_feat=8, num_expand=32).state_dict())
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, amsgrad=True)
    losses = []
    for step in range(60):
        noise = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        high = F.interpolate(noise, size=(32, 32), mode="bicubic", align_corners=False).clamp(0, 1)
        loss = F.l1_loss(net(F.avg_pool2d(high, 2)), high)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
