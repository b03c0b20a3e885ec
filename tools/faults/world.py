"""A small folder of all that the commands read: checkpoints, an export, data sets, pictures, a video."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCALE = 2
SIZE = "24x32"  # of the export's file for one size, and of the video's frames
NETWORK = {"type": "ABPN", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": SCALE}
SRVGG = {
    **{"type": "SRVGGNetCompact", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_conv": 2},
    **{"upscale": SCALE, "act_type": "prelu"},
}
QUANTIZATION = {"calibration_images": 4, "observer": "minmax", "distillation": False}
FRAMES = 260  # more than two segments of a video that is being made


def environment(**changes: str) -> dict[str, str]:
    """This process's environment with one thread, no GPU, and the checkout in front."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MOBILESR_")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path, **changes}


def script(name: str) -> list[str]:
    """The command line of ``basicsr/train.py`` or ``basicsr/test.py``, without its options."""
    return [sys.executable, str(ROOT / "basicsr" / f"{name}.py")]


def command(*words: object) -> list[str]:
    """The command line of ``mobilesr``."""
    return [sys.executable, "-m", "mobilesr_plugin.cli", *map(str, words)]


def options(name: str, **changes: Any) -> dict[str, Any]:
    """Options of a training of float ABPN; the paths are relative to the world's folder."""
    pair = {
        **{"type": "PairedImageDataset", "dataroot_gt": "hr", "dataroot_lq": "lr"},
        "io_backend": {"type": "disk"},
    }
    train = {
        **{"name": "train", **copy.deepcopy(pair), "gt_size": 32, "use_hflip": True, "use_rot": True},
        **{"num_worker_per_gpu": 0, "batch_size_per_gpu": 2, "dataset_enlarge_ratio": 1000},
    }
    opt: dict[str, Any] = {
        **{"name": name, "model_type": "MobileSRModel", "scale": SCALE, "num_gpu": 0, "manual_seed": 0},
        "datasets": {"train": train, "val": {"name": "val", **copy.deepcopy(pair)}},
        "network_g": dict(NETWORK),
        "path": {"pretrain_network_g": "float.pth", "strict_load_g": True, "resume_state": None},
        "train": {
            "optim_g": {"type": "Adam", "lr": 1.0e-4},
            "scheduler": {"type": "MultiStepLR", "milestones": [1000], "gamma": 0.5},
            "total_iter": 2,
            "ema_decay": 0.9,
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        },
        "val": {
            **{"val_freq": 2, "save_img": False},
            "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": False}},
        },
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": True},
        "dist_params": {"backend": "nccl", "port": 29511},
    }
    return {**opt, **changes}


def qat_options(name: str, **changes: Any) -> dict[str, Any]:
    """The same for int8."""
    return options(name, **{"model_type": "QATSRModel", "quantization": dict(QUANTIZATION), **changes})


def write_options(path: Path, opt: dict[str, Any]) -> Path:
    """Writes an option file."""
    path.write_text(yaml.safe_dump(opt, sort_keys=False), encoding="utf-8")
    return path


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """(H, W, 3) uint8: soft colours with some noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    soft = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(soft + generator.integers(-4, 5, soft.shape), 0, 255).astype(np.uint8)


def build(folder: Path) -> Path:
    """Makes the world in ``folder``, which takes half a minute, and returns it.

    It holds ``hr``, ``lr``, ``photos`` (pictures of several formats), ``clip.mp4``, ``float.pth``,
    ``srvgg.pth``, option files, ``options`` (the package's), ``data`` (LMDBs),
    ``experiments/trained`` (models, training states, an export) and ``tb_logger/trained``.
    """
    folder.mkdir(parents=True)
    _pictures(folder)
    _video(folder / "clip.mp4")
    _checkpoints(folder)
    prepared = ("--hr", "hr", "--out", "data", "--scale", SCALE, "--crop-size", 32, "--step", 16)
    _run(command("data", "prepare", *prepared, "--min-side", 32, "--workers", 1), folder)
    trained = qat_options("trained")
    trained["train"]["total_iter"] = 4
    write_options(folder / "trained.yml", trained)
    _run([*script("train"), "-opt", "trained.yml"], folder)
    experiment = folder / "experiments" / "trained"
    _run(command("export", "--ckpt", experiment / "models" / "net_g_latest.pth", "--size", SIZE), folder)
    _run(command("data", "options", "--out", "options"), folder)
    _option_files(folder)
    (log,) = (folder / "tb_logger" / "trained").glob("events.*")
    log.rename(log.with_name("events.out.tfevents.1.host"))  # a name that does not change
    return folder


def _pictures(folder: Path) -> None:
    for kind in ("hr", "lr", "photos"):
        (folder / kind).mkdir()
    for index in range(4):
        large = picture(48, 64, index)
        cv2.imwrite(str(folder / "hr" / f"{index}.png"), large)
        small = cv2.resize(large, (32, 24), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / "lr" / f"{index}.png"), small)
    photo = picture(24, 32, 9)
    for suffix in ("png", "jpg", "webp", "bmp", "tif"):
        cv2.imwrite(str(folder / "photos" / f"{suffix}.{suffix}"), photo)
    cv2.imwrite(str(folder / "photos" / "deep.png"), photo.astype(np.uint16) * 257)


def _video(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(24, 32, index), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _checkpoints(folder: Path) -> None:
    """Seeded weights, in a process of its own: this one stays free of threads."""
    program = (
        "import sys, torch; from pathlib import Path; import mobilesr_plugin; mobilesr_plugin.register()\n"
        "from basicsr.archs import build_network; from mobilesr_plugin import checkpoint\n"
        "folder, networks = Path(sys.argv[1]), eval(sys.argv[2]); torch.manual_seed(0)\n"
        "for name, network_g in networks.items():\n"
        "    params = build_network(dict(network_g)).state_dict()\n"
        "    described = checkpoint.describe({'network_g': network_g, 'scale': network_g['upscale']})\n"
        "    checkpoint.save(folder / f'{name}.pth', {'params': params, 'mobilesr': described})\n"
    )
    networks = {"float": NETWORK, "srvgg": SRVGG}
    _run([sys.executable, "-c", program, str(folder), repr(networks)], folder)


def _option_files(folder: Path) -> None:
    write_options(folder / "train.yml", options("train"))
    write_options(folder / "qat.yml", qat_options("qat"))
    val = options("test")["datasets"]["val"]
    test = options("test", datasets={"test_1": {**val, "phase": "test"}})
    test["path"] = {"pretrain_network_g": "float.pth", "strict_load_g": True}
    write_options(folder / "test.yml", test)
    tflite = copy.deepcopy(test) | {"name": "tflite_test", "model_type": "TFLiteSRModel"}
    tflite["path"]["pretrain_network_g"] = "experiments/trained/export/abpn_x2_int8.tflite"
    write_options(folder / "tflite_test.yml", tflite)
    lmdb = options("lmdb")
    lmdb["datasets"]["train"] |= {
        **{"type": "CachedPairedDataset", "dataroot_gt": "data/data_train_HR_sub.lmdb"},
        **{"dataroot_lq": f"data/data_train_LR_bicubic_X{SCALE}_sub.lmdb", "io_backend": {"type": "lmdb"}},
    }
    write_options(folder / "lmdb.yml", lmdb)


def _run(words: list[str], folder: Path) -> None:
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
