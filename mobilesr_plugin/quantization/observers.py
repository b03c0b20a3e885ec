"""Observers: how the range of an activation is found on calibration images.

All are torch.ao observers, so that they can be saved, resumed and moved like any module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.ao.quantization import HistogramObserver, MinMaxObserver, MovingAverageMinMaxObserver
from torch.ao.quantization.observer import UniformQuantizationObserverBase


class PercentileObserver(HistogramObserver):
    """Range from percentiles of everything seen so far, so that rare outliers do not widen it.

    Args:
        percentile: Upper percentile in (50, 100]; the lower one mirrors it. 99.99 leaves out one
            value of 10,000 at either end.
    """

    def __init__(self, percentile: float = 99.99, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.percentile = percentile

    def _non_linear_param_search(self) -> tuple[torch.Tensor, torch.Tensor]:
        # The one step in which torch.ao's class turns its histogram into a range.
        tail = (100.0 - self.percentile) / 100.0
        cumulative = torch.cumsum(self.histogram.double(), dim=0)
        cumulative = cumulative / cumulative[-1]
        width = (self.max_val - self.min_val) / self.bins
        first = torch.searchsorted(
            cumulative, torch.tensor(tail, dtype=torch.float64, device=cumulative.device)
        )
        last = torch.searchsorted(
            cumulative, torch.tensor(1.0 - tail, dtype=torch.float64, device=cumulative.device)
        )
        return self.min_val + width * first, self.min_val + width * torch.clamp(last + 1, max=self.bins)


class CandidateObserver(PercentileObserver):
    """Sees everything once, and then gives the range by any of several rules.

    Attributes:
        rule: ``minmax``, ``percentile`` or ``mse``, or None before one is chosen, which is
            ``percentile``.
    """

    RULES = ("minmax", "percentile", "mse")

    def __init__(self, percentile: float = 99.99, **kwargs: Any) -> None:
        super().__init__(percentile, **kwargs)
        self.rule: str | None = None

    def _non_linear_param_search(self) -> tuple[torch.Tensor, torch.Tensor]:
        match self.rule:
            case "minmax":
                return self.min_val, self.max_val
            case "mse":
                return HistogramObserver._non_linear_param_search(self)
            case "percentile" | None:
                return super()._non_linear_param_search()
        raise ValueError(f"rule is {self.rule!r}; it must be one of {', '.join(self.RULES)}")


def make_observer(kind: str, percentile: float) -> UniformQuantizationObserverBase:
    """Returns a torch.ao observer for int8 per-tensor affine activations.

    Args:
        kind: One of ``mobilesr_plugin.options.OBSERVERS``.
        percentile: For ``percentile`` and ``auto``; see PercentileObserver.
    """
    makers: dict[str, Callable[..., UniformQuantizationObserverBase]] = {
        "auto": lambda **kwargs: CandidateObserver(percentile, **kwargs),
        "minmax": MinMaxObserver,
        "moving_average": MovingAverageMinMaxObserver,
        "mse": HistogramObserver,
        "percentile": lambda **kwargs: PercentileObserver(percentile, **kwargs),
    }
    return makers[kind](dtype=torch.qint8, qscheme=torch.per_tensor_affine, quant_min=-128, quant_max=127)
