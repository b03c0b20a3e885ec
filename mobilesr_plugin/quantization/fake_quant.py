"""Fake quantization: float tensors that take only the values which int8 codes can hold.

Ranges are learned through the rounding as in LSQ (S. Esser et al., "Learned Step Size Quantization",
ICLR 2020, https://arxiv.org/abs/1902.08153) and LSQ+ (Y. Bhalgat et al., 2020,
https://arxiv.org/abs/2004.09576): rounding has gradient 1, the scale gets the gradient that follows.
It is written as plain arithmetic, which a compiler can fuse; both ends of the range are parameters.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.ao.quantization import FakeQuantizeBase
from torch.ao.quantization.observer import UniformQuantizationObserverBase

from mobilesr_plugin.graph.int8 import (
    QMAX,
    QMIN,
    SMALLEST_RANGE,
    SMALLEST_WEIGHT,
    WEIGHT_QMAX,
    qparams_of_range,
)
from mobilesr_plugin.graph.ops import QParams
from mobilesr_plugin.quantization.ranks import gathered

_HALF_STEP = 0.5 + 2**-13  # what 255 steps in float32 can be wrong by is less


def round_through(x: torch.Tensor) -> torch.Tensor:
    """Rounds half to even; the gradient passes as if nothing had happened."""
    return x + (torch.round(x) - x).detach()


def fake_quantize(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Rounds ``x`` to the 256 values that cover [low, high]; ``low <= 0 <= high`` is enforced.

    Differentiable in all three arguments. The result is float32 where ``x`` has 16 bits.
    """
    low, high = torch.clamp(low, max=0.0), torch.clamp(high, min=0.0)
    scale = torch.clamp(high - low, min=SMALLEST_RANGE) / (QMAX - QMIN)
    zero_point = torch.clamp(round_through(QMIN - low / scale), QMIN, QMAX)
    wide = x if x.dtype == torch.float64 else x.float()
    quantized: torch.Tensor = _FakeQuantize.apply(wide, scale, zero_point)
    return quantized


class _FakeQuantize(torch.autograd.Function):
    """``clamp(round(x / scale), QMIN - zero_point, QMAX - zero_point) * scale``.

    PyTorch's own derivative of this takes longer than the convolutions of a narrow network: it keeps each
    intermediate value, and masks with booleans, which a processor does one by one. This one keeps only what
    the layers before and after keep anyway, and all of it works in vectors.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor) -> torch.Tensor:
        # Not clamp, which is slow with bounds that are tensors; reading them would wait for the GPU.
        steps = torch.maximum(torch.div(x, scale).round_(), QMIN - zero_point)
        out = torch.minimum(steps, QMAX - zero_point).mul_(scale)
        ctx.save_for_backward(x, scale, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scale, out = ctx.saved_tensors
        error = torch.sub(out, x).div_(scale)  # of the rounding; larger than half a step outside of the range
        inside = torch.ops.aten.hardtanh_backward(grad, error, -_HALF_STEP, _HALF_STEP)  # there grad, else 0
        if not ctx.needs_input_grad[1]:
            return inside, None, None
        outside = grad - inside
        grad_scale = error.mul_(inside).sum() + (outside * out).sum() / scale
        return inside, grad_scale, -scale * outside.sum()


def fake_quantize_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (O, I, K, K) weights on their int8 grid, and the scales ``max|w| / 127``, (O,)."""
    largest = weight.detach().abs().amax(dim=(1, 2, 3))
    scales = torch.clamp(largest, min=SMALLEST_WEIGHT) / WEIGHT_QMAX
    shaped = scales.reshape(-1, 1, 1, 1)
    return round_through(weight / shaped) * shaped, scales


def fake_quantize_slope(slope: torch.Tensor) -> torch.Tensor:
    """Returns slopes of a PReLU, (C,), on their int8 grid, which has one scale for all channels."""
    scale = torch.clamp(slope.detach().abs().amax(), min=SMALLEST_WEIGHT) / WEIGHT_QMAX
    return round_through(slope / scale) * scale


class ActivationQuantizer(FakeQuantizeBase):
    """Observes, then fake-quantizes an activation.

    A torch.ao fake quantizer: ``network.apply(torch.ao.quantization.enable_observer)`` and its
    siblings work on it. Both switches are plain attributes here, because reading torch.ao's buffers
    would make the processor wait for the GPU at every call.

    Args:
        observer: Finds the range; None for a quantizer that is ``fixed``.
        fixed: The range, if nothing is to be observed or learned.

    Attributes:
        low, high: Ends of the range, (), parameters; they get gradients only while they are learned.
        calibrated: 1 once the range is valid.
        across_ranks: Whether all ranks of a distributed run run the network together; each then observes what
            all of them see, so that ranges are those of one process with all images.
    """

    calibrated: torch.Tensor

    def __init__(
        self, observer: UniformQuantizationObserverBase | None, fixed: tuple[float, float] | None = None
    ) -> None:
        super().__init__()
        del self.fake_quant_enabled, self.observer_enabled
        if (observer is None) == (fixed is None):
            raise ValueError("give an observer or a fixed range")
        self.fixed = fixed is not None
        self.activation_post_process: UniformQuantizationObserverBase | None = observer
        low, high = fixed or (0.0, 0.0)
        self.low = nn.Parameter(torch.tensor(low), requires_grad=False)
        self.high = nn.Parameter(torch.tensor(high), requires_grad=False)
        self.register_buffer("calibrated", torch.tensor(int(self.fixed), dtype=torch.uint8))
        self.across_ranks = False
        self.observing = False
        self.quantizing = False

    def enable_observer(self, enabled: bool = True) -> None:
        self.observing = enabled and not self.fixed

    def enable_fake_quant(self, enabled: bool = True) -> None:
        self.quantizing = enabled

    def learn_range(self, enabled: bool = True) -> None:
        """Lets the optimizer move the range, or not."""
        for end in (self.low, self.high):
            end.requires_grad_(enabled and not self.fixed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) in, the same out: observed, quantized, both or neither."""
        if self.observing:
            self._observer()(gathered(x) if self.across_ranks else x.detach())
            if self.quantizing:
                self.adopt_observed_range()
        return fake_quantize(x, self.low, self.high) if self.quantizing else x

    def adopt_observed_range(self) -> None:
        """Takes the observer's range over."""
        if self.fixed:
            return
        scale, zero_point = (value.reshape(()).float() for value in self._observer().calculate_qparams())
        with torch.no_grad():
            self.low.copy_((QMIN - zero_point) * scale)
            self.high.copy_((QMAX - zero_point) * scale)
            self.calibrated.fill_(1)

    def calculate_qparams(self, **_unused: Any) -> tuple[torch.Tensor, torch.Tensor]:  # torch.ao's name
        """Returns scale (float32) and zero point (int32) of the range, as torch.ao does."""
        qparams = self.qparams()
        return torch.tensor([qparams.scale]), torch.tensor([qparams.zero_point], dtype=torch.int32)

    def _observer(self) -> UniformQuantizationObserverBase:
        assert self.activation_post_process is not None
        return self.activation_post_process

    def qparams(self) -> QParams:
        """Returns scale and zero point as the device gets them."""
        return qparams_of_range(float(self.low.detach()), float(self.high.detach()))
