"""`mobilesr bench nodes`: what the candidates are, and what the command writes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from mobilesr_plugin.bench import nodes, nodes_result
from mobilesr_plugin.bench.delegation import BUILTIN, XNNPACK
from mobilesr_plugin.bench.node_graphs import candidates
from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.options import parse_size

CHANNELS, SCALE = 8, 2
SINGLE = {
    "conv 1x1": "CONV_2D",
    "conv 3x3": "CONV_2D",
    "conv 5x5": "CONV_2D",
    "grouped conv 3x3, 4 groups": "CONV_2D",
    "depthwise conv 3x3": "DEPTHWISE_CONV_2D",
    "add": "ADD",
    "multiply": "MUL",
    "concat": "CONCATENATION",
    "split": "SPLIT",
    "ReLU": "RELU",
    "LeakyReLU": "LEAKY_RELU",
    "PReLU": "PRELU",
    "global average pooling": "MEAN",
    "depth-to-space": "DEPTH_TO_SPACE",
    "nearest resize": "RESIZE_NEAREST_NEIGHBOR",
    "bilinear resize": "RESIZE_BILINEAR",
}
SHUFFLED = {*["CONV_2D"], "DEPTH_TO_SPACE"}
NETWORKS = {
    "residual: none": SHUFFLED,
    "residual: feature": {*SHUFFLED, "ADD"},
    "residual: nearest": {*SHUFFLED, "ADD", "RESIZE_NEAREST_NEIGHBOR"},
    "residual: bilinear": {*SHUFFLED, "ADD", "RESIZE_BILINEAR"},
    "residual: anchor": {*SHUFFLED, "ADD", "CONCATENATION"},
}


@pytest.fixture(scope="module")
def measured() -> list[nodes.NodeTime]:
    return nodes.measure(size=(12, 16), channels=CHANNELS, scale=SCALE, threads=1, runs=3)


def test_a_candidate_is_one_operator_of_its_kind(measured: list[nodes.NodeTime]) -> None:
    """No quantization, transpose or padding beside it: its time is the operator's."""
    assert {each.name: each.operators for each in measured if not each.network} == {
        name: (kind,) for name, kind in SINGLE.items()
    }


def test_networks_differ_in_the_residual_only(measured: list[nodes.NodeTime]) -> None:
    found = {each.name: each.operators for each in measured if each.network}
    assert {name: set(operators) for name, operators in found.items()} == NETWORKS
    for operators in found.values():
        assert operators.count("CONV_2D") == 7
        assert all(operators.count(kind) == 1 for kind in set(operators) - {"CONV_2D"})


def test_shapes(measured: list[nodes.NodeTime]) -> None:
    by_name = {each.name: each for each in measured}
    hidden, image, upscaled = (1, 12, 16, CHANNELS), (1, 12, 16, 3), (1, 24, 32, 3)
    assert (by_name["conv 3x3"].shapes, by_name["conv 3x3"].output) == ((hidden,), hidden)
    assert by_name["add"].shapes == (hidden, hidden)
    assert by_name["concat"].output == (1, 12, 16, 2 * CHANNELS)
    assert by_name["split"].output == (1, 12, 16, CHANNELS // 2)
    assert by_name["global average pooling"].output == (1, 1, 1, CHANNELS)
    assert by_name["depth-to-space"].shapes == ((1, 12, 16, 3 * SCALE**2),)
    for name in ("depth-to-space", "nearest resize", "bilinear resize", *NETWORKS):
        assert by_name[name].output == upscaled
    assert by_name["residual: anchor"].shapes == (image,)


def test_times_and_kernels(measured: list[nodes.NodeTime]) -> None:
    by_name = {each.name: each for each in measured}
    assert by_name["conv 3x3"].ratio == 1
    assert all(0 < each.low <= each.median <= each.high and each.ratio > 0 for each in measured)
    assert by_name["conv 3x3"].kernels == (XNNPACK,)
    assert by_name["nearest resize"].kernels == (BUILTIN,)
    assert by_name["residual: anchor"].paper == "15.6"


def test_plots_have_a_bar_for_each(measured: list[nodes.NodeTime]) -> None:
    root = ElementTree.fromstring(nodes_result.svg(measured, "a < b"))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "a < b"
    assert {each.name for each in measured} <= set(texts)
    bars = list(root.iter("{http://www.w3.org/2000/svg}rect"))
    assert len(bars) == len(measured) + 1 + len(nodes_result.COLOURS)
    with Image.open(io.BytesIO(nodes_result.png(measured, "title"))) as image:
        assert image.size == (2 * int(root.attrib["width"]), 2 * int(root.attrib["height"]))
        drawn = {colour for _, colour in image.getcolors(1 << 20)}
    assert (0x2F, 0x6F, 0x9F) in drawn


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(OptionError, match="channels is 6; it must be a multiple of 4"):
        candidates(6, 2)
    with pytest.raises(OptionError, match="scale is 1"):
        candidates(8, 1)
    with pytest.raises(OptionError, match="runs is 1"):
        nodes.measure(size=parse_size("8x8"), runs=1)


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mobilesr_plugin.cli", "bench", "nodes", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})


@pytest.mark.slow
def test_the_command_writes_tables_and_a_plot(tmp_path: Path) -> None:
    names = ("nodes.md", "nodes.json", "nodes.png", "nodes.svg")
    options = ["--size", "12x16", "--channels", CHANNELS, "--scale", SCALE, "--threads", 1, "--runs", 3]
    done = bench(*options, "--out", *(tmp_path / name for name in names))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    table = (tmp_path / "nodes.md").read_text()
    assert done.stdout == table
    assert "| conv 3x3 | 12x16x8 | 12x16x8 | " in table
    assert "| 7 CONV_2D, DEPTH_TO_SPACE, RESIZE_NEAREST_NEIGHBOR, ADD | both |" in table
    content = json.loads((tmp_path / "nodes.json").read_text())
    assert [each["name"] for each in content["nodes"]] == [*SINGLE, *NETWORKS]
    assert (content["size"], content["channels"], content["runs"]) == ([12, 16], CHANNELS, 3)
    assert "tensorflow" in content["versions"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_another_format_is_refused_before_anything_runs(tmp_path: Path) -> None:
    done = bench("--out", tmp_path / "nodes.pdf")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "must end in one of .md, .json, .png, .svg" in done.stderr
