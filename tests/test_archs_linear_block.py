"""The collapsible linear block: both forms are one function, and any kernel can be expanded."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from mobilesr_plugin.archs.linear_block import LinearBlock, expand_kernel
from mobilesr_plugin.errors import OptionError


def test_gradients_are_exact_at_borders_and_with_every_option() -> None:
    """In float64, where rounding cannot hide a wrong border, on images smaller than the kernel."""
    for size, residual, bias in itertools.product((1, 3, 5), (False, True), (False, True)):
        torch.manual_seed(size)
        options = {"kernel_size": size, "num_expand": 11, "residual": residual, "bias": bias}
        collapsed = LinearBlock(5, 5, **options).double()
        expanded = LinearBlock(5, 5, **options, mode="expanded").double()
        if bias:
            nn.init.normal_(collapsed.bias)
        expanded.load_state_dict(collapsed.state_dict())
        for height, width in ((1, 1), (2, 3), (6, 4)):
            found = []
            image = torch.rand(2, 5, height, width, dtype=torch.float64)
            for block in (collapsed, expanded):
                x = image.clone().requires_grad_()
                out = block(x)
                inputs = (x, *block.parameters())
                found.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
            for one, other in zip(*found, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(collapsed.to_conv2d()(x), found[0][0], rtol=1e-10, atol=1e-10)


def test_expanding_is_deterministic_and_takes_zeros() -> None:
    kernel = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(3))
    state = torch.random.get_rng_state()
    first, second = expand_kernel(kernel, 8), expand_kernel(kernel, 8)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert float(first[0].norm()) == pytest.approx(float(first[1].norm()), rel=1e-5)
    expand, project = expand_kernel(torch.zeros(4, 3, 5, 5), 8)
    assert not expand.any() and project.isfinite().all() and project.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "plain"}, "must be one of collapsed, expanded"),
        ({"kernel_size": 4}, "kernel_size is 4; it must be odd"),
        ({"residual": True}, "needs equal channels"),
        ({"num_expand": 3}, "num_expand is 3; it must be at least out_channels, 4"),
    ],
)
def test_bad_arguments_of_a_block(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        LinearBlock(2, 4, **arguments)
