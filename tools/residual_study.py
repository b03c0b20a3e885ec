"""The residual ablation of the ABPN paper: what int8 costs with each kind of residual.

Each network is trained the same short way, in float, then quantized without training. The paper's
figures (section 3.3) are for other data, a longer training and TensorFlow's quantization, so only the
order can be compared.
"""

from __future__ import annotations

import json
from pathlib import Path

from steps import run

KINDS = ("none", "feature", "nearest", "bilinear", "anchor")
PAPER = {"none": "1.93", "feature": "0.78", "nearest": "0.13", "bilinear": "0.13", "anchor": "0.13"}
OPTIONS = "tools/studies/abpn_x3_residual.yml"
CALIBRATION = "datasets/study/train_LR_bicubic_X3_sub.lmdb"
PROTOCOL = "rgb_crop1"


def residual_study(folders: list[Path], result: Path) -> str:
    """Trains, quantizes and compares; returns the table, which is also in ``result``/residuals.md."""
    lines = [
        f"`{PROTOCOL}`, mean over the sets, dB:",
        "",
        "| residual | float | int8 | loss | loss in the paper |",
        "|---|---:|---:|---:|---:|",
    ]
    for number, kind in enumerate(KINDS, start=1):
        name, progress = f"study_residual_{kind}", f"{number}/{len(KINDS)}"
        log = result / f"residual_{kind}.log"
        forced = f"--force_yml name={name} network_g:residual={kind}"
        run(progress, f"residual {kind}, float", f"python basicsr/train.py -opt {OPTIONS} {forced}", log)
        ckpt, out = Path(f"experiments/{name}/models/net_g_latest.pth"), f"experiments/{name}/export"
        run(
            progress,
            f"residual {kind}, int8",
            f"mobilesr-export --ckpt {ckpt} --calib {CALIBRATION} --out {out}",
            log,
        )
        table = result / f"residual_{kind}.json"
        data = " ".join(map(str, folders))
        models = f"{ckpt} {out}/abpn_x3_int8.tflite"
        run(
            progress,
            f"residual {kind}, both on the test sets",
            f"mobilesr bench accuracy --model {models} --data {data} --out {table}",
            log,
        )
        full, small = (
            model["results"][PROTOCOL] for model in json.loads(table.read_text())["models"] if model["file"]
        )
        cells = [f"{full['psnr']:.3f}", f"{small['psnr']:.3f}", f"{small['loss']:.3f}", PAPER[kind]]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
        (result / "residuals.md").write_text("\n".join(lines) + "\n")
    return (result / "residuals.md").read_text()
