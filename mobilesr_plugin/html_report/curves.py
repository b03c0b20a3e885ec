"""Training curves from BasicSR's tensorboard log, as lines that a template draws."""

from __future__ import annotations

import importlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilesr_plugin.host.tensorboard_repair import keep_tensorflow_out_of_tensorboard

Points = list[tuple[int, float]]

_MOST_POINTS = 400
_TICKS = 4
# Smallest height of an axis, so that a difference of a thousandth does not look like a fall.
_LEAST_HEIGHT = {"dB": 0.1, "": 0.0}


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, at ``percent`` of its length."""

    percent: float
    label: str


@dataclass(frozen=True)
class Line:
    """A line: its name, its ``path`` in an SVG of 100 by 100, and the last value as text."""

    name: str
    path: str
    last: str


@dataclass(frozen=True)
class Chart:
    """Lines over iterations, on common axes."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]


def read_scalars(log: Path) -> dict[str, Points]:
    """Returns the scalars of a tensorboard log by name, as (iteration, value); empty if it has none."""
    keep_tensorflow_out_of_tensorboard()
    try:
        events = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    except ImportError:
        return {}
    reader = events.EventAccumulator(str(log), size_guidance={events.SCALARS: 0})
    reader.Reload()
    found = {}
    for name in reader.Tags()["scalars"]:
        points = [(event.step, event.value) for event in reader.Scalars(name)]
        found[name] = [(step, value) for step, value in points if math.isfinite(value)]
    return {name: points for name, points in found.items() if points}


def charts(scalars: dict[str, Points]) -> list[Chart]:
    """Sorts scalars into charts: each metric, each loss, then the learned ranges; times are left out."""
    metrics: dict[str, dict[str, Points]] = defaultdict(dict)
    losses: dict[str, dict[str, Points]] = defaultdict(dict)
    ranges: dict[str, dict[str, Points]] = defaultdict(dict)
    for name, points in sorted(scalars.items()):
        first, _, rest = name.partition("/")
        if first == "metrics":
            dataset, _, metric = rest.rpartition("/")
            of_float = metric.removesuffix("_float")  # beside the metric of the int8 network
            if of_float != metric and name.removesuffix("_float") in scalars:
                metrics[of_float][f"{dataset}, float network"] = points
            else:
                metrics[metric][dataset or metric] = points
        elif first == "ranges":
            layer, _, end = rest.rpartition("/")
            ranges[f"Learned ranges, {end} ends"][layer] = points
        elif first == "losses":
            losses[f"Loss, {rest.removeprefix('l_')}"][rest.removeprefix("l_")] = points
    return [
        *(_chart(f"Validation, {name}", _unit(lines), lines) for name, lines in metrics.items()),
        *(_chart(name, "", lines) for name, lines in losses.items()),
        *(_chart(name, "", lines) for name, lines in ranges.items()),
    ]


def _unit(series: dict[str, Points]) -> str:
    """PSNR is in dB; SSIM and the like, which never exceed 1, have no unit."""
    return "dB" if max(value for points in series.values() for _, value in points) > 1 else ""


def _chart(title: str, unit: str, series: dict[str, Points]) -> Chart:
    steps = [step for points in series.values() for step, _ in points]
    values = [value for points in series.values() for _, value in points]
    x_ticks = _ticks(min(steps), max(steps))
    x_ticks = [at for at in x_ticks if at == int(at)]  # there is no half an iteration
    missing = max(0.0, _LEAST_HEIGHT[unit] - (max(values) - min(values))) / 2
    values += [min(values) - missing, max(values) + missing]
    y_ticks = _ticks(min(values), max(values))
    # The axes begin and end at a tick or beyond the data.
    x_low, x_high = min(steps), max(max(steps), min(steps) + 1)
    y_low, y_high = min([*y_ticks, *values]), max([*y_ticks, *values])
    y_high = y_high if y_high > y_low else y_low + 1

    def place(point: tuple[int, float]) -> str:
        x = 100 * (point[0] - x_low) / (x_high - x_low)
        return f"{x:.2f} {100 - 100 * (point[1] - y_low) / (y_high - y_low):.2f}"

    lines = []
    for name, points in series.items():
        path = "M" + "L".join(place(point) for point in _thinned(points))
        lines.append(Line(name, path, f"{points[-1][1]:{'.2f' if unit == 'dB' else '.4g'}}"))
    return Chart(
        title,
        unit,
        tuple(lines),
        tuple(Tick(100 * (at - x_low) / (x_high - x_low), f"{at:,.0f}") for at in x_ticks if at <= x_high),
        tuple(Tick(100 * (at - y_low) / (y_high - y_low), f"{at:.6g}") for at in y_ticks),
    )


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    stride = -(-len(points) // _MOST_POINTS)
    return [*points[:-1:stride], points[-1]]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in [low, high], about _TICKS of them."""
    if high <= low:
        return [low]
    raw = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]
