"""Functions timed alternately in one process, so that ratios can be trusted on a noisy machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from mobilesr_plugin.errors import OptionError

WARM_UP = 3
LEAST_RUNS = 3

Progress = Callable[[int, int], None]


def check_runs(runs: int) -> None:
    """Raises OptionError where there are too few rounds for a median."""
    if runs < LEAST_RUNS:
        raise OptionError(f"runs is {runs}; a median needs at least {LEAST_RUNS}")


def alternate(
    calls: Sequence[Callable[[], object]],
    runs: int,
    progress: Progress = lambda done, total: None,
) -> np.ndarray:
    """Calls each function once a round, in an order that rotates; returns (calls, runs) milliseconds.

    Args:
        calls: What is timed.
        runs: Rounds that count, after WARM_UP that do not.
        progress: Called with the number of rounds done and of all.

    Raises:
        OptionError: too few runs.
    """
    check_runs(runs)
    times = np.zeros((len(calls), runs))
    for round_ in range(-WARM_UP, runs):
        for step in range(len(calls)):
            index = (round_ + step) % len(calls)
            started = time.perf_counter()
            calls[index]()
            if round_ >= 0:
                times[index, round_] = (time.perf_counter() - started) * 1e3
        progress(round_ + WARM_UP + 1, WARM_UP + runs)
    return times
