"""Products with a real factor in 32-bit fixed point, as gemmlowp and TFLite compute them.

Source: B. Jacob et al., CVPR 2018, https://arxiv.org/abs/1712.05877, section 2.2;
https://github.com/google/gemmlowp (``fixedpoint/fixedpoint.h``);
https://github.com/tensorflow/tensorflow (``tensorflow/lite/kernels/internal/quantization_util.cc``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Returns ``m``, ``e`` with ``real = m * 2^(e - 31)``, ``2^30 <= m < 2^31``; 0, 0 for next to nothing."""
    mantissa, exponent = math.frexp(real)
    multiplier = math.floor(mantissa * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, exponent = 2**30, exponent + 1
    return (0, 0) if exponent < -31 else (multiplier, exponent)


class Multiplier(nn.Module):
    """Multiplies integers by real factors, one or one for each channel, and rounds twice.

    First the high half of the doubled 64-bit product, ties upwards; then, where the factor is below
    1/2, a right shift. Both are one shift of the product with a constant added: for a shift by r,
    ``((p + 2^30) >> 31) + 2^(r-1) >> r`` is ``(p + 2^30 + 2^(30+r)) >> (31 + r)``. Where a tie of the
    last shift goes away from zero, a negative product first loses 2^31.

    Args:
        factors: Not negative.
        ties_away: How the last shift rounds a tie: away from zero, or upwards. One or one for each factor.
    """

    multiplier: torch.Tensor
    constant: torch.Tensor
    shift: torch.Tensor
    away: torch.Tensor

    def __init__(self, factors: Iterable[float], ties_away: bool | Iterable[bool]) -> None:
        super().__init__()
        multipliers, exponents = zip(*(quantize_multiplier(factor) for factor in factors), strict=True)
        away = [ties_away] * len(multipliers) if isinstance(ties_away, bool) else list(ties_away)
        left = torch.tensor([max(exponent, 0) for exponent in exponents])
        right = torch.tensor([max(-exponent, 0) for exponent in exponents])
        self.register_buffer("multiplier", torch.tensor(multipliers) << left)
        self.register_buffer("constant", 2**30 + ((1 << right) >> 1) * 2**31)
        self.register_buffer("shift", 31 + right)
        self.register_buffer("away", (torch.tensor(away) & (right > 0)) * 2**31)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., C) int64 -> the products, int64."""
        product = x * self.multiplier
        loss = (product >> 63).bitwise_and_(self.away)
        return product.sub_(loss).add_(self.constant).bitwise_right_shift_(self.shift)


class FloatMultiplier(nn.Module):
    """The same products with ties upwards, in float64, which is faster.

    The shift is a floor: ``floor(x * m / 2^(31+r) + 1/2 + 2^-(r+1))``. A float64 holds that exactly while
    the sum is below 2^21 (31 bits of the multiplier and some for the added constant); see
    :func:`fits_float64`.
    """

    factor: torch.Tensor
    offset: torch.Tensor

    def __init__(self, factors: Iterable[float]) -> None:
        super().__init__()
        pairs = [quantize_multiplier(factor) for factor in factors]
        scaled = [math.ldexp(multiplier, exponent - 31) for multiplier, exponent in pairs]
        offsets = [0.5 + (2.0 ** (exponent - 1) if exponent < 0 else 0.0) for _, exponent in pairs]
        self.register_buffer("factor", torch.tensor(scaled, dtype=torch.float64))
        self.register_buffer("offset", torch.tensor(offsets, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., C) float -> the products, float64."""
        return torch.addcmul(self.offset, x.double(), self.factor).floor_()


def fits_float64(bound: float, factors: Iterable[float]) -> bool:
    """Whether FloatMultiplier gives the right int8 codes for sums up to ``bound``.

    Larger sums do no harm where their products are beyond all codes anyway, 2^21 * 2^-13 = 256.
    """
    return bound < 2**21 or min(factors) >= 2**-13
