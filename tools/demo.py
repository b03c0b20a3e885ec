"""The main job, end to end, by the commands that a user types: data, training, QAT, export, test, report.

Run by ``make demo`` (ABPN x3) and ``make demo-sesr`` (SESR-M5 x2, then x4 from it). Leaves in ``demo/``, for
each network, ``<name>.html`` (the report), ``<name>.md`` and ``<name>.png`` (PSNR and details of four
photographs), and an upscaled photograph.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from steps import run

from mobilesr_plugin.bench.candidates import bicubic_candidate, open_candidates
from mobilesr_plugin.bench.metrics import PROTOCOLS, psnr

RESULT = Path("demo")
GAIN = 0.3  # dB over bicubic that every picture must reach
PHOTOGRAPH = "chelsea"  # that the device file enlarges
DATA = ("a small data set from scikit-image's photographs", "mobilesr data demo")


@dataclass(frozen=True)
class Demo:
    """One network: its name in option files, scale, and the protocol of its paper."""

    name: str
    scale: int
    protocol: str

    @property
    def experiment(self) -> Path:
        return Path(f"experiments/demo_{self.name}_qat")

    @property
    def ckpt(self) -> Path:
        return self.experiment / "models" / "net_g_latest.pth"

    @property
    def device_file(self) -> Path:
        return self.experiment / "export" / f"{self.name}_int8.tflite"

    @property
    def steps(self) -> list[tuple[str, str]]:
        """What is done, and the command that does it."""
        options = f"options/demo/{self.name}"
        photograph = f"datasets/demo/valid_HR/{PHOTOGRAPH}.png"
        upscaled = RESULT / f"{self.name}_{PHOTOGRAPH}.png"
        return [
            (f"{self.name} in float", f"python basicsr/train.py -opt {options}.yml"),
            (f"{self.name} for int8, then export", f"python basicsr/train.py -opt {options}_qat.yml"),
            ("the export once more, by hand", f"mobilesr-export --ckpt {self.ckpt}"),
            (
                "the TFLite file in BasicSR's test script",
                f"python basicsr/test.py -opt {options}_tflite_test.yml",
            ),
            (
                "a page on it: pictures, accuracy, parity, training, latency",
                f"mobilesr report {self.experiment} --out {RESULT}/{self.name}.html",
            ),
            (
                "a photograph through the TFLite file",
                f"mobilesr upscale {photograph} --model {self.device_file} --out {upscaled} --overwrite",
            ),
        ]


DEMOS = {
    "abpn": [Demo("abpn_x3", 3, "rgb_crop1")],
    "sesr": [Demo("sesr_m5_x2", 2, "y_crop_scale"), Demo("sesr_m5_x4", 4, "y_crop_scale")],
}


def main() -> None:
    """Runs a demo's steps, then judges the result; exit code 1 if a step or the judgement fails."""
    started = time.perf_counter()
    RESULT.mkdir(exist_ok=True)
    demos = DEMOS[sys.argv[1] if len(sys.argv) > 1 else "abpn"]
    steps = [DATA, *(step for demo in demos for step in demo.steps)]
    for number, (what, command) in enumerate(steps, start=1):
        run(f"{number}/{len(steps)}", what, command, RESULT / f"step{number}.log")
    problems = []
    for demo in demos:
        table, found = _compare(demo)
        print(table)
        print(f"Report: {RESULT}/{demo.name}.html")
        print(f"Table: {RESULT}/{demo.name}.md   Details: {RESULT}/{demo.name}.png")
        print(f"Upscaled photograph: {RESULT}/{demo.name}_{PHOTOGRAPH}.png")
        print(f"Device files: {demo.experiment}/export\n")
        problems += found
    print(f"{time.perf_counter() - started:.0f} s in all.")
    sys.exit("\n".join(problems) or None)


def _compare(demo: Demo) -> tuple[str, list[str]]:
    """Runs all networks on the validation pictures; writes table and details; returns it, and what failed."""
    integers, float_network = open_candidates(demo.ckpt, kernels="xnnpack", threads=2)
    (device,) = open_candidates(demo.device_file, kernels="xnnpack", threads=2)
    networks = {
        "bicubic": bicubic_candidate(demo.scale),
        "float": float_network,
        "int8 as validated": integers,
        "int8 TFLite as run": device,
    }
    protocol = PROTOCOLS[demo.protocol]
    rows, pictures, problems, mismatched, values = [], [], [], 0, 0
    for path in sorted(Path("datasets/demo/valid_HR").glob("*.png")):
        truth = np.asarray(Image.open(path).convert("RGB"))
        lr_path = f"datasets/demo/valid_LR_bicubic/X{demo.scale}/{path.name}"
        image = np.asarray(Image.open(lr_path).convert("RGB"))
        results = {name: network.upscale(image) for name, network in networks.items()}
        scores = {name: psnr(result, truth, protocol, demo.scale) for name, result in results.items()}
        rows.append([path.stem, *scores.values()])
        pictures.append({**results, "ground truth": truth})
        mismatched += np.count_nonzero(results["int8 as validated"] != results["int8 TFLite as run"])
        values += truth.size
        for name, score in scores.items():
            gain = score - scores["bicubic"]
            if name != "bicubic" and gain < GAIN:
                problems.append(f"{path.stem}: {name} gains {gain:.2f} dB over bicubic, less than {GAIN}")
    if mismatched:
        problems.append(f"{mismatched} values of {demo.device_file.name} differ from int8 validation")
    rows.append(["mean", *np.mean([row[1:] for row in rows], axis=0)])
    lines = [f"{demo.name}: PSNR in dB, protocol {protocol.name}", ""]
    lines += [f"| picture | {' | '.join(networks)} |", "|---" * 5 + "|"]
    lines += [f"| {row[0]} | " + " | ".join(f"{value:.3f}" for value in row[1:]) + " |" for row in rows]
    lines += ["", f"{mismatched} of {values:,} values of the TFLite file differ from int8 validation.", ""]
    table = "\n".join(lines)
    (RESULT / f"{demo.name}.md").write_text(table)
    _picture(pictures).save(RESULT / f"{demo.name}.png")
    return table, problems


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
