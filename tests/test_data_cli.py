"""``mobilesr data`` as a user types it: exit codes, one line on stderr, quick start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from data_fixtures import hr_folder


def mobilesr(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    code = "from mobilesr_plugin.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


def test_prepare(tmp_path: Path) -> None:
    hr_folder(tmp_path / "hr", count=2)
    command = ["data", "prepare", "--hr", "hr", "--scale", 2, "--scale", 3, "--out", "datasets/DIV2K"]
    command += ["--crop-size", 96, "--step", 48, "--workers", 1]
    result = mobilesr(*command, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0] == "datasets/DIV2K/DIV2K_train_HR_sub.lmdb: 18 images, made"
    assert lines[2] == "datasets/DIV2K/DIV2K_train_LR_bicubic_X3_sub.lmdb: 18 images, made"

    (tmp_path / "hr" / "0003.png").write_bytes(b"")
    command[command.index("datasets/DIV2K")] = "other"
    result = mobilesr(*command, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        "mobilesr: hr/0003.png: is empty (0 bytes); repair or remove it, "
        "or leave such pictures out with --skip-corrupt\n"
    )
    result = mobilesr(*command, "--skip-corrupt", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stderr == "skipped: hr/0003.png: is empty (0 bytes)\n"


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["prepare", "--hr", "none", "--scale", 3, "--out", "o"], 1, "mobilesr: none is not a folder\n"),
        (["prepare", "--hr", ".", "--scale", 3, "--out", "o"], 1, "mobilesr: . holds no image"),
        (["prepare", "--hr", ".", "--scale", 1, "--out", "o"], 1, "mobilesr: --scale must be"),
        (["prepare", "--hr", ".", "--out", "o"], 2, "--scale"),
        (["prepare", "--hr", ".", "--scale", 3, "--out", "o", "--as", "tst"], 2, "is not one of train"),
        (["demo", "--scale", 0], 1, "mobilesr: --scale must be"),
    ],
)
def test_errors(tmp_path: Path, arguments: list[object], code: int, expected: str) -> None:
    result = mobilesr("data", *arguments, cwd=tmp_path)
    assert result.returncode == code
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    if code == 1:
        assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_does_not_import_anything_heavy() -> None:
    code = (
        "import sys\nfrom mobilesr_plugin.cli.main import main\n"
        "try: main(['data', 'prepare', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit(bool({'torch', 'numpy', 'cv2', 'basicsr', 'lmdb', 'skimage'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "--as benchmark" in result.stdout
