"""Iterations per second and memory of BasicSR's train.py, stock and with this plugin."""

from __future__ import annotations

import math
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from mobilesr_plugin.bench.process_memory import PeakMemory
from mobilesr_plugin.bench.rounds import check_runs
from mobilesr_plugin.errors import DataError, OptionError

_CACHED = {"type": "CachedPairedDataset", "uint8_batches": True, "num_worker_per_gpu": 0}
_FAST = {"amp": "auto", "compile": True}
_BFLOAT16 = {"amp": "bfloat16", "compile": True}
_QAT = {"calibration_images": 1, "observer": "minmax", "distillation": False}


@dataclass(frozen=True)
class Setting:
    """One way to train.

    Attributes:
        name: For tables.
        model_type: BasicSR's key.
        dataset: Keys that replace those of the training set.
        options: Keys that are added on the top level: ``speed``, ``quantization``.
    """

    name: str
    model_type: str
    dataset: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


STOCK = Setting("stock BasicSR", "SRModel")
FLOAT32 = Setting("float32", "MobileSRModel", _CACHED)
COMPILED = Setting("float32, compiled", "MobileSRModel", _CACHED, {"speed": {"compile": True}})
BFLOAT16 = Setting("bfloat16, compiled", "MobileSRModel", _CACHED, {"speed": _BFLOAT16})
FAST = Setting("amp: auto, compiled", "MobileSRModel", _CACHED, {"speed": _FAST})
QAT_FLOAT32 = Setting("QAT, float32", "QATSRModel", _CACHED, {"quantization": _QAT})
QAT_COMPILED = Setting(
    "QAT, float32, compiled", "QATSRModel", _CACHED, {"speed": {"compile": True}, "quantization": _QAT}
)
QAT_BFLOAT16 = Setting(
    "QAT, bfloat16, compiled", "QATSRModel", _CACHED, {"speed": _BFLOAT16, "quantization": _QAT}
)
QAT_FAST = Setting("QAT, amp: auto, compiled", "QATSRModel", _CACHED, {"speed": _FAST, "quantization": _QAT})
SETTINGS = {
    "stock": STOCK,
    "float32": FLOAT32,
    "qat-float32": QAT_FLOAT32,
    "compiled": COMPILED,
    "qat-compiled": QAT_COMPILED,
    "bfloat16": BFLOAT16,
    "qat-bfloat16": QAT_BFLOAT16,
    "fast": FAST,
    "qat-fast": QAT_FAST,
}


@dataclass(frozen=True)
class TrainingSpeed:
    """What one setting reached.

    Attributes:
        name: Of the setting.
        iterations_per_second: Without start-up and warm-up; median over the rounds.
        ratio: To the first setting; median over the rounds of the ratio within a round.
        peak_bytes: The most memory that the process and its workers held at once, shared pages counted
            once and mapped files not at all; the largest of the rounds. None where the system does not say.
    """

    name: str
    iterations_per_second: float
    ratio: float
    peak_bytes: int | None


