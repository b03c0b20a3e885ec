"""Cost of SESR's training step, collapsed against expanded, measured alternately in one process.

The authors give 1.84 and 41.77 G multiply-accumulates for the forward pass of M5 with 32 pictures of
64x64 (https://github.com/ARM-software/sesr, README). Here the collapsed form takes 1.78: the convolutions
are the same 1.77, but the two kernels are multiplied directly instead of run on an image of an identity.
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mobilesr_plugin.archs.linear_block import MODES
from mobilesr_plugin.archs.sesr_arch import SESR
from mobilesr_plugin.errors import OptionError

WARM_UP = 1


@dataclass(frozen=True)
class StepCost:
    """One form's training step: forward, L1 loss, backward, Adam (amsgrad).

    Attributes:
        linear_block: ``collapsed`` or ``expanded``.
        median: Milliseconds.
        peak_bytes: Most memory that the step holds at once, beyond what it found: gradients and
            activations, not weights, the optimizer's state and the batch.
        forward_macs: Multiply-accumulates of the forward pass, collapsing included.
    """

    linear_block: str
    median: float
    peak_bytes: int
    forward_macs: int


@dataclass(frozen=True)
class Comparison:
    """Both forms, and the expanded one's cost over the collapsed one's.

    Attributes:
        collapsed: Cost of the collapsed form.
        expanded: Cost of the expanded form.
        time_ratio: Median over the rounds of the ratio within a round.
        memory_ratio: Ratio of ``peak_bytes``.
        mac_ratio: Ratio of ``forward_macs``.
    """

    collapsed: StepCost
    expanded: StepCost
    time_ratio: float
    memory_ratio: float
    mac_ratio: float


def measure(
    *,
    variant: str = "M5",
    upscale: int = 2,
    batch: int = 32,
    patch: int = 64,
    runs: int = 5,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Measures both forms on the CPU, on the same seeded batch.

    Memory is what torch's profiler records of every allocation and release: exact, the same on any
    machine, and untouched by other processes; workspace that a kernel library takes past torch is not in it.

    Args:
        variant: SESR's sizes.
        upscale: 2 or 4.
        batch: Pictures in a batch.
        patch: Their height and width before upscaling.
        runs: Rounds that count, after WARM_UP that do not.
        threads: Processor threads. More than one need idle cores: beside another busy process they wait
            for each other at every operator, and the shorter step loses most (6 times instead of 30
            was seen so).
        progress: Called with the number of rounds done and of all.

    Raises:
        OptionError: too few runs or threads, no batch, or no such variant.
    """
    if runs < 3:
        raise OptionError(f"runs is {runs}; a median needs at least 3")
    if batch < 1 or patch < 1:
        raise OptionError(f"batch is {batch} and patch is {patch}; both must be 1 or more")
    if threads < 1:
        raise OptionError(f"threads is {threads}; it must be 1 or more")
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _compare(variant, upscale, batch, patch, runs, progress)
    finally:
        torch.set_num_threads(threads_before)


def _compare(
    variant: str, upscale: int, batch: int, patch: int, runs: int, progress: Callable[[int, int], None]
) -> Comparison:
    steps = {mode: _prepared_step(mode, variant, upscale, batch, patch) for mode in MODES}
    times: dict[str, list[float]] = {mode: [] for mode in MODES}
    for round_ in range(WARM_UP + runs):
        for mode in MODES if round_ % 2 else reversed(MODES):
            started = time.perf_counter()
            steps[mode]()
            if round_ >= WARM_UP:
                times[mode].append((time.perf_counter() - started) * 1e3)
        progress(round_ + 1, WARM_UP + runs)
    collapsed, expanded = (
        StepCost(
            mode,
            statistics.median(times[mode]),
            peak_memory(steps[mode]),
            forward_macs(SESR(variant=variant, upscale=upscale, linear_block=mode), batch, patch, patch),
        )
        for mode in MODES
    )
    return Comparison(
        collapsed,
        expanded,
        time_ratio=statistics.median(
            slow / fast for fast, slow in zip(times["collapsed"], times["expanded"], strict=True)
        ),
        memory_ratio=expanded.peak_bytes / collapsed.peak_bytes,
        mac_ratio=expanded.forward_macs / collapsed.forward_macs,
    )


def forward_macs(network: SESR, batch: int, height: int, width: int) -> int:
    """Returns the multiply-accumulates of one forward pass, counted from the operators that it calls.

    Args:
        network: Any form of it; a copy runs on torch's meta device, where nothing is computed.
        batch: Pictures in a batch.
        height, width: Their size before upscaling.
    """
    network = copy.deepcopy(network).to("meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.empty(batch, network.num_in_ch, height, width, device="meta"))
    return counter.get_total_flops() // 2


def peak_memory(step: Callable[[], object]) -> int:
    """Returns the most bytes that ``step`` holds at once on the CPU beyond what was held before it."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler reports itself on stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    held = peak = 0
    for change in sorted(changes, key=lambda event: event["ts"]):
        held += change["args"]["Bytes"]
        peak = max(peak, held)
    return peak


def _prepared_step(mode: str, variant: str, upscale: int, batch: int, patch: int) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(batch, 1, patch, patch, generator=generator)
    high = torch.rand(batch, 1, patch * upscale, patch * upscale, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SESR(variant=variant, upscale=upscale, linear_block=mode)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, amsgrad=True)

    def step() -> None:
        F.l1_loss(network(low), high).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
