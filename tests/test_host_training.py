"""BasicSR's own train.py and test.py, really run, on the CPU."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from host_fixtures import LAUNCHER, ROOT, environment, installed, make_data, run, stated, write_options


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which the installed train.py has run four iterations."""
    folder = tmp_path_factory.mktemp("training")
    make_data(folder)
    overrides = ("--force_yml", "logger:use_tb_logger=true")
    process = run(installed("train.py"), "-opt", write_options(folder), *overrides, cwd=folder)
    assert process.returncode == 0, process.stderr[-3000:]
    (folder / "stderr.txt").write_text(process.stderr, encoding="utf-8")
    yield folder


@pytest.mark.slow
def test_installed_train_writes_under_the_working_directory(trained: Path) -> None:
    models = sorted(path.name for path in (trained / "experiments/tiny/models").iterdir())
    assert models == ["net_g_2.pth", "net_g_4.pth", "net_g_latest.pth"]
    assert list((trained / "tb_logger/tiny").iterdir())
    packages = installed("train.py").parent.parent
    assert not (packages / "experiments").exists()
    assert not (packages / "tb_logger").exists()


def test_tensorboard_logs_without_tensorflow(trained: Path) -> None:
    (events,) = (trained / "tb_logger/tiny").iterdir()
    assert events.read_bytes().count(b"losses/l_pix") == 4
    assert "tensorflow" not in (trained / "stderr.txt").read_text(encoding="utf-8").lower()


def test_checkpoint_has_weights_and_plain_description(trained: Path) -> None:
    loaded = torch.load(trained / "experiments/tiny/models/net_g_latest.pth", weights_only=True)
    assert set(loaded) == {"params", "mobilesr"}
    assert {tensor.device.type for tensor in loaded["params"].values()} == {"cpu"}


def test_auto_resume_continues_on_cpu(trained: Path) -> None:
    longer = write_options(trained)
    text = longer.read_text(encoding="utf-8").replace("total_iter: 4", "total_iter: 6")
    longer.write_text(text, encoding="utf-8")
    process = run(installed("train.py"), "-opt", longer, "--auto_resume", cwd=trained)
    assert process.returncode == 0, process.stderr[-3000:]
    assert "Resuming training from epoch: 0, iter: 4." in process.stderr
    iterations = [line for line in process.stderr.splitlines() if "[epoch:" in line]
    assert ["iter:       5" in iterations[0], "iter:       6" in iterations[-1]] == [True, True]
    assert (trained / "experiments/tiny/models/net_g_6.pth").is_file()


@pytest.mark.slow
def test_installed_test_script_writes_under_the_working_directory(trained: Path) -> None:
    options = write_options(
        trained,
        "test.yml",
        datasets={
            "test_1": {
                "name": "tinyval",
                "type": "PairedImageDataset",
                "dataroot_gt": str(trained / "hr"),
                "dataroot_lq": str(trained / "lr"),
                "io_backend": {"type": "disk"},
            }
        },
        path={"pretrain_network_g": "experiments/tiny/models/net_g_latest.pth", "strict_load_g": True},
    )
    process = run(installed("test.py"), "-opt", options, cwd=trained)
    assert process.returncode == 0, process.stderr[-3000:]
    assert "# psnr:" in process.stderr
    assert list((trained / "results/tiny").glob("test_tiny_*.log"))


@pytest.mark.slow
def test_launcher_debug_and_overrides_without_the_hook(tmp_path: Path) -> None:
    make_data(tmp_path)
    process = run(
        LAUNCHER,
        *("-opt", write_options(tmp_path), "--debug", "--force_yml", "train:total_iter=2", "scale=2"),
        cwd=tmp_path,
        MOBILESR_AUTOLOAD="0",
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert "; iters: 2." in process.stderr
    assert (tmp_path / "experiments/debug_tiny/models/net_g_latest.pth").is_file()
    assert not (ROOT / "experiments/debug_tiny").exists()


@pytest.mark.slow
def test_two_processes_train_over_gloo(tmp_path: Path) -> None:
    make_data(tmp_path)
    process = run(
        *("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29512"),
        *(LAUNCHER, "-opt", write_options(tmp_path), "--launcher", "pytorch"),
        *("--force_yml", "train:total_iter=2"),
        cwd=tmp_path,
        CUDA_VISIBLE_DEVICES="",
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert "World size (gpu number): 2" in process.stderr
    assert "DistributedDataParallel - SRVGGNetCompact" in process.stderr
    saved = torch.load(tmp_path / "experiments/tiny/models/net_g_2.pth", weights_only=True)
    assert not any(name.startswith("module.") for name in saved["params"])


def test_ctrl_c_says_how_to_continue(tmp_path: Path) -> None:
    make_data(tmp_path)
    endless = ("--force_yml", "train:total_iter=100000")
    command = [installed("train.py"), "-opt", write_options(tmp_path), *endless]
    with subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=tmp_path,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests may run in the background
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Saving models" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 1
    last = rest.strip().splitlines()[-1]
    assert last.startswith("mobilesr: interrupted; to continue from the last saved state: python ")
    assert last.endswith("--auto_resume")
    assert "Traceback" not in rest


def test_bad_input_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    process = run(installed("train.py"), "-opt", "missing.yml", cwd=tmp_path)
    assert process.returncode == 1
    assert stated(process) == [
        f"mobilesr: there is no option file missing.yml (working directory: {tmp_path})"
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_wrong_usage_is_exit_code_2(tmp_path: Path) -> None:
    process = run(LAUNCHER, "--launcher", "none", cwd=tmp_path)
    assert process.returncode == 2
    assert "the following arguments are required: -opt" in process.stderr


NETWORK_WITH_A_BUG = """
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn


@ARCH_REGISTRY.register()
class Buggy(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 3, 1)

    def forward(self, x):
        return undefined
"""


def test_other_errors_keep_their_traceback(tmp_path: Path) -> None:
    make_data(tmp_path)
    (tmp_path / "buggy_arch.py").write_text(NETWORK_WITH_A_BUG, encoding="utf-8")
    changes = {"import": "buggy_arch.py", "network_g": {"type": "Buggy"}}
    process = run(LAUNCHER, "-opt", write_options(tmp_path, **changes), cwd=tmp_path)
    assert process.returncode == 1
    assert "Traceback (most recent call last)" in process.stderr
    assert "NameError: name 'undefined' is not defined" in process.stderr
