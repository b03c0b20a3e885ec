"""A tiny data set, options and processes for the tests of living inside BasicSR."""

from __future__ import annotations

import importlib.machinery
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

ROOT = Path(__file__).resolve().parent.parent
LAUNCHER = ROOT / "basicsr" / "train.py"


def installed(script: str) -> Path:
    """The script of the installed BasicSR package, found without importing it."""
    search = [entry for entry in sys.path if entry and Path(entry).resolve() != ROOT]
    spec = importlib.machinery.PathFinder.find_spec("basicsr", search)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / script


def make_data(folder: Path) -> None:
    """Write four seeded image pairs, 48x48 and 24x24, to ``folder/hr`` and ``folder/lr``."""
    generator = np.random.default_rng(0)
    for kind in ("hr", "lr"):
        (folder / kind).mkdir(parents=True)
    for index in range(4):
        coarse = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "hr" / f"{index}.png"), cv2.resize(coarse, (48, 48)))
        cv2.imwrite(str(folder / "lr" / f"{index}.png"), cv2.resize(coarse, (24, 24)))


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    """Options of a training of a few iterations, for a network of BasicSR itself."""
    pair = {
        "type": "PairedImageDataset",
        "dataroot_gt": str(folder / "hr"),
        "dataroot_lq": str(folder / "lr"),
        "io_backend": {"type": "disk"},
    }
    training = {
        "gt_size": 32,
        "use_hflip": True,
        "use_rot": True,
        "num_worker_per_gpu": 0,
        "batch_size_per_gpu": 2,
        "dataset_enlarge_ratio": 1000,
    }
    opt = {
        "name": "tiny",
        "model_type": "SRModel",
        "scale": 2,
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {"train": {"name": "tiny", **pair, **training}, "val": {"name": "tinyval", **pair}},
        "network_g": {
            "type": "SRVGGNetCompact",
            "num_in_ch": 3,
            "num_out_ch": 3,
            "num_feat": 8,
            "num_conv": 2,
            "upscale": 2,
        },
        "path": {"strict_load_g": True, "resume_state": None},
        "train": {
            "optim_g": {"type": "Adam", "lr": 1.0e-3},
            "scheduler": {"type": "MultiStepLR", "milestones": [100], "gamma": 0.5},
            "total_iter": 4,
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        },
        "val": {
            "val_freq": 1000,
            "save_img": False,
            "suffix": None,
            "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": False}},
        },
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False},
        "dist_params": {"backend": "nccl", "port": 29511},
    }
    return {**opt, **changes}


def write_options(folder: Path, name: str = "tiny.yml", **changes: Any) -> Path:
    """Write options to a YAML file in ``folder``."""
    path = folder / name
    path.write_text(yaml.safe_dump(options(folder, **changes), sort_keys=False), encoding="utf-8")
    return path


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, one thread for each process, and no setting of our own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MOBILESR_")}
    return {**kept, "OMP_NUM_THREADS": "1", **changes}


def run(
    *command: str | Path, cwd: Path, timeout: float = 120, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run this Python with the given arguments in ``cwd``."""
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def stated(process: subprocess.CompletedProcess[str]) -> list[str]:
    """What the process said on stderr, apart from BasicSR's log and warnings of third parties."""
    return [line for line in process.stderr.splitlines() if line.startswith(("mobilesr", "Traceback"))]
