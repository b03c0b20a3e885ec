"""ABPN and the ablations of its paper."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobilesr_plugin.archs.abpn_arch import ABPN, RESIDUALS
from mobilesr_plugin.errors import OptionError


def image(height: int = 7, width: int = 5, channels: int = 3) -> torch.Tensor:
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("image_space_conv", [True, False])
@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("upscale", [2, 3, 4])
def test_shapes(upscale: int, residual: str, image_space_conv: bool) -> None:
    torch.manual_seed(0)
    net = ABPN(upscale=upscale, residual=residual, image_space_conv=image_space_conv, num_feat=8)
    for height, width in ((7, 5), (1, 1), (2, 9)):
        out = net(image(height, width))
        assert out.shape == (2, 3, height * upscale, width * upscale)
        assert out.dtype == torch.float32 and out.min() >= 0 and out.max() <= 1


def test_parameters() -> None:
    assert sum(value.numel() for value in ABPN().parameters()) == 42539
    assert len([module for module in ABPN().modules() if isinstance(module, nn.Conv2d)]) == 7
    with_conv, without = (
        sum(value.numel() for value in ABPN(image_space_conv=on).parameters()) for on in (True, False)
    )
    assert with_conv - without == 27 * 27 * 9 + 27


def test_output_is_clipped() -> None:
    torch.manual_seed(0)
    net = ABPN(num_feat=8)
    with torch.no_grad():
        net.conv_last.weight.mul_(50)
    out = net(image())
    assert out.min() == 0 and out.max() == 1


@pytest.mark.parametrize("upscale", [2, 3, 4])
@pytest.mark.parametrize("residual", ["anchor", "nearest", "bilinear", "none"])
def test_with_zero_weights_only_the_residual_is_left(residual: str, upscale: int) -> None:
    net = ABPN(upscale=upscale, residual=residual, num_feat=8)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    x = image()
    mode = "bilinear" if residual == "bilinear" else "nearest"
    expected = F.interpolate(x, scale_factor=float(upscale), mode=mode)
    if residual == "none":
        expected = torch.zeros_like(expected)
    torch.testing.assert_close(net(x), expected, rtol=0, atol=0)


def test_anchor_and_nearest_are_the_same_function() -> None:
    torch.manual_seed(0)
    anchor, nearest = ABPN(num_feat=8), ABPN(num_feat=8, residual="nearest")
    nearest.load_state_dict(anchor.state_dict())
    torch.testing.assert_close(anchor(image()), nearest(image()), rtol=0, atol=1e-6)


def test_other_channels() -> None:
    assert ABPN(1, num_out_ch=1, upscale=2)(image(channels=1)).shape == (2, 1, 14, 10)
    assert ABPN(1, num_out_ch=3, residual="none", upscale=2)(image(channels=1)).shape == (2, 3, 14, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"upscale": 1}, "upscale is 1; it must be 2 or more"),
        (
            {"residual": "pixel"},
            "residual is 'pixel'; it must be one of anchor, nearest, bilinear, feature, none",
        ),
        ({"num_in_ch": 1}, r"must be equal \(got 1 and 3\)"),
        ({"num_out_ch": 1, "residual": "nearest"}, r"must be equal \(got 3 and 1\)"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ABPN(**arguments)
