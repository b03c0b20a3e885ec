"""The benchmark of training steps counts what the network really does."""

from __future__ import annotations

import pytest

from mobilesr_plugin.bench.training_step import measure
from mobilesr_plugin.errors import OptionError


def test_cost_of_a_training_step() -> None:
    """Memory and arithmetic are exact, so small numbers show the saving; time is only reported."""
    cost = measure(variant="M3", batch=2, patch=16, runs=3)
    pixels = 2 * 16 * 16
    product = 256 * (16 * 25 + 3 * 16 * 144 + 4 * 400)
    assert cost.collapsed.forward_macs == pixels * 8912 + product
    assert cost.expanded.forward_macs == pixels * 256 * (25 + 16 + 3 * (144 + 16) + 400 + 4)
    assert cost.memory_ratio > 2 and cost.time_ratio > 0 and cost.collapsed.median > 0
    with pytest.raises(OptionError, match="runs is 1"):
        measure(runs=1)
    with pytest.raises(OptionError, match="threads is 0"):
        measure(threads=0)