def measure(
    gt: Path,
    lq: Path,
    *,
    network: Mapping[str, Any] | None = None,
    scale: int = 3,
    settings: Sequence[Setting] = tuple(SETTINGS.values()),
    iterations: int = 100,
    warm_up: int = 20,
    runs: int = 3,
    batch: int = 16,
    gt_size: int = 192,
    workers: int = 2,
    num_gpu: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[TrainingSpeed]:
    """Runs train.py with each setting in turn, in a fresh process each.

    Args:
        gt: HR images, a folder or an LMDB.
        lq: LR images, likewise.
        network: ``network_g``; None: ABPN.
        scale: Of the images.
        settings: The first one is what others are compared with.
        iterations: That count, in each round.
        warm_up: Iterations before them.
        runs: Rounds.
        batch: Patches in a batch.
        gt_size: Side of an HR patch.
        workers: Processes of the loader, where the setting does not say.
        num_gpu: 0 for the CPU.
        progress: Called with the number of trainings done and of all.

    Returns:
        A result for each setting.

    Raises:
        OptionError: too few rounds or iterations.
        DataError: a training failed; the message has its last line.
    """
    check_runs(runs)
    if iterations < 1 or warm_up < 1:
        raise OptionError(f"iterations is {iterations} and warm_up is {warm_up}; both must be 1 or more")
    options = _options(gt, lq, network, scale, batch, gt_size, workers, num_gpu)
    options["train"]["total_iter"] = warm_up + iterations
    speeds: dict[str, list[float]] = {setting.name: [] for setting in settings}
    peaks: dict[str, list[int | None]] = {setting.name: [] for setting in settings}
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(runs):
            for step in range(len(settings)):
                setting = settings[(round_ + step) % len(settings)]
                speed, peak = _train(setting, options, warm_up, iterations, Path(folder))
                speeds[setting.name].append(speed)
                peaks[setting.name].append(peak)
                progress(round_ * len(settings) + step + 1, runs * len(settings))
    first = speeds[settings[0].name]
    return [
        TrainingSpeed(
            name,
            statistics.median(found),
            statistics.median(a / b for a, b in zip(found, first, strict=True)),
            max((peak for peak in peaks[name] if peak is not None), default=None),
        )
        for name, found in speeds.items()
    ]


def _options(
    gt: Path,
    lq: Path,
    network: Mapping[str, Any] | None,
    scale: int,
    batch: int,
    gt_size: int,
    workers: int,
    num_gpu: int,
) -> dict[str, Any]:
    training = {
        "name": "speed",
        "type": "PairedImageDataset",
        "dataroot_gt": str(gt.resolve()),
        "dataroot_lq": str(lq.resolve()),
        "filename_tmpl": "{}",
        "io_backend": {"type": "lmdb" if gt.suffix == ".lmdb" else "disk"},
        "gt_size": gt_size,
        "use_hflip": True,
        "use_rot": True,
        "num_worker_per_gpu": workers,
        "batch_size_per_gpu": batch,
        "dataset_enlarge_ratio": 100,
        "pin_memory": num_gpu > 0,
    }
    return {
        "name": "speed",
        "scale": scale,
        "num_gpu": num_gpu,
        "manual_seed": 0,
        "datasets": {"train": training},
        "network_g": dict(network or {"type": "ABPN", "upscale": scale}),
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [10**6], "gamma": 0.5},
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        },
        "logger": {"save_checkpoint_freq": 10**9, "use_tb_logger": False},
        "dist_params": {"backend": "nccl", "port": 29500},
    }


_PROGRAM = """
import mobilesr_plugin
mobilesr_plugin.register()
from basicsr.train import train_pipeline
train_pipeline(".")
"""
_LINE = re.compile(r"^(\S+ \S+),(\d{3}) INFO: .*iter: *([\d,]+),", re.MULTILINE)


def _train(
    setting: Setting, options: dict[str, Any], warm_up: int, iterations: int, folder: Path
) -> tuple[float, int | None]:
    """Returns iterations per second, from BasicSR's own log, and the peak of memory."""
    training = {**options["datasets"]["train"], **setting.dataset}
    if training["type"] == "CachedPairedDataset":
        training["cache_dir"] = str(folder / "cache")
    given = {**options, **setting.options, "model_type": setting.model_type, "datasets": {"train": training}}
    # BasicSR logs every print_freq iterations; both ends of what counts must be among them.
    given["logger"] = {**options["logger"], "print_freq": math.gcd(warm_up, iterations)}
    path = folder / "speed.yml"
    path.write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-c", _PROGRAM, "-opt", str(path)]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with process, PeakMemory(process.pid) as memory:
        _, log = process.communicate()
    if process.returncode != 0:
        reason = (log.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise DataError(f"the training with {setting.name} failed: {reason}")
    times = {int(found[3].replace(",", "")): _seconds(found[1], found[2]) for found in _LINE.finditer(log)}
    return iterations / (times[warm_up + iterations] - times[warm_up]), memory.peak


def _seconds(moment: str, milliseconds: str) -> float:
    return datetime.strptime(moment, "%Y-%m-%d %H:%M:%S").timestamp() + int(milliseconds) / 1000
