"""A preparation that is killed goes on; one that cannot write leaves nothing that looks complete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from data_fixtures import folder_content, hr_folder, lmdb_content

from mobilesr_plugin.data.image_pairs import validation_paths
from mobilesr_plugin.data.lmdb_store import is_complete
from mobilesr_plugin.data.prepare import Kind, prepare
from mobilesr_plugin.errors import DataError

SMALL = {"crop_size": 96, "step": 48, "name": "n"}
HR, X3 = "n_HR_sub.lmdb", "n_LR_bicubic_X3_sub.lmdb"

# Prints the number of finished pictures, and every picture is committed at once.
RUN = """
import sys
from pathlib import Path
from mobilesr_plugin.data import lmdb_store
from mobilesr_plugin.data.prepare import Kind, prepare
if __name__ == "__main__":
    lmdb_store._COMMIT_BYTES = 1
    hr, out, kind, workers, hold = sys.argv[1:]
    def progress(done, total):
        print(done, flush=True)
        if done == int(hold):
            sys.stdin.readline()  # wait to be killed
    prepare(Path(hr), Path(out), Kind(kind), scales=[3], crop_size=96, step=48, name="n",
            workers=int(workers), progress=progress)
"""


def start(script: Path, hr: Path, out: Path, kind: str, workers: int, hold: int) -> subprocess.Popen[str]:
    script.write_text(RUN)
    return subprocess.Popen(
        [sys.executable, str(script), str(hr), str(out), kind, str(workers), str(hold)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill_at(process: subprocess.Popen[str], done: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == done:
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL


def living(group: int) -> list[int]:
    """Processes of a group that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state, _, member_of = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(member_of) == group and state != "Z":
            found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_training_set_goes_on(tmp_path: Path, workers: int) -> None:
    hr, out = hr_folder(tmp_path / "hr", count=6), tmp_path / "out"
    prepare(hr, tmp_path / "whole", scales=[3], workers=1, **SMALL)
    process = start(tmp_path / "run.py", hr, out, "train", workers, hold=3)
    kill_at(process, done=3)
    assert not is_complete(out / HR)
    assert not is_complete(out / X3)

    if Path("/proc/self/stat").exists():
        deadline = time.monotonic() + 20
        while living(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not living(process.pid), "worker processes outlive their parent"

    steps: list[int] = []
    prepare(hr, out, scales=[3], workers=1, progress=lambda done, total: steps.append(done), **SMALL)
    assert steps[0] >= 3, "finished pictures were done again"
    assert steps[-1] == 6
    for name in (HR, X3):
        assert lmdb_content(out / name) == lmdb_content(tmp_path / "whole" / name)
        meta = [folder / name / "meta_info.txt" for folder in (out, tmp_path / "whole")]
        assert meta[0].read_bytes() == meta[1].read_bytes()


def test_killed_validation_set_goes_on(tmp_path: Path) -> None:
    hr, out = hr_folder(tmp_path / "hr", count=4), tmp_path / "out"
    prepare(hr, tmp_path / "whole", Kind.VALID, scales=[3], workers=1, name="n")
    kill_at(start(tmp_path / "run.py", hr, out, "valid", 1, hold=2), done=2)
    paths = validation_paths(out, "n", [3])
    assert not any(path.exists() for path in paths.values())
    (out / ".n_HR.partial" / ".0004.png.1.tmp").write_bytes(b"half")

    steps: list[int] = []
    prepare(
        hr,
        out,
        Kind.VALID,
        scales=[3],
        workers=1,
        name="n",
        progress=lambda done, total: steps.append(done),
    )
    assert steps == [2, 3, 4]
    for scale, path in validation_paths(tmp_path / "whole", "n", [3]).items():
        assert folder_content(path) == folder_content(paths[scale])
    assert {path.name for path in paths[1].iterdir()} == {
        ".prepare.json",
        *(f"000{i}.png" for i in (1, 2, 3, 4)),
    }
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("kind", ["train", "valid"])
def test_full_disk_is_one_line(tmp_path: Path, kind: str) -> None:
    """The limit on file sizes stands for a full disk: writes fail half-way."""
    hr = hr_folder(tmp_path / "hr", count=4)
    code = (
        "import resource, sys;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000));"
        "from mobilesr_plugin.cli.main import main; main()"
    )
    arguments = ["data", "prepare", "--hr", hr, "--out", tmp_path / "out", "--scale", "3", "--as", kind]
    arguments += ["--crop-size", "96", "--step", "48", "--workers", "1", "--name", "n"]
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1, result.stderr
    assert result.stderr.startswith("mobilesr: ")
    assert "cannot be written" in result.stderr
    assert result.stderr.count("\n") == 1
    names = (HR, X3) if kind == "train" else ("n_HR", "n_LR_bicubic/X3")
    assert not any(is_complete(tmp_path / "out" / name) for name in names)
    if kind == "valid":
        assert not any((tmp_path / "out" / name).exists() for name in names)

    prepare(hr, tmp_path / "out", Kind(kind), scales=[3], workers=1, **SMALL)
    assert all((tmp_path / "out" / name).exists() for name in names)


@pytest.mark.parametrize("kind", list(Kind))
def test_unwritable_output_is_a_stated_error(tmp_path: Path, kind: Kind) -> None:
    hr = hr_folder(tmp_path / "hr", count=1)
    (tmp_path / "out").write_text("a file where the folder should be")
    name = None if kind is Kind.BENCHMARK else "n"
    with pytest.raises(DataError, match="cannot be written"):
        prepare(hr, tmp_path / "out", kind, scales=[3], workers=1, **{**SMALL, "name": name})


def test_a_killed_worker_is_a_stated_error(tmp_path: Path) -> None:
    from mobilesr_plugin.data.workers import run_tasks

    with pytest.raises(DataError, match="a worker process was killed"):
        list(run_tasks(_kill_this_process, [1, 2], workers=2))


def _kill_this_process(task: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
