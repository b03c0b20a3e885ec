"""An export's folder and memory: two exports at once, killed ones, too large sizes, and a training's end."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from host_fixtures import LAUNCHER, environment, make_data, run, stated, write_options
from networks import calibrated, seeded_abpn
from test_export import save_checkpoint
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from mobilesr_plugin import pipeline
from mobilesr_plugin.cli.main import main
from mobilesr_plugin.errors import ExportError, OptionError
from mobilesr_plugin.export.memory import BYTES, bytes_per_pixel, check_sizes
from mobilesr_plugin.export.staging import LOCK, publish, staging
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.options import ExportOptions
from mobilesr_plugin.quantization.integer_network import IntegerNetwork

COMMAND = [sys.executable, "-m", "mobilesr_plugin.cli"]

# One export at a time


def test_the_second_export_ends_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    with staging(folder) as unfinished:
        (unfinished / "a.tflite").write_text("first")
        with (
            pytest.raises(ExportError, match="export is being written by another export; wait for it"),
            staging(folder),
        ):
            raise AssertionError
        publish(unfinished, folder)
    assert [path.name for path in folder.iterdir()] == ["a.tflite"]
    with staging(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["a.tflite"]


def test_two_exports_at_once_and_one_that_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ckpt = save_checkpoint(tmp_path / "models" / "net_g_latest.pth", 2, quantized=True)
    folder = tmp_path / "export"
    command = [*COMMAND, "export", "--ckpt", str(ckpt)]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 100
            while not list(folder.glob(".unfinished-*/*.onnx")):
                assert time.monotonic() < until, "the export never began to write"
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(signal.SIGSTOP)  # so that it does not end before the second one begins
            assert exit_code("export", "--ckpt", str(ckpt)) == 1
        finally:
            process.kill()
    assert capsys.readouterr().err == (
        f"mobilesr: {folder} is being written by another export; wait for it, or choose another folder with "
        "--out\n"
    )
    left = {path.name for path in folder.iterdir()}
    assert LOCK in left
    assert len(left) == 2  # nothing under its final name
    with staging(folder) as unfinished:
        assert [path.name for path in folder.glob(".unfinished-*")] == [unfinished.name]
    assert list(folder.iterdir()) == []


def exit_code(*arguments: str) -> int:
    """Runs a command here."""
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    return int(done.value.code or 0)


def test_the_lock_is_the_kernels(tmp_path: Path) -> None:
    """A file of that name is not a lock by itself."""
    tmp_path.joinpath(LOCK).write_text("left by somebody")
    with staging(tmp_path):
        assert tmp_path.joinpath(LOCK).exists()
    with FileLock(tmp_path / LOCK), pytest.raises(ExportError, match="another export"), staging(tmp_path):
        raise AssertionError


# Memory


class Allocations(TorchDispatchMode):
    """The most bytes that tensors made inside this context held at one time."""

    live = most = 0

    def __torch_dispatch__(self, operator: Any, types: Any, arguments: Any = (), settings: Any = None) -> Any:
        result = operator(*arguments, **(settings or {}))
        for tensor in (each for each in pytree.tree_leaves(result) if isinstance(each, torch.Tensor)):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.known:
                self.known.add(storage.data_ptr())
                self.live += storage.nbytes()
                weakref.finalize(storage, self.freed, storage.data_ptr(), storage.nbytes())
        self.most = max(self.most, self.live)
        return result

    def __init__(self) -> None:
        super().__init__()
        self.known: set[int] = set()

    def freed(self, pointer: int, count: int) -> None:
        self.known.discard(pointer)
        self.live -= count


def test_validation_allocates_at_least_the_estimate() -> None:
    """Never more, so nothing that would fit is refused. Operators take more for themselves while they run."""
    graph = lower(calibrated(seeded_abpn(3)))
    network = IntegerNetwork(graph)
    image = torch.rand(1, 3, 40, 50)
    with Allocations() as allocations:
        network(image)
    assert bytes_per_pixel(graph) * 40 * 50 <= allocations.most


def test_a_size_that_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ckpt = save_checkpoint(tmp_path / "net.pth", 3, quantized=True)
    with pytest.raises(OptionError) as caught:
        pipeline.export(ckpt, ExportOptions(sizes=("99999x99999",), out=str(tmp_path / "out")))
    # Two values of 28 channels, or the last ones: 27 of the convolutions, 27 of the image, 27 of their sum.
    needed = BYTES * 81 * 99999**2
    assert str(caught.value).startswith(
        f"size 99999x99999 is too large: it takes at least {needed / 1e9:,.1f} GB of memory, "
    )
    assert not (tmp_path / "out").exists()
    assert (
        exit_code("export", "--ckpt", str(ckpt), "--size", "99999x99999", "--out", str(tmp_path / "out")) == 1
    )
    assert capsys.readouterr().err.count("\n") == 1


def test_sizes_that_fit() -> None:
    check_sizes(("10x10", "20x5"), per_pixel=4, free=400)
    with pytest.raises(OptionError, match="size 20x6"):
        check_sizes(("10x10", "20x6"), per_pixel=4, free=400)


# After a training


def test_a_failed_export_at_the_end_of_a_training(tmp_path: Path) -> None:
    """Exit code 3, the checkpoint is whole, and the command of the line exports it."""
    make_data(tmp_path)
    (tmp_path / "calib").mkdir()
    picture = (tmp_path / "lr" / "0.png").read_bytes()
    (tmp_path / "calib" / "0.png").write_bytes(picture[: len(picture) // 2])
    options = write_options(tmp_path, export={"calib": "calib", "sizes": []}, model_type="MobileSRModel")
    process = run(LAUNCHER, "-opt", options, cwd=tmp_path)
    assert process.returncode == 3, process.stderr[-3000:]
    (line,) = stated(process)
    models = tmp_path / "experiments" / "tiny" / "models"
    assert line.startswith(
        f"mobilesr: training is complete and saved in {models / 'net_g_latest.pth'}, but the export failed: "
    )
    assert "calib/0.png" in line
    assert "Traceback" not in process.stderr
    assert torch.load(models / "net_g_latest.pth", weights_only=True)["params"]
    assert (models.parent / "training_states" / "4.state").is_file()
    command = shlex.split(line.partition("to export by hand: ")[2])
    assert command == [
        "mobilesr-export",
        "--ckpt",
        "experiments/tiny/models/net_g_latest.pth",
        "--calib",
        "calib",
    ]
