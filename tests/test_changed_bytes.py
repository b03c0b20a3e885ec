"""Bytes that have changed in checkpoints and training states, which torch loads without a word."""

from __future__ import annotations

import copy
import errno
import os
import sys
from pathlib import Path
from typing import Any

import host_fixtures as host
import pytest
import torch
from networks import seeded_abpn

from mobilesr_plugin import checkpoint
from mobilesr_plugin.errors import CheckpointError, DataError
from mobilesr_plugin.host import failures
from mobilesr_plugin.host.resuming import _read_state
from mobilesr_plugin.html_report.report_form import first_problem

NETWORK = {"type": "ABPN", "num_in_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}
STATE = {"epoch": 1, "iter": 5, "optimizers": [{"state": {0: torch.arange(100.0)}}], "schedulers": [{}]}


def with_a_changed_weight(path: Path, value: torch.Tensor) -> None:
    """Turns a bit of a number where it lies in the file."""
    content = bytearray(path.read_bytes())
    place = content.index(value.contiguous().numpy().tobytes())
    content[place + 2] ^= 0x40
    path.write_bytes(bytes(content))


def test_a_changed_weight(tmp_path: Path) -> None:
    path, params = tmp_path / "net.pth", seeded_abpn(2, num_feat=8, num_block=1).state_dict()
    described = checkpoint.describe({"network_g": NETWORK, "scale": 2})
    checkpoint.save(path, {"params": params, "mobilesr": described})
    assert checkpoint.load(path)["mobilesr"] == described
    with_a_changed_weight(path, params["conv_last.weight"])
    assert torch.load(path, weights_only=True).keys() == {"params", "mobilesr"}  # the fault is real
    with pytest.raises(CheckpointError, match=r"net\.pth is truncated or damaged; copy or train it again"):
        checkpoint.load(path)


def test_a_changed_number_in_a_state(tmp_path: Path) -> None:
    path = tmp_path / "5.state"
    checkpoint.save(path, STATE)
    assert _read_state(path, 0)["iter"] == 5
    with_a_changed_weight(path, STATE["optimizers"][0]["state"][0])
    with pytest.raises(
        CheckpointError, match="delete it, then --auto_resume continues from the state before"
    ):
        _read_state(path, 0)


@pytest.mark.parametrize("change", [{"iter": "5"}, {"epoch": -1}, {"optimizers": {}}, {"schedulers": 1}])
def test_a_state_of_another_form(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "5.state"
    checkpoint.save(path, STATE | change)
    with pytest.raises(CheckpointError, match=r"5\.state is damaged: delete it"):
        _read_state(path, 0)


def test_a_full_disk_in_training_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Any write of BasicSR's own, such as its copy of the option file."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(sys, "argv", ["train.py", "-opt", "a.yml"])
    failures.install_excepthook(resumable=True)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "experiments/a/a.yml")
    with pytest.raises(SystemExit) as left:
        sys.excepthook(OSError, full, None)
    assert left.value.code == 1
    assert capsys.readouterr().err == (
        "mobilesr: experiments/a/a.yml cannot be written: No space left on device; to continue from "
        "the last saved state: python train.py -opt a.yml --auto_resume\n"
    )


@pytest.mark.parametrize("kind", ["hr", "lr"])
def test_a_damaged_image_of_a_basicsr_data_set_is_named(tmp_path: Path, kind: str) -> None:
    from basicsr.data import build_dataset

    host.make_data(tmp_path)
    path = tmp_path / kind / "1.png"
    path.write_bytes(path.read_bytes()[:40])
    described = host.options(tmp_path)["datasets"]["train"] | {"phase": "train", "scale": 2}
    dataset = build_dataset(described)
    order = [Path(pair["lq_path"]).stem for pair in dataset.paths]
    assert dataset[order.index("0")]["lq"].shape == (3, 16, 16)
    with pytest.raises(DataError) as told:
        dataset[order.index("1")]
    small, large = tmp_path / "lr" / "1.png", tmp_path / "hr" / "1.png"
    assert str(told.value) == f"{small}, {large}: an image of 40 bytes is damaged; get it again"


REPORT: dict[str, Any] = {
    **{"model": "abpn_x2", "verified": True, "problems": [], "scale": 2, "params": 9, "macs": {"24x32": 5}},
    "source": {"checkpoint": "net.pth", "sha256": "0"},
    "io": {"colour": "RGB", "input": {"dtype": "uint8"}, "output": {"dtype": "uint8"}},
    "parity": {"xnnpack": {"a.tflite": {"pixels": 1, "mismatched": 0, "max_abs_diff": 0}}},
    "files": [{"name": "a.tflite", "bytes": 1, "sha256": "0"}],
    "versions": {"mobilesr-plugin": "0.1.0", "torch": "2"},
}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda report: None, None),
        (lambda report: report["files"][0].pop("name"), "files[0].name is missing"),
        (lambda report: report["parity"].update(xnnpack=3), "parity.xnnpack is 3, not an object"),
        (lambda report: report.update(files={}), "files is {}, not a list"),
        (lambda report: report.update(scale=True), "scale is True"),
        (lambda report: report.update(model=None), "model is None"),
        (lambda report: report["versions"].update(torch=2.0), "versions.torch is 2.0"),
        (lambda report: report.update(notes=[1]), "notes[0] is 1"),
        (lambda report: report["problems"].append("x" * 99), None),
    ],
)
def test_the_form_of_a_report(change: Any, problem: str | None) -> None:
    report = copy.deepcopy(REPORT)
    change(report)
    assert first_problem(report) == problem


def test_a_report_that_is_a_list() -> None:
    assert first_problem([]) == "the file is [], not an object"
