"""`mobilesr bench training`, `mobilesr bench dataset`, and the table of `make bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import bench
import pytest
from host_fixtures import make_data


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "mobilesr_plugin.cli", "bench", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


@pytest.fixture
def pairs(tmp_path: Path) -> list[object]:
    make_data(tmp_path)
    return ["--gt", tmp_path / "hr", "--lq", tmp_path / "lr", "--scale", 2, "--batch", 2, "--patch", 8]


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
        (["--setting", "fast"], "--setting is fast; it must be one of stock, float32"),
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
    figure = bench.Figure("what", measured, bound, least)
    assert (figure.reached, figure.missed) == (reached, missed)


def test_parts_make_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RESULT", tmp_path)
    slow = {"what": "speed", "measured": 2.0, "bound": 5.0, "least": True}
    (tmp_path / "training.json").write_text(json.dumps([slow]))
    (tmp_path / "export.json").write_text(
        json.dumps([{**slow, "what": "export, s", "least": False, "decimals": 1}])
    )
    table, missed = bench.judge()
    assert [figure.what for figure in missed] == ["speed"]
    assert "| speed | 2.00 | >= 5.00 | MISSED |" in table
    assert "| export, s | 2.0 | <= 5.0 | reached |" in table
    assert (tmp_path / "figures.md").read_text() == f"{table}\n"
