"""What int8 costs: the published ABPN x3, from its float weights to a device file, against the float.

Run by ``make bench-accuracy DATA=... REFERENCE=...``; ``--study`` adds a run for each choice of the
method, ``--residuals`` the residual ablation. Writes tables and JSON to ``studies/``. Exit code 1 if
the device file loses more than allowed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from residual_study import residual_study
from steps import run

SETS = ("Set5", "Set14", "DIV2K_valid_crop256", "Urban100_first20")
PROTOCOL = "rgb_crop1"
ALLOWED_MEAN, ALLOWED_ANY = 0.030, 0.045  # dB below the float network
RESULT = Path("studies")
OPTIONS = "tools/studies/abpn_x3_int8.yml"
FLOAT = Path("experiments/study/abpn_x3_float.pth")
INT8 = Path("experiments/study_abpn_x3_int8")
PTQ = Path("experiments/study/ptq")
CALIBRATION = "datasets/study/train_LR_bicubic_X3_sub.lmdb"

# Choices of the method, each changed alone; shorter than the full training.
STUDY_ITERATIONS = 1000
CHOICES = {
    "none": "",
    "learned ranges: frozen": "quantization:ranges=frozen",
    "ranges at 0.1 of the learning rate: at 1": "quantization:range_lr=1.0",
    "first ranges, auto: minmax": "quantization:observer=minmax",
    "first ranges, auto: percentile 99.99": "quantization:observer=percentile quantization:percentile=99.99",
    "distillation: ground truth, L1": "quantization:distillation=false train:pixel_opt:type=L1Loss",
    "learning rate 1e-4: 2e-4": "train:optim_g:lr=0.0002",
    "cosine schedule: constant": "train:scheduler:eta_min=0.0001",
    "no averaging: EMA 0.998": "train:ema_decay=0.998",
}


def main() -> None:
    """Runs the steps, prints the table, and judges the loss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of train_photos_480 and the test sets"
    )
    parser.add_argument("--reference", type=Path, required=True, help="folder of the published weights")
    parser.add_argument("--study", action="store_true", help="also one short training for each choice")
    parser.add_argument("--residuals", action="store_true", help="also the residual ablation")
    arguments = parser.parse_args()
    started = time.perf_counter()
    folders = [arguments.data / name / "HR" for name in SETS]
    _prepare(arguments.data, arguments.reference)
    published = arguments.reference / "abpn_x3_published_ptq.tflite"
    _train(INT8.name, "", 4)
    content = _compare(
        [
            *(FLOAT, INT8 / "models/net_g_latest.pth", INT8 / "export/abpn_x3_int8.tflite"),
            *(PTQ / "abpn_x3_int8.tflite", published),
        ],
        folders,
        "accuracy",
    )
    print((RESULT / "accuracy.md").read_text())
    problems = judge(content)
    print(f"{time.perf_counter() - started:.0f} s from weights to this table.", flush=True)
    if arguments.study:
        print(_study(folders))
    if arguments.residuals:
        print(residual_study(folders, RESULT))
    sys.exit("\n".join(problems) or None)


def judge(content: dict[str, Any]) -> list[str]:
    """Returns what the device file of QAT loses too much, from the content of accuracy.json."""
    losses = losses_by_set(content, INT8 / "export" / "abpn_x3_int8.tflite", FLOAT)
    mean = sum(losses.values()) / len(losses)
    listed = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
    print(f"int8 loss against float, {PROTOCOL}, dB: {listed}; mean {mean:.3f}")
    problems = [
        f"{name} loses {loss:.3f} dB; at most {ALLOWED_ANY:.3f} is allowed"
        for name, loss in losses.items()
        if loss > ALLOWED_ANY
    ]
    if mean > ALLOWED_MEAN:
        problems.append(f"the sets lose {mean:.3f} dB on average; at most {ALLOWED_MEAN:.3f} is allowed")
    return problems


def losses_by_set(content: dict[str, Any], file: Path, float_file: Path) -> dict[str, float]:
    """Returns, for each set, what ``file`` loses against ``float_file``, in dB."""
    found = {model["sha256"]: model["results"][PROTOCOL]["sets"] for model in content["models"]}
    own, full = (found[hashlib.sha256(path.read_bytes()).hexdigest()] for path in (file, float_file))
    return {name: full[name]["psnr"] - own[name]["psnr"] for name in own}


def _prepare(data: Path, reference: Path) -> None:
    """Imports the weights, makes the training set, and quantizes without training."""
    FLOAT.parent.mkdir(parents=True, exist_ok=True)
    photos = (
        f"mobilesr data prepare --hr {data}/train_photos_480 --scale 3 --out datasets/study --name train "
        "--crop-size 480 --step 480"
    )
    run("1/5", "published weights", f"mobilesr import tf-abpn {reference}/savedmodel --out {FLOAT}", _log(1))
    run("2/5", "training photographs", photos, _log(2))
    quantize = f"mobilesr-export --ckpt {FLOAT} --calib {CALIBRATION} --out {PTQ}"
    run("3/5", "int8 without training", quantize, _log(3))


def _train(name: str, changed: str, step: int, of: int = 5) -> None:
    forced = f" --force_yml name={name} {changed}".rstrip()
    command = f"python basicsr/train.py -opt {OPTIONS}{forced}"
    run(f"{step}/{of}", f"int8 with training: {name}", command, _log(step), threads=1)


def _compare(models: list[Path], folders: list[Path], name: str) -> dict[str, Any]:
    command = (
        f"mobilesr bench accuracy --model {_listed(models)} --data {_listed(folders)} "
        f"--protocol {PROTOCOL} y_crop_scale --out {RESULT}/{name}.json {RESULT}/{name}.md"
    )
    run("5/5", "all of them on the test sets", command, _log(5))
    return json.loads((RESULT / f"{name}.json").read_text())


def _study(folders: list[Path]) -> str:
    """Trains once for each choice, and returns the table of losses."""
    short = f"train:total_iter={STUDY_ITERATIONS} train:scheduler:periods=[{STUDY_ITERATIONS}]"
    lines = [
        f"int8 loss in dB, `{PROTOCOL}`, after {STUDY_ITERATIONS} iterations; each choice changed alone:",
        "",
        f"| choice: what instead | {' | '.join(SETS)} | mean |",
        "|---|" + "---:|" * (len(SETS) + 1),
    ]
    for number, (choice, changed) in enumerate(CHOICES.items()):
        name = f"study_choice_{number}"
        _train(name, f"{short} {changed} export=~", number + 1, len(CHOICES))
        ckpt = Path(f"experiments/{name}/models/net_g_latest.pth")
        content = _compare([FLOAT, ckpt], folders, name)
        losses = losses_by_set(content, ckpt, FLOAT)
        cells = [f"{value:.3f}" for value in (*losses.values(), sum(losses.values()) / len(losses))]
        lines.append(f"| {choice} | {' | '.join(cells)} |")
        (RESULT / "quantization.md").write_text("\n".join(lines) + "\n")
    return (RESULT / "quantization.md").read_text()


def _listed(paths: list[Path]) -> str:
    return " ".join(str(path) for path in paths)


def _log(step: int) -> Path:
    return RESULT / f"step{step}.log"


if __name__ == "__main__":
    main()
