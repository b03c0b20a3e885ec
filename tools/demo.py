"""The main job, end to end, by the commands that a user types: data, training, QAT, export, test.

Run by ``make demo`` (ABPN x3) and ``make demo-sesr`` (SESR-M5 x2, then x4 from it). Ends with a table
and a picture for each network: ``demo/<name>.md`` and ``demo/<name>.png``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from steps import run

from mobilesr_plugin import checkpoint
from mobilesr_plugin.bench.latency import measure
from mobilesr_plugin.bench.metrics import PROTOCOLS, psnr
from mobilesr_plugin.colour import upscale_colour
from mobilesr_plugin.data.bicubic import upscale
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import TFLiteRunner, to_uint8
from mobilesr_plugin.verify.parity import Runner, to_tensor

RESULT = Path("demo")
GAIN = 0.3  # dB over bicubic that every picture must reach
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
    def steps(self) -> list[tuple[str, str]]:
        """What is done, and the command that does it."""
        options = f"options/demo/{self.name}"
        ckpt = self.experiment / "models" / "net_g_latest.pth"
        return [
            (f"{self.name} in float", f"python basicsr/train.py -opt {options}.yml"),
            (f"{self.name} for int8, then export", f"python basicsr/train.py -opt {options}_qat.yml"),
            ("the export once more, by hand", f"mobilesr-export --ckpt {ckpt}"),
            (
                "the TFLite file in BasicSR's test script",
                f"python basicsr/test.py -opt {options}_tflite_test.yml",
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
        pictures, table, found = _compare(demo)
        (RESULT / f"{demo.name}.md").write_text(table)
        _picture(pictures).save(RESULT / f"{demo.name}.png")
        print(table)
        print(f"Table: {RESULT}/{demo.name}.md   Picture: {RESULT}/{demo.name}.png")
        print(f"Device files: {demo.experiment}/export\n")
        problems += found
    print(f"{time.perf_counter() - started:.0f} s in all.")
    sys.exit("\n".join(problems) or None)


def _compare(demo: Demo) -> tuple[list[dict[str, np.ndarray]], str, list[str]]:
    """Runs all networks on the validation pictures; returns pictures, the table, and what failed."""
    restored = checkpoint.restore(demo.experiment / "models" / "net_g_latest.pth")
    assert restored.float_network is not None
    assert restored.quantized_network is not None
    integer = IntegerNetwork(lower(restored.quantized_network))
    channels = integer.graph.input.channels
    device = demo.experiment / "export" / f"{demo.name}_int8.tflite"
    runners = {
        "float": _on_colour(restored.float_network, channels),
        "int8 as validated": _on_colour(integer, channels),
        "int8 TFLite as run": _on_colour(_as_network(TFLiteRunner(device)), channels),
    }
    names = ["bicubic", *runners]
    protocol = PROTOCOLS[demo.protocol]
    rows, pictures, problems, mismatched, values = [], [], [], 0, 0
    for path in sorted(Path("datasets/demo/valid_HR").glob("*.png")):
        truth = np.asarray(Image.open(path).convert("RGB"))
        lr_path = f"datasets/demo/valid_LR_bicubic/X{demo.scale}/{path.name}"
        image = np.asarray(Image.open(lr_path).convert("RGB"))
        results = {"bicubic": upscale(image, demo.scale)}
        results |= {name: run(image[None])[0] for name, run in runners.items()}
        scores = {name: psnr(results[name], truth, protocol, demo.scale) for name in names}
        rows.append([path.stem, *scores.values()])
        pictures.append({**results, "ground truth": truth})
        mismatched += np.count_nonzero(results[names[2]] != results[names[3]])
        values += truth.size
        for name in names[1:]:
            gain = scores[name] - scores["bicubic"]
            if gain < GAIN:
                problems.append(f"{path.stem}: {name} gains {gain:.2f} dB over bicubic, less than {GAIN}")
    if mismatched:
        problems.append(f"{mismatched} values of {device.name} differ from int8 validation")
    rows.append(["mean", *np.mean([row[1:] for row in rows], axis=0)])
    lines = [f"{demo.name}: PSNR in dB, protocol {protocol.name}", ""]
    lines += [f"| picture | {' | '.join(names)} |", "|---" * 5 + "|"]
    lines += [f"| {row[0]} | " + " | ".join(f"{value:.3f}" for value in row[1:]) + " |" for row in rows]
    fixed = device.with_name(f"{demo.name}_int8_360x640.tflite")
    latency = measure([fixed], size=(360, 640), runs=9)[0].median
    lines += [
        "",
        f"- parity: {mismatched} of {values:,} values of the TFLite file differ from int8 validation",
        f"- size of the device file: {device.stat().st_size:,} bytes; for 360x640 only: "
        f"{fixed.stat().st_size:,} bytes",
        f"- latency on this machine: {latency:.1f} ms for 360x640 to "
        f"{360 * demo.scale}x{640 * demo.scale}, 2 threads, XNNPACK",
        "",
    ]
    return pictures, "\n".join(lines), problems


def _on_colour(network: Callable[[torch.Tensor], torch.Tensor], channels: int) -> Runner:
    """Returns a function of uint8 RGB pictures; a luma network gets Y, and chroma is interpolated."""

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            result = upscale_colour(network, to_tensor(pixels), channels)
        return to_uint8(result.permute(0, 2, 3, 1).numpy())

    return run


def _as_network(runner: TFLiteRunner) -> Callable[[torch.Tensor], torch.Tensor]:
    def run(image: torch.Tensor) -> torch.Tensor:
        return to_tensor(runner(to_uint8(image.permute(0, 2, 3, 1).numpy())))

    return run


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
