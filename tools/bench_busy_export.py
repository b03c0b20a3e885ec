"""What another busy process costs an export: wall time beside one that keeps a processor busy, and alone.

Run by ``make bench-busy`` on a machine that is idle otherwise. The network is an EDSR of 32 features and 5
blocks, x2, with seeded weights: of the form that MLPerf Mobile measures, 106,092 parameters. Exit code 1 if
the median of the ratios is above 2.2.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from mobilesr_plugin.cpus import usable_cpus
from mobilesr_plugin.data.samples import sample_images

BOUND = 2.2
TILE = 160  # pixels, of calibration images

NETWORK = """
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.first, self.second = (nn.Conv2d(features, features, 3, padding=1) for _ in range(2))

    def forward(self, x):
        return x + self.second(F.relu(self.first(x)))


@ARCH_REGISTRY.register()
class BusyEDSR(nn.Module):
    def __init__(self, num_in_ch=3, num_out_ch=3, num_feat=32, num_block=5, upscale=2):
        super().__init__()
        self.head = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.body = nn.Sequential(*(Block(num_feat) for _ in range(num_block)))
        self.after = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.up = nn.Conv2d(num_feat, num_out_ch * upscale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(upscale)

    def forward(self, x):
        head = self.head(x)
        return self.shuffle(self.up(self.after(self.body(head)) + head)).clamp(0, 1)
"""
OPTIONS = "import: {file}\nscale: 2\nnetwork_g: {{type: BusyEDSR, num_in_ch: 3, num_out_ch: 3}}\n"


@dataclass(frozen=True)
class Took:
    """Seconds of one export: on the clock, and of all its processors together."""

    wall: float
    processor: float


def prepare(folder: Path, tiles: int) -> list[str]:
    """Writes network, checkpoint, options and calibration images; returns the command of the export."""
    (folder / "edsr_arch.py").write_text(NETWORK)
    (folder / "options.yml").write_text(OPTIONS.format(file=folder / "edsr_arch.py"))
    generator = torch.Generator().manual_seed(0)
    shapes = {"head": (32, 3), "after": (32, 32), "up": (12, 32)}
    shapes |= {f"body.{block}.{conv}": (32, 32) for block in range(5) for conv in ("first", "second")}
    weights: dict[str, torch.Tensor] = {}
    for name, (outputs, inputs) in shapes.items():
        deviation = (1.6 / (9 * inputs)) ** 0.5
        weights[f"{name}.weight"] = deviation * torch.randn(outputs, inputs, 3, 3, generator=generator)
        weights[f"{name}.bias"] = 0.05 * torch.randn(outputs, generator=generator)
    torch.save({"params": weights}, folder / "net_g.pth")
    (folder / "LR").mkdir()
    pictures = list(sample_images().values())[:-1]  # the last one is noise
    random = np.random.default_rng(0)
    for number in range(tiles):
        picture = pictures[number % len(pictures)]
        top, left = (int(random.integers(0, side - TILE + 1)) for side in picture.shape[:2])
        cv2.imwrite(str(folder / "LR" / f"{number:03}.png"), picture[top : top + TILE, left : left + TILE])
    given = {"ckpt": "net_g.pth", "opt": "options.yml", "calib": "LR", "out": "export"}
    script = Path(sys.executable).with_name("mobilesr-export")
    return [str(script), *(part for key, name in given.items() for part in (f"--{key}", str(folder / name)))]


def export(command: list[str]) -> Took:
    """Runs it once."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begun
    if status:
        raise SystemExit(said.strip() or f"{command[0]} failed")
    return Took(wall, usage.ru_utime + usage.ru_stime)


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keeps so many processors busy."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def main() -> None:
    """Measures, prints, and judges."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3, help="exports of each kind, alternating (default: 3)")
    parser.add_argument("--busy", type=int, default=1, help="busy processes (default: 1)")
    parser.add_argument("--tiles", type=int, default=100, help="calibration images (default: 100)")
    given = parser.parse_args()
    print(f"{usable_cpus()} CPUs, {given.busy} of them kept busy; seconds on the clock / of processors")
    ratios, costs = [], []
    with tempfile.TemporaryDirectory() as scratch:
        command = prepare(Path(scratch), given.tiles)
        for number in range(given.runs):
            quiet = export(command)
            with busy(given.busy):
                beside = export(command)
            ratios.append(beside.wall / quiet.wall)
            costs.append(beside.processor / quiet.processor)
            print(
                f"{number + 1}/{given.runs}  quiet {quiet.wall:.1f} / {quiet.processor:.1f}  "
                f"busy {beside.wall:.1f} / {beside.processor:.1f}  ratio {ratios[-1]:.2f} / {costs[-1]:.2f}"
            )
    ratio = statistics.median(ratios)
    print(
        f"ratio {ratio:.2f} of wall time (at most {BOUND}), {statistics.median(costs):.2f} of processor time"
    )
    sys.exit(1 if ratio > BOUND else 0)


if __name__ == "__main__":
    main()
