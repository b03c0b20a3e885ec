"""The main job, end to end, by the commands that a user types: data, training, QAT, export, test.

Run by ``make demo``. Ends with a table (demo/result.md) and a picture (demo/comparison.png).
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mobilesr_plugin import checkpoint
from mobilesr_plugin.bench.accuracy import PROTOCOLS, psnr
from mobilesr_plugin.bench.latency import measure
from mobilesr_plugin.data.bicubic import upscale
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import TFLiteRunner
from mobilesr_plugin.verify.parity import network_runner

SCALE = 3
BIN = Path(sys.executable).parent
EXPORT = Path(f"experiments/demo_abpn_x{SCALE}_qat/export")
RESULT = Path("demo")
GAIN = 0.3  # dB over bicubic that every picture must reach
PROTOCOL = PROTOCOLS["rgb_crop1"]

OPTIONS = f"options/demo/abpn_x{SCALE}"
STEPS = [
    ("a small data set from scikit-image's photographs", "mobilesr data demo"),
    (f"ABPN x{SCALE} in float", f"python basicsr/train.py -opt {OPTIONS}.yml"),
    (f"ABPN x{SCALE} for int8, then export", f"python basicsr/train.py -opt {OPTIONS}_qat.yml"),
    ("the TFLite file in BasicSR's test script", f"python basicsr/test.py -opt {OPTIONS}_tflite_test.yml"),
]


def main() -> None:
    """Runs the steps, then judges the result; exit code 1 if a step or the judgement fails."""
    started = time.perf_counter()
    RESULT.mkdir(exist_ok=True)
    for number, (what, command) in enumerate(STEPS, start=1):
        _run(number, what, command)
    pictures, table, problems = _compare()
    (RESULT / "result.md").write_text(table)
    _picture(pictures).save(RESULT / "comparison.png")
    print(table)
    print(f"Table: {RESULT}/result.md   Picture: {RESULT}/comparison.png   Device files: {EXPORT}")
    print(f"{time.perf_counter() - started:.0f} s in all.")
    sys.exit("\n".join(problems) or None)


def _run(number: int, what: str, command: str) -> None:
    print(f"[{number}/{len(STEPS)}] {what}\n      $ {command}", flush=True)
    program, *arguments = command.split()
    started = time.perf_counter()
    log = RESULT / f"step{number}.log"
    with log.open("w") as output:
        done = subprocess.run([str(BIN / program), *arguments], stdout=output, stderr=subprocess.STDOUT)
    if done.returncode:
        print(log.read_text()[-3000:], file=sys.stderr)
        sys.exit(f"step {number} failed with exit code {done.returncode}; its log is {log}")
    print(f"      {time.perf_counter() - started:.0f} s", flush=True)


def _compare() -> tuple[list[dict[str, np.ndarray]], str, list[str]]:
    """Runs all networks on the validation pictures; returns pictures, the table, and what failed."""
    qat = checkpoint.restore(Path(f"experiments/demo_abpn_x{SCALE}_qat/models/net_g_latest.pth"))
    assert qat.float_network is not None
    assert qat.quantized_network is not None
    device = EXPORT / f"abpn_x{SCALE}_int8.tflite"
    runners = {
        "float": network_runner(qat.float_network),
        "int8 as validated": network_runner(IntegerNetwork(lower(qat.quantized_network))),
        "int8 TFLite as run": TFLiteRunner(device),
    }
    names = ["bicubic", *runners]
    rows, pictures, problems, mismatched, values = [], [], [], 0, 0
    for path in sorted(Path("datasets/demo/valid_HR").glob("*.png")):
        truth = np.asarray(Image.open(path).convert("RGB"))
        image = np.asarray(Image.open(f"datasets/demo/valid_LR_bicubic/X{SCALE}/{path.name}").convert("RGB"))
        results = {"bicubic": upscale(image, SCALE)}
        results |= {name: run(image[None])[0] for name, run in runners.items()}
        scores = {name: psnr(results[name], truth, PROTOCOL, SCALE) for name in names}
        rows.append([path.stem, *scores.values()])
        pictures.append({**results, "ground truth": truth})
        mismatched += np.count_nonzero(results[names[2]] != results[names[3]])
        values += truth.size
        for name in names[1:]:
            gain = scores[name] - scores["bicubic"]
            if gain < GAIN:
                problems.append(f"{path.stem}: {name} gains {gain:.2f} dB over bicubic, less than {GAIN}")
    if mismatched:
        problems.append(f"{mismatched} values of the TFLite file differ from int8 validation")
    rows.append(["mean", *np.mean([row[1:] for row in rows], axis=0)])
    lines = [
        f"PSNR in dB, protocol {PROTOCOL.name}",
        "",
        f"| picture | {' | '.join(names)} |",
        "|---" * 5 + "|",
    ]
    lines += [f"| {row[0]} | " + " | ".join(f"{value:.3f}" for value in row[1:]) + " |" for row in rows]
    fixed = EXPORT / f"abpn_x{SCALE}_int8_360x640.tflite"
    latency = measure([fixed], size=(360, 640), runs=9)[0].median
    lines += [
        "",
        f"- parity: {mismatched} of {values:,} values of the TFLite file differ from int8 validation",
        f"- size of the device file: {device.stat().st_size:,} bytes; for 360x640 only: "
        f"{fixed.stat().st_size:,} bytes",
        f"- latency on this machine: {latency:.1f} ms for 360x640 to 1080x1920, 2 threads, XNNPACK",
        "",
    ]
    return pictures, "\n".join(lines), problems


def _picture(pictures: list[dict[str, np.ndarray]]) -> Image.Image:
    """Sets a detail of each picture side by side: bicubic, int8 on the device, ground truth."""
    columns, side, zoom, margin, head = ("bicubic", "int8 TFLite as run", "ground truth"), 96, 3, 8, 20
    cell = side * zoom + margin
    sheet = Image.new("RGB", (cell * len(columns) + margin, cell * len(pictures) + head), "white")
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(columns):
        draw.text((margin + column * cell, 4), name, fill="black")
        for row, picture in enumerate(pictures):
            top, left = _detailed_corner(picture["ground truth"], side)
            detail = Image.fromarray(picture[name][top : top + side, left : left + side])
            enlarged = detail.resize((side * zoom, side * zoom), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (margin + column * cell, head + row * cell))
    return sheet


def _detailed_corner(picture: np.ndarray, side: int) -> tuple[int, int]:
    """Returns the square with the most contrast between neighbours, on a coarse grid."""
    grey = picture.mean(axis=2)
    corners = [
        (top, left)
        for top in range(0, grey.shape[0] - side, side // 2)
        for left in range(0, grey.shape[1] - side, side // 2)
    ]
    return max(
        corners, key=lambda at: np.abs(np.diff(grey[at[0] : at[0] + side, at[1] : at[1] + side])).mean()
    )


if __name__ == "__main__":
    main()
