"""Two real processes, started by torchrun, give what one process gives on the same global batches."""

from __future__ import annotations

import copy
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import host_fixtures as host
import numpy as np
import pytest
import torch
import yaml
from networks import seeded_abpn

from mobilesr_plugin import checkpoint

NETWORK = {"type": "ABPN", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}
QUANTIZATION = {"calibration_images": 8, "observer": "auto", "distillation": False}
ITERATIONS = 6


def make_data(folder: Path) -> None:
    """Eight seeded pairs for training, 32x32 and 16x16, as large as a patch, and five for validation."""
    generator = np.random.default_rng(0)
    for kind in ("hr", "lr", "val_hr", "val_lr"):
        (folder / kind).mkdir()
    for index in range(13):
        size, kind = ((32, 32), "") if index < 8 else ((40, 32), "val_")
        coarse = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{kind}hr" / f"{index}.png"), cv2.resize(coarse, size))
        half = (size[0] // 2, size[1] // 2)
        cv2.imwrite(str(folder / f"{kind}lr" / f"{index}.png"), cv2.resize(coarse, half))


def options(folder: Path, name: str, batch: int, **changes: Any) -> Path:
    """An option file in which nothing is random: patches are whole images, without flips."""
    opt = host.options(folder, name=name, network_g=dict(NETWORK), **copy.deepcopy(changes))
    opt["datasets"]["train"] |= {"use_hflip": False, "use_rot": False, "batch_size_per_gpu": batch}
    val = opt["datasets"]["val"]
    val |= {"dataroot_gt": str(folder / "val_hr"), "dataroot_lq": str(folder / "val_lr")}
    opt["path"]["pretrain_network_g"] = str(folder / "float.pth")
    opt["train"] |= {"total_iter": ITERATIONS, "ema_decay": 0.9}
    opt["val"] |= {"val_freq": ITERATIONS, "save_img": True}
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump(opt), encoding="utf-8")
    return path


def train(folder: Path, options: Path, ranks: int) -> str:
    """Runs train.py in one process or under torchrun; returns the log."""
    command: list[str | Path] = [host.LAUNCHER, "-opt", options]
    if ranks > 1:
        launcher = [
            "-m",
            "torch.distributed.run",
            "--nproc_per_node",
            str(ranks),
            "--master_port",
            str(_port()),
        ]
        command = [*launcher, *command, "--launcher", "pytorch"]
    done = host.run(*command, cwd=folder, timeout=300, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def saved(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / f"experiments/{name}/models/net_g_{ITERATIONS}.pth", weights_only=True)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_other_with_one_line(tmp_path: Path) -> None:
    """Started as torchrun starts them, but without its agent, which would end the other one itself."""
    make_data(tmp_path)
    checkpoint.save(tmp_path / "float.pth", {"params": seeded_abpn(2, num_feat=8, num_block=1).state_dict()})
    path = options(tmp_path, "killed", 2, model_type="MobileSRModel")
    opt = yaml.safe_load(path.read_text())
    opt["train"]["total_iter"], opt["val"]["val_freq"] = 10**6, 10**6
    path.write_text(yaml.safe_dump(opt), encoding="utf-8")
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_port())}
    running = []
    for rank in ("0", "1"):
        with (tmp_path / f"{rank}.err").open("wb") as err:
            variables = {**meeting, "RANK": rank, "LOCAL_RANK": rank, "CUDA_VISIBLE_DEVICES": ""}
            words = [sys.executable, str(host.LAUNCHER), "-opt", str(path), "--launcher", "pytorch"]
            environment = host.environment(**variables)
            running.append(subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=err))
    try:
        until = time.monotonic() + 120
        while "iter:       2" not in (tmp_path / "0.err").read_text():
            assert time.monotonic() < until
            assert running[0].poll() is None, (tmp_path / "0.err").read_text()
            time.sleep(0.05)
        running[0].kill()
        assert running[1].wait(60) == 1
    finally:
        for each in running:
            each.kill()
            each.wait()
    err = (tmp_path / "1.err").read_text()
    assert err.startswith("mobilesr (rank 1): rank 0 has ended, and training cannot go on without it; ")
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_failure_after_the_processes_have_met_is_said_once(tmp_path: Path) -> None:
    """torch.distributed's own hook for errors would lose it."""
    make_data(tmp_path)
    (tmp_path / "float.pth").write_bytes(b"nothing")
    path = options(tmp_path, "said", 2, model_type="MobileSRModel")
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(_port())]
    command = [*launcher, host.LAUNCHER, "-opt", path, "--launcher", "pytorch"]
    done = host.run(*command, cwd=tmp_path, timeout=300, CUDA_VISIBLE_DEVICES="")
    said = [line for line in host.stated(done) if line.startswith("mobilesr")]
    assert said == [
        f"mobilesr: {tmp_path / 'float.pth'} is not a checkpoint, or is damaged; copy or train it again"
    ]


KINDS = {
    "float": {"model_type": "MobileSRModel"},
    "compiled": {"model_type": "QATSRModel", "quantization": QUANTIZATION, "speed": {"compile": True}},
    "qat": {"model_type": "QATSRModel", "quantization": QUANTIZATION},
    "observed": {
        "model_type": "QATSRModel",
        "quantization": {**QUANTIZATION, "observer": "percentile", "observe_iters": 20, "ranges": "frozen"},
    },
}


@pytest.mark.parametrize(
    "kind",
    ["qat", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("float", "compiled", "observed"))],
)
def test_two_processes_give_the_result_of_one(tmp_path: Path, kind: str) -> None:
    make_data(tmp_path)
    checkpoint.save(tmp_path / "float.pth", {"params": seeded_abpn(2, num_feat=8, num_block=1).state_dict()})
    logs = [
        train(tmp_path, options(tmp_path, f"{kind}{ranks}", 4 // ranks, **KINDS[kind]), ranks)
        for ranks in (1, 2)
    ]
    one, two = (saved(tmp_path, f"{kind}{ranks}") for ranks in (1, 2))
    start = torch.load(tmp_path / "float.pth", weights_only=True)["params"]
    assert one.keys() == two.keys()
    for entry in ("params", "params_ema"):
        assert one[entry].keys() == two[entry].keys()
        for name, value in one[entry].items():
            close = torch.allclose(value.double(), two[entry][name].double(), rtol=1e-4, atol=1e-5)
            assert close, (entry, name, (value - two[entry][name]).abs().max())
    # what was learned is a thousand times what may differ
    assert (one["params"]["conv_last.weight"] - start["conv_last.weight"]).abs().max() > 1e-3

    # One line for each validation, with the mean over all images; each image is written once.
    metrics = [re.findall(r"# psnr: ([\d.]+)", log) for log in logs]
    assert len(metrics[0]) == len(metrics[1]) == 2
    assert np.allclose(np.array(metrics[0], float), np.array(metrics[1], float), atol=2e-2)
    of_float = [re.findall(r"\(float ([\d.]+)\)", log) for log in logs]  # over all images, too
    assert of_float[0] == of_float[1]
    assert len(of_float[0]) == (0 if kind == "float" else 2)
    losses = [[float(value) for value in re.findall(r"l_pix: ([\d.e+-]+)", log)] for log in logs]
    assert np.allclose(losses[0], losses[1], rtol=2e-3)
    images = [
        sorted(
            path.name
            for path in (tmp_path / f"experiments/{kind}{ranks}/visualization").rglob(f"*_{ITERATIONS}.png")
        )
        for ranks in (1, 2)
    ]
    assert images[0] == images[1] == [f"{index}_{ITERATIONS}.png" for index in (10, 11, 12, 8, 9)]
