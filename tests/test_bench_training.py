"""`mobilesr bench training`, `mobilesr bench dataset`, and the table of `make bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import figures
import pytest
from host_fixtures import make_data

from mobilesr_plugin.processor import processor


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "mobilesr_plugin.cli", "bench", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


@pytest.fixture
def pairs(tmp_path: Path) -> list[object]:
    make_data(tmp_path)
    return ["--gt", tmp_path / "hr", "--lq", tmp_path / "lr", "--scale", 2, "--batch", 2, "--patch", 8]


@pytest.mark.slow
def test_trainings_run_in_turn_and_are_compared(pairs: list[object], tmp_path: Path) -> None:
    """The real train.py, for int8; the cache of decoded images goes nowhere near the data."""
    before = sorted(tmp_path.rglob("*"))
    done = command(
        "training", *pairs, "--setting", "qat-float32", "--iterations", 4, "--warm-up", 2, "--json"
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["name"] == "QAT, float32"
    assert row["ratio"] == 1
    assert row["iterations_per_second"] > 0
    assert 100e6 < row["peak_bytes"] < 3e9  # PyTorch alone takes more than the least
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_data_sets_are_compared(pairs: list[object]) -> None:
    done = command("dataset", *pairs, "--runs", 3)
    assert done.returncode == 0, done.stderr
    assert "| PairedImageDataset | " in done.stdout
    ratios = [float(line.split("|")[3]) for line in done.stdout.splitlines()[3:]]
    assert ratios[0] == 1
    assert len(ratios) == 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--setting", "quick"], "--setting is quick; it must be one of stock, float32"),
        (["--runs", 2], "runs is 2; a median needs at least 3"),
        (["--setting", "float32", "--gt", "missing"], "the training with float32 failed: "),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(pairs: list[object], arguments: list[object], named: str) -> None:
    done = command("training", *pairs, "--iterations", 2, "--warm-up", 1, *arguments)
    assert done.returncode == 1
    assert named in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("measured", "bound", "least", "reached", "missed"),
    [
        (5.0, 5, True, True, False),
        (4.6, 5, True, False, False),
        (4.4, 5, True, False, True),
        (1.2, 1.2, False, True, False),
        (1.3, 1.2, False, False, False),
        (1.4, 1.2, False, False, True),
        (-0.1, 0.03, False, True, False),
    ],
)
def test_figures_are_judged(measured: float, bound: float, least: bool, reached: bool, missed: bool) -> None:
    figure = figures.Figure("what", measured, bound, least)
    assert (figure.reached, figure.missed) == (reached, missed)


def test_a_column_for_each_class_of_processors(tmp_path: Path) -> None:
    store = tmp_path / "figures.json"
    speed = figures.Figure("speed", 2.0, 5.0, True, note="4 / 2")
    old = {"processor": "Elsewhere, 8 cores", "figures": [{**asdict(speed), "measured": 6.0}]}
    store.write_text(json.dumps({"old": old}))
    figures.add([speed, figures.Figure("export, s", 5.1, 5.0, False, 1)], store)
    content = figures.add([figures.Figure("speed", 1.0, 5.0, True)], store)
    own = processor()
    assert json.loads(store.read_text()) == content
    assert content["old"] == old
    head, _, *rows = figures.table(content).splitlines()
    assert head.startswith(f"| figure | old (Elsewhere, 8 cores) | {own.kind} ({own.name}, ")
    assert rows == [
        "| speed | 6.00, 4 / 2 (>= 5.00) | 1.00 (>= 5.00, MISSED) |",
        "| export, s |  | 5.1 (<= 5.0, missed by less than a tenth) |",
    ]


def test_the_document_has_the_stored_figures() -> None:
    assert figures.table(figures.read()) in (figures.STORE.parent / "benchmarks.md").read_text()
