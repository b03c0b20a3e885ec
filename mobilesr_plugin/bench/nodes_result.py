"""The node study as JSON, Markdown and a plot; computes nothing."""

from __future__ import annotations

import dataclasses
import html
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mobilesr_plugin.bench.delegation import BUILTIN, XNNPACK
from mobilesr_plugin.bench.nodes import BASE, NodeTime

COLOURS = {XNNPACK: "#2f6f9f", BUILTIN: "#d08a2e", "both": "#7d6b9e"}
INK = "#222222"
WIDTH, LABEL, BAR, ROW, TOP = 860, 210, 470, 22, 64


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True)
class _Text:
    x: float
    y: float
    text: str
    right: bool = False  # x is where it ends
    size: int = 13


def to_json(results: Sequence[NodeTime], settings: dict[str, Any]) -> dict[str, Any]:
    """Returns everything as plain data; ``settings`` (size, threads, ...) come first."""
    return {**settings, "nodes": [dataclasses.asdict(result) for result in results]}


def markdown(results: Sequence[NodeTime]) -> str:
    """Returns one table for single operators and one for whole networks."""
    parts = []
    for title, network in (("operator", False), ("network", True)):
        paper = " paper's NPU, ms |" if network else ""
        lines = [
            f"| {title} | input | output | ms | 10 % | 90 % | to {BASE} | operators | kernels |{paper}",
            "|---|---|---|---:|---:|---:|---:|---|---|" + ("---|" if network else ""),
        ]
        for each in results:
            if each.network == network:
                cells = [
                    each.name,
                    " + ".join(_shape(shape) for shape in each.shapes),
                    _shape(each.output),
                    *(f"{value:.2f}" for value in (each.median, each.low, each.high, each.ratio)),
                    _counted(each.operators),
                    _kernels(each),
                    *([each.paper] if network else []),
                ]
                lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def svg(results: Sequence[NodeTime], title: str) -> bytes:
    """Returns the plot as SVG: a bar for each candidate, coloured by the kernels that ran it."""
    height, shapes = _plot(results, title)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for each in shapes:
        match each:
            case _Box():
                at = f'x="{each.x:.1f}" y="{each.y:.1f}" width="{each.width:.1f}" height="{each.height:.1f}"'
                lines.append(f'<rect {at} fill="{each.colour}"/>')
            case _Text():
                anchor = "end" if each.right else "start"
                at = f'x="{each.x:.1f}" y="{each.y:.1f}" font-size="{each.size}" text-anchor="{anchor}"'
                lines.append(f"<text {at}>{html.escape(each.text)}</text>")
    return ("\n".join([*lines, "</svg>"]) + "\n").encode()


def png(results: Sequence[NodeTime], title: str) -> bytes:
    """Returns the same plot as PNG, at twice the size."""
    from PIL import Image, ImageDraw, ImageFont

    height, shapes = _plot(results, title)
    image = Image.new("RGB", (WIDTH * 2, height * 2), "white")
    draw = ImageDraw.Draw(image)
    for each in shapes:
        match each:
            case _Box():
                ends = (each.x + each.width, each.y + each.height)
                draw.rectangle((each.x * 2, each.y * 2, *(end * 2 for end in ends)), fill=each.colour)
            case _Text():
                draw.text(
                    (each.x * 2, each.y * 2),
                    each.text,
                    fill=INK,
                    font=ImageFont.load_default(each.size * 2),
                    anchor="rs" if each.right else "ls",
                )
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _plot(results: Sequence[NodeTime], title: str) -> tuple[int, list[_Box | _Text]]:
    """Returns the height, and what is drawn. Operators and networks have a scale each."""
    shapes: list[_Box | _Text] = [_Text(12, 24, title, size=15)]
    x = float(LABEL)
    for kernels, colour in COLOURS.items():
        shapes += [_Box(x, 36, 12, 12, colour), _Text(x + 18, 47, kernels)]
        x += 110
    y = TOP
    for network in (False, True):
        group = [each for each in results if each.network == network]
        longest = max((each.median for each in group), default=1.0)
        for each in group:
            length = max(1.0, BAR * each.median / longest)
            shapes += [
                _Text(LABEL - 8, y + 15, each.name, right=True),
                _Box(LABEL, y + 3, length, ROW - 6, COLOURS[_kernels(each)]),
                _Text(LABEL + length + 8, y + 15, f"{each.median:.2f} ms"),
            ]
            y += ROW
        y += ROW
    return y, shapes


def _kernels(each: NodeTime) -> str:
    used = set(each.kernels)
    return next(iter(used)) if len(used) == 1 else "both"


def _counted(operators: Sequence[str]) -> str:
    return ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in Counter(operators).items())


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[1:]))
