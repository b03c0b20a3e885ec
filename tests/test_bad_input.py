"""What commands do with damaged input, full disks and Ctrl-C: one line, exit code 1, nothing half-written.

The same for pictures and videos to upscale is in test_upscale.py and test_upscale_video.py, for data sets in
test_data_*.py, for an interrupted export in test_export.py, for training in test_host_training.py.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from data_fixtures import hr_folder
from host_fixtures import environment
from test_export import Export, exported, save_checkpoint
from test_importers import srvgg

from mobilesr_plugin.cli.main import main

__all__ = ["exported"]  # a fixture

COMMAND = [sys.executable, "-m", "mobilesr_plugin.cli"]
SMALL = ["--size", "24x32", "--runs", "3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, pictures, and halves of them; ``empty`` and ``words`` hold no image."""
    folder = tmp_path_factory.mktemp("input")
    hr_folder(folder / "hr", count=2, height=60, width=80)
    save_checkpoint(folder / "good.pth", 2, quantized=True)
    save_checkpoint(folder / "float.pth", 2, quantized=False)
    srvgg(folder / "srvgg.pth")
    content = (folder / "good.pth").read_bytes()
    for name, share in (("half", 0.5), ("tenth", 0.1), ("nearly", 0.999)):
        (folder / f"{name}.pth").write_bytes(content[: int(share * len(content))])
    for name in ("damaged", "empty", "words"):
        (folder / name).mkdir()
    picture = (folder / "hr" / "0001.png").read_bytes()
    (folder / "damaged" / "a.png").write_bytes(picture[: len(picture) // 2])
    (folder / "words" / "notes.txt").write_text("no image")
    for suffix in ("tflite", "onnx", "pth"):
        (folder / f"text.{suffix}").write_text("<html>not found</html>")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def failure(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The last line that a command says, which fails with exit code 1 and prints no result."""
    with pytest.raises(SystemExit) as done:
        main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    assert (done.value.code, out) == (1, "")
    lines = [line for line in err.splitlines() if not line.startswith("failed: ")]
    assert len(lines) == 1, err
    return lines[0]


# Damaged files


@pytest.mark.parametrize("name", ["half.pth", "tenth.pth", "nearly.pth", "text.pth"])
@pytest.mark.parametrize(
    "command",
    [
        ["export", "--out", "new", "--ckpt"],
        ["import", "srvgg", "--out", "new.pth"],
        ["bench", "latency", *SMALL],
        ["bench", "accuracy", "--data", "hr", "--model"],
        ["upscale", "hr", "--out", "new", "--model"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_half_downloaded_checkpoint(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    name: str,
) -> None:
    monkeypatch.chdir(folder)
    before = tree(folder)
    said = failure(capsys, *command, name)
    what = "is not a checkpoint, or is damaged" if name == "text.pth" else "is truncated or damaged"
    assert said == f"mobilesr: {name} {what}; copy or train it again"
    assert tree(folder) == before


@pytest.mark.parametrize("kind", ["half", "text"])
@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_a_half_downloaded_network(
    folder: Path,
    exported: Export,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    suffix: str,
    kind: str,
) -> None:
    path = folder / f"text.{suffix}"
    if kind == "half":
        content = (exported(3).folder / f"abpn_x3{'_int8' * (suffix == 'tflite')}.{suffix}").read_bytes()
        path = tmp_path / f"half.{suffix}"
        path.write_bytes(content[: len(content) // 2])
    for command in (["bench", "latency", *SMALL], ["bench", "accuracy", "--data", folder / "hr", "--model"]):
        said = failure(capsys, *command, path)
        assert said.startswith(f"mobilesr: {path} is not a")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("damaged", "damaged/a.png: is damaged (image file is truncated)"),
        ("empty", "empty holds no image"),
        ("words", "words holds no image"),
        ("missing", "missing"),
    ],
)
def test_folders_without_usable_images(
    folder: Path,
    exported: Export,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    data: str,
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    before = tree(folder)
    for command in (
        ["report", exported(3).folder, "--no-latency", "--out", "new.html", "--data", data],
        ["export", "--ckpt", "float.pth", "--out", "new", "--calib", data],
        ["bench", "accuracy", "--model", "good.pth", "--out", "new.json", "--data", data],
    ):
        assert message in failure(capsys, *command)
    assert tree(folder) == before


# A disk that fills up: no file may grow beyond a limit


@pytest.mark.parametrize(
    ("limit", "arguments", "kept"),
    [
        (20_000, "export --ckpt good.pth --size 24x32 --out new", []),
        (3_000, "import srvgg srvgg.pth --out new.pth", []),
        (20_000, "report exported --no-latency --data hr --out new.html", []),
        (100, "bench accuracy --model good.pth --data hr --out new.json", []),
        (3_000, "data options --out new", ["abpn_x2.yml"]),  # the next file is larger
        (40_000, "data demo --out new --scale 3", []),
    ],
    ids=lambda value: value.split(" --")[0] if isinstance(value, str) else "",
)
def test_a_disk_that_fills_up(
    folder: Path, exported: Export, tmp_path: Path, limit: int, arguments: str, kept: list[str]
) -> None:
    work = prepared(folder, exported, tmp_path)
    before = tree(tmp_path)
    done = subprocess.run(
        [*COMMAND, *arguments.split()],
        cwd=work,
        env=environment(TMPDIR=str(tmp_path / "scratch")),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("mobilesr: ")
    assert " cannot be written: File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert {name.rpartition("/")[2] for name in set(tree(tmp_path)) - set(before)} == set(kept)


def prepared(folder: Path, exported: Export, tmp_path: Path) -> Path:
    """A working folder below ``tmp_path``, beside an empty one for temporary files."""
    (tmp_path / "scratch").mkdir()
    work = tmp_path / "work"
    shutil.copytree(folder, work)
    shutil.copytree(exported(3).folder, work / "exported")
    return work


# Ctrl-C


def interrupted(arguments: str, work: Path, started: Callable[[], bool]) -> str:
    """Sends Ctrl-C as soon as the work has started; returns the last line of standard error."""
    process = subprocess.Popen(
        [*COMMAND, *arguments.split()],
        cwd=work,
        env=environment(TMPDIR=str(work.parent / "scratch")),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests may run in the background
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not started():
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_ctrl_c_in_a_report(folder: Path, exported: Export, tmp_path: Path) -> None:
    work = prepared(folder, exported, tmp_path)
    scratch = tmp_path / "scratch"
    before = tree(work)
    said = interrupted("report exported", work, lambda: bool(list(scratch.glob("tmp*/photographs/*"))))
    assert said.startswith("mobilesr: interrupted; no file is left half-written")
    assert tree(work) == before
    assert not list(scratch.glob("tmp*"))


def test_ctrl_c_in_the_demo_set(folder: Path, exported: Export, tmp_path: Path) -> None:
    """What was finished stays, and the next run completes it."""
    work = prepared(folder, exported, tmp_path)
    out = work / "demo"
    arguments = "data demo --out demo --scale 3"
    said = interrupted(arguments, work, lambda: out.exists() and bool(list(out.iterdir())))
    assert said.startswith("mobilesr: interrupted")
    for path in out.rglob("*.png"):
        assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
    again = subprocess.run([*COMMAND, *arguments.split()], cwd=work, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == "demo/valid_LR_bicubic/X3: 4 images, made"
    assert not list(out.rglob("*.partial"))
