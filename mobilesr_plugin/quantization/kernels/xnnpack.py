"""XNNPACK's integer kernels, TFLite's default on processors.

Source: its scalar reference kernels and parameter preparation, https://github.com/google/XNNPACK
(``src/qs8-vadd``, ``src/qs8-vlrelu``, ``src/s8-ibilinear``, ``src/indirection.c``,
``src/microparams-init.c``), and measurement: every rule here is checked against real files in the
tests. What XNNPACK does not take, or only within limits, TFLite's built-in kernels compute.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from mobilesr_plugin.graph.ops import QParams
from mobilesr_plugin.quantization.kernels import tflite_builtin
from mobilesr_plugin.quantization.kernels.elementwise import (
    Axis,
    Lookup,
    all_codes,
    blend,
    in_blocks,
    like,
    limits,
)

#: It has no int8 kernel for these.
relu = tflite_builtin.relu
prelu = tflite_builtin.prelu


class Requantization(nn.Module):
    """One product in float32, rounded half to even."""

    factors: torch.Tensor

    def __init__(self, factors: np.ndarray, output: QParams, relu: bool) -> None:
        super().__init__()
        self.limits = limits(output, relu)
        self.register_buffer("factors", torch.from_numpy(factors))

    def forward(self, sums: torch.Tensor) -> torch.Tensor:
        """Exact sums, (N, C, H, W), float32 or float64, overwritten -> centred codes."""
        sums = sums.float()
        return in_blocks(self._round, sums, out=sums)

    def _round(self, sums: torch.Tensor) -> torch.Tensor:
        return sums.mul_(self.factors).round_().clamp_(*self.limits)


def requantization(
    source: QParams, weight_scales: np.ndarray, output: QParams, *, relu: bool, depthwise: bool, bound: float
) -> nn.Module:
    """Returns the step from a convolution's sums to codes.

    Args:
        source, weight_scales: The input's quantization and the weights' scales, (C,): the unit of sums.
        output: Quantization of the result.
        relu: Whether negative values become 0.
        depthwise: Whether each channel is a convolution of its own; makes no difference here.
        bound: No sum is larger; makes no difference here.
    """
    factors = np.float32(source.scale) * weight_scales.astype(np.float32) / np.float32(output.scale)
    return Requantization(factors.astype(np.float32), output, relu)


class Addition(nn.Module):
    """Fixed point with about 21 bits, rounded half up by the shift."""

    def __init__(self, ratios: tuple[np.float32, np.float32], output: QParams, relu: bool) -> None:
        super().__init__()
        self.shift = 20 - math.floor(math.log2(max(ratios)))
        self.multipliers = tuple(int(np.rint(float(ratio) * 2.0**self.shift)) for ratio in ratios)
        self.limits = limits(output, relu)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Centred codes, (N, C, H, W); one of them may have a single channel."""
        return in_blocks(self._add, left, right, out=like(max(left, right, key=lambda x: x.shape[1])))

    def _add(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        of_left, of_right = self.multipliers
        total = left.to(torch.int32).mul_(of_left) + right.to(torch.int32).mul_(of_right)
        return total.add_(1 << (self.shift - 1)).bitwise_right_shift_(self.shift).clamp_(*self.limits)


def addition(left: QParams, right: QParams, output: QParams, *, relu: bool) -> nn.Module:
    """Returns the sum of two values; XNNPACK adds where both ratios of scales lie in [2^-10, 2^8)."""
    a, b = (np.float32(q.scale) / np.float32(output.scale) for q in (left, right))
    if min(a, b) < 2.0**-10 or max(a, b) >= 2.0**8:
        return tflite_builtin.addition(left, right, output, relu=relu)
    return Addition((a, b), output, relu)


def leaky_relu(source: QParams, output: QParams, slope: float) -> nn.Module:
    """Returns a LeakyReLU: factors with 8 bits behind the point, rounded half up.

    XNNPACK takes factors from 2^-8 to 2^7.
    """
    positive = np.float32(source.scale) / np.float32(output.scale)
    negative = positive * np.float32(slope)
    if min(positive, abs(negative)) < 2.0**-8 or max(positive, negative) > 2.0**7:
        return tflite_builtin.leaky_relu(source, output, slope)
    of_positive, of_negative = (int(np.rint(np.float32(256) * ratio)) for ratio in (positive, negative))
    x = all_codes(source)
    products = torch.where(x >= 0, x * of_positive, x * of_negative)
    return Lookup(source, output, (products + 128) >> 8)


class Resize(nn.Module):
    """Bilinear interpolation with weights of 11 bits, rounded half up."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        vertical, horizontal = (self._axis(size, x.device) for size in x.shape[2:])
        return ((blend(x, vertical, horizontal, 2**11) + 2**21) >> 22).float()

    def _axis(self, size: int, device: torch.device) -> Axis:
        scale = np.float32(size) / np.float32(size * self.factor)
        offset = np.float32(0.5) * scale - np.float32(0.5)
        place = torch.arange(size * self.factor, dtype=torch.float32, device=device)
        place = place.mul_(float(scale)).add_(float(offset)).clamp_(0, size - 1)
        first = place.to(torch.int32)
        weight = torch.round((place - first) * 2**11).to(torch.int32)
        return first, torch.clamp(first + 1, max=size - 1), weight


def resize_bilinear(source: QParams, factor: int, *, fixed_size: bool) -> nn.Module:
    """Returns bilinear upsampling; XNNPACK takes it only where the file fixes the size."""
    return Resize(factor) if fixed_size else tflite_builtin.resize_bilinear(source, factor, fixed_size=False)
