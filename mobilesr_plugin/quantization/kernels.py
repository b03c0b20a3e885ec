"""The arithmetic of the device's integer kernels, exactly.

XNNPACK is TFLite's default on CPUs. Source: its scalar reference kernels and parameter preparation
(https://github.com/google/XNNPACK, src/qs8-vadd and src/microparams-init.c), and measurement: every
rule here is checked against real files in the tests.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from mobilesr_plugin.graph.int8 import QMAX, QMIN
from mobilesr_plugin.graph.ops import QParams


def requantize(
    accumulator: torch.Tensor, input_scale: float, weight_scales: np.ndarray, output: QParams, relu: bool
) -> torch.Tensor:
    """Turns convolution sums into int8 codes as XNNPACK does: one float32 product, half to even.

    Args:
        accumulator: Exact integer sums, (N, C, H, W), float32 or float64.
        input_scale, weight_scales: Their product is the unit of the sums; scales are (C,) float32.
        output: Quantization of the result.
        relu: Whether negative values become 0.

    Returns:
        Codes in [-128, 127] as float32.
    """
    factor = np.float32(input_scale) * weight_scales.astype(np.float32) / np.float32(output.scale)
    factors = torch.from_numpy(factor.astype(np.float32)).to(accumulator.device).reshape(1, -1, 1, 1)
    lowest = max(QMIN, output.zero_point) if relu else QMIN
    codes = torch.round(accumulator.float() * factors) + output.zero_point
    return torch.clamp(codes, lowest, QMAX)


def add(
    left: torch.Tensor, right: torch.Tensor, left_q: QParams, right_q: QParams, output: QParams
) -> torch.Tensor:
    """Adds int8 codes as XNNPACK does: fixed point with about 21 bits, rounded half up.

    Args:
        left, right: Codes as float32, (N, C, H, W); one of them may have a single channel.
        left_q, right_q, output: Quantization of both inputs and of the result.

    Returns:
        Codes in [-128, 127] as float32.
    """
    left_ratio = np.float32(left_q.scale) / np.float32(output.scale)
    right_ratio = np.float32(right_q.scale) / np.float32(output.scale)
    shift = 20 - math.floor(math.log2(max(left_ratio, right_ratio)))
    left_factor, right_factor = (
        int(np.rint(float(ratio) * 2.0**shift)) for ratio in (left_ratio, right_ratio)
    )
    total = (
        (left - left_q.zero_point).to(torch.int32) * left_factor
        + (right - right_q.zero_point).to(torch.int32) * right_factor
        + (1 << (shift - 1))
    )
    return torch.clamp((total >> shift) + output.zero_point, QMIN, QMAX).float()
