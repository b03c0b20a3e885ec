"""TFLite's built-in integer kernels, which run without XNNPACK, and where XNNPACK has none.

Source: https://github.com/tensorflow/tensorflow, ``tensorflow/lite/kernels`` (``add.cc``,
``activations.cc``, ``conv.cc``, ``depthwise_conv.cc`` and ``internal/reference/resize_bilinear.h``),
https://github.com/google/ruy, and measurement on x86: every rule here is checked against real files in
the tests.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mobilesr_plugin.graph.int8 import QMIN, quantize_slopes
from mobilesr_plugin.graph.ops import QParams
from mobilesr_plugin.quantization.kernels.elementwise import (
    CODES,
    Axis,
    Lookup,
    all_codes,
    blend,
    in_blocks,
    like,
    limits,
    look_up,
)
from mobilesr_plugin.quantization.kernels.fixed_point import FloatMultiplier, Multiplier, fits_float64

_VECTOR = 8  # channels that the depthwise kernel's vector code takes at once


class Requantization(nn.Module):
    """A product in fixed point.

    Ties of its last shift go upwards in vector code. What the depthwise kernel has left behind its
    last full vector of channels goes through scalar code, where ties go away from zero.
    """

    def __init__(
        self, factors: list[float], output: QParams, relu: bool, depthwise: bool, bound: float
    ) -> None:
        super().__init__()
        self.limits = limits(output, relu)
        vectors = len(factors) // _VECTOR * _VECTOR if depthwise else len(factors)
        if vectors == len(factors) and fits_float64(bound, factors):
            self.multiply: nn.Module = FloatMultiplier(factors)
        else:
            self.multiply = Multiplier(factors, [channel >= vectors for channel in range(len(factors))])
        self.in_float = isinstance(self.multiply, FloatMultiplier)

    def forward(self, sums: torch.Tensor) -> torch.Tensor:
        """Exact sums, (N, C, H, W), float32 or float64 -> centred codes."""
        return in_blocks(self._round, sums, out=like(sums) if sums.dtype == torch.float64 else sums)

    def _round(self, sums: torch.Tensor) -> torch.Tensor:
        return self.multiply(sums if self.in_float else sums.long()).clamp_(*self.limits)


def requantization(
    source: QParams, weight_scales: np.ndarray, output: QParams, *, relu: bool, depthwise: bool, bound: float
) -> nn.Module:
    """Returns the step from a convolution's sums to codes.

    Args:
        source, weight_scales: The input's quantization and the weights' scales, (C,): the unit of sums.
        output: Quantization of the result.
        relu: Whether negative values become 0.
        depthwise: Whether each channel is a convolution of its own.
        bound: No sum is larger.
    """
    scales = weight_scales.astype(np.float32).tolist()  # as the file holds them
    factors = [source.scale * scale / output.scale for scale in scales]
    return Requantization(factors, output, relu, depthwise, bound)


class Addition(nn.Module):
    """Both inputs in units of 2^-20 of twice the larger scale, then their sum: a table of pairs of codes."""

    table: torch.Tensor

    def __init__(self, left: QParams, right: QParams, output: QParams, relu: bool) -> None:
        super().__init__()
        twice = 2 * max(left.scale, right.scale)
        of_left, of_right = (
            Multiplier([source.scale / twice], ties_away=True)(all_codes(source) << 20)
            for source in (left, right)
        )
        of_sum = Multiplier([twice / (2**20 * output.scale)], ties_away=True)
        sums = of_sum((of_left + of_right.T).reshape(-1, 1)).clamp_(*limits(output, relu))
        self.register_buffer("table", sums.reshape(-1).float())
        self.first = (left.zero_point - QMIN) * CODES + right.zero_point - QMIN

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Centred codes, (N, C, H, W); one of them may have a single channel."""
        return in_blocks(self._add, left, right, out=like(max(left, right, key=lambda x: x.shape[1])))

    def _add(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return look_up(self.table, (left * CODES).add_(self.first) + right)  # one may have one channel


def addition(left: QParams, right: QParams, output: QParams, *, relu: bool) -> nn.Module:
    """Returns the sum of two values."""
    return Addition(left, right, output, relu)


def relu(source: QParams, output: QParams) -> nn.Module:
    """Returns a ReLU that stands alone."""
    multiply = Multiplier([source.scale / output.scale], ties_away=True)
    return Lookup(source, output, multiply(all_codes(source)).clamp_(min=0))


def leaky_relu(source: QParams, output: QParams, slope: float) -> nn.Module:
    """Returns a LeakyReLU; the file holds its slope in float32."""
    x = all_codes(source)
    positive = Multiplier([source.scale / output.scale], ties_away=True)
    factor = source.scale * float(np.float32(slope)) / output.scale
    negative = Multiplier([abs(factor)], ties_away=True)
    return Lookup(source, output, torch.where(x >= 0, positive(x), negative(x if factor >= 0 else -x)))


def prelu(source: QParams, output: QParams, slope: np.ndarray) -> nn.Module:
    """Returns a PReLU with a slope for each channel; slopes are int8 with one scale."""
    codes, slope_scale, slope_zero_point = quantize_slopes(slope)
    x = all_codes(source)
    positive = Multiplier([source.scale / output.scale], ties_away=True)
    factor = source.scale * float(np.float32(slope_scale)) / output.scale
    negative = Multiplier([factor], ties_away=True)
    slopes = torch.from_numpy(codes.astype(np.int64) - slope_zero_point)
    return Lookup(source, output, torch.where(x >= 0, positive(x), negative(x * slopes)))


class Resize(nn.Module):
    """Bilinear interpolation with weights of 10 bits; ties go away from code 0.

    The step from one output pixel to the next has 10 bits too. For factor 3 it is 341 / 1024, so that
    the result drifts by one input pixel in about 3000 output pixels.
    """

    def __init__(self, source: QParams, factor: int) -> None:
        super().__init__()
        self.zero_point, self.factor = source.zero_point, factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        vertical, horizontal = (self._axis(size, x.device) for size in x.shape[2:])
        total = blend(x + self.zero_point, vertical, horizontal, 2**10)
        rounded = (total.abs() + 2**19) >> 20
        return (rounded * total.sign() - self.zero_point).float()

    def _axis(self, size: int, device: torch.device) -> Axis:
        enlarged = size * self.factor
        step = (2**10 * size + enlarged // 2) // enlarged
        place = torch.arange(enlarged, dtype=torch.int32, device=device) * step + (step // 2 - 2**9)
        first = torch.clamp(place >> 10, min=0)
        second = torch.clamp((place + 2**10 - 1) >> 10, 0, size - 1)
        return first, second, place - (first << 10)


def resize_bilinear(source: QParams, factor: int, *, fixed_size: bool) -> nn.Module:
    """Returns bilinear upsampling; the same in files for one size and for any."""
    return Resize(source, factor)
