"""Prepares and opens a training set of DIV2K's real size: time, memory, disk, and data for training.

The pictures are mosaics of scikit-image's photographs, enlarged at random, with noise: seeded, and about as
large as PNG files as DIV2K's. With the shipped options/abpn_x3.yml, without validation:

    python tools/bench_real_size.py --folder /scratch/real-size
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml
from tqdm import tqdm

from mobilesr_plugin.bench.process_memory import PeakMemory
from mobilesr_plugin.data.demo import TRAINING
from mobilesr_plugin.data.images import encode_png, write_bytes
from mobilesr_plugin.data.photographs import photograph
from mobilesr_plugin.data.workers import default_workers, run_tasks

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = ROOT / "options/abpn_x3.yml"
HR, LR = "datasets/DIV2K/DIV2K_train_HR.lmdb", "datasets/DIV2K/DIV2K_train_LR_bicubic_X3.lmdb"
CACHE = "datasets/DIV2K/.mobilesr_cache"
HEIGHT, WIDTH = 1404, 2040
BYTES_EACH = 25e6  # of a picture on the disk: PNG, LMDBs, decoded images

_COMMAND = "import sys; from mobilesr_plugin.cli.main import main; main(sys.argv[1:])"
_TRAIN = """
import mobilesr_plugin
mobilesr_plugin.register()
from basicsr.train import train_pipeline
train_pipeline(".")
"""
_COMPARE = """
import json, pathlib, sys
import mobilesr_plugin
mobilesr_plugin.register()
from mobilesr_plugin.bench.dataset_speed import measure
speeds = measure(*map(pathlib.Path, sys.argv[1:]), scale=3, runs=3, samples=64)
print(json.dumps({speed.kind: speed.samples_per_second for speed in speeds}))
"""
_FIRST_ITERATION = re.compile(r"iter: +1,")


@dataclass(frozen=True)
class Measured:
    """One process and its descendants.

    Attributes:
        seconds: From its start to the line that was waited for, or to its end.
        processor: Processor seconds of all of it, which other work on the machine changes little.
        peak: Most anonymous and shared memory at once, bytes.
        output: What it printed.
    """

    seconds: float
    processor: float
    peak: int | None
    output: str


def main() -> None:
    """Makes the set, measures, prints a table and JSON, and removes everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where; the default is a temporary one")
    parser.add_argument("--pictures", type=int, default=800)
    parser.add_argument("--keep", action="store_true", help="leave the data there")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="real-size-"))
    folder.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder).free, int(arguments.pictures * BYTES_EACH)
    if free < needed:
        sys.exit(f"{arguments.pictures} pictures take about {needed:,} bytes, but {folder} has {free:,} free")
    try:
        figures = {}
        for name, value in measure(folder, arguments.pictures):
            figures[name] = value
            print(f"| {name} | {value:,.2f} |", flush=True)
        print(json.dumps(figures))
    finally:
        if not arguments.keep:
            for name in ("hr", "datasets", "experiments"):
                shutil.rmtree(folder / name, ignore_errors=True)


def measure(folder: Path, pictures: int) -> Iterator[tuple[str, float]]:
    """Yields all figures as they are measured; the data lie in ``folder`` afterwards."""
    hr = folder / "hr"
    for _ in tqdm(run_tasks(draw, [(hr, n) for n in range(pictures)], default_workers()), total=pictures):
        pass
    yield "pictures", pictures
    yield "PNG files, GB", size(hr)
    prepare = [*("data", "prepare", "--hr", "hr", "--scale", "3", "--out", "datasets/DIV2K", "--quiet")]
    prepared = run(_COMMAND, prepare, folder)
    yield "data prepare, s", prepared.seconds
    yield "data prepare, processor seconds", prepared.processor
    yield "data prepare, peak memory, GB", (prepared.peak or 0) / 1e9
    yield "LMDBs, GB", size(folder / HR) + size(folder / LR)
    opt = yaml.safe_load(OPTIONS.read_text())
    opt |= {"datasets": {"train": opt["datasets"]["train"]}, "num_gpu": 0}
    del opt["val"]
    opt["train"]["total_iter"], opt["logger"]["print_freq"], opt["logger"]["use_tb_logger"] = 2, 1, False
    (folder / "real_size.yml").write_text(yaml.safe_dump(opt, sort_keys=False))
    for state in ("nothing decoded yet", "decoded before"):
        training = run(_TRAIN, ["-opt", "real_size.yml"], folder, _FIRST_ITERATION)
        yield f"start to first iteration, {state}, s", training.seconds
        yield f"training, {state}, processor seconds", training.processor
        yield f"training, {state}, peak memory, GB", (training.peak or 0) / 1e9
    yield "decoded images, GB", size(folder / CACHE)
    compared = run(_COMPARE, [HR, LR], folder)
    for kind, samples_per_second in json.loads(compared.output).items():
        yield f"{kind}, samples/s", samples_per_second


def draw(task: tuple[Path, int]) -> None:
    """Writes one picture: nine parts of photographs, each enlarged by up to two, with noise."""
    folder, number = task
    path = folder / f"{number + 1:04d}.png"
    if path.exists():  # of a run that was stopped: it is the same
        return
    rng = np.random.default_rng(number)
    picture = np.empty((HEIGHT, WIDTH, 3), np.float32)
    for top in range(0, HEIGHT, HEIGHT // 3):
        for left in range(0, WIDTH, WIDTH // 3):
            picture[top : top + HEIGHT // 3, left : left + WIDTH // 3] = part(rng, HEIGHT // 3, WIDTH // 3)
    picture += rng.standard_normal(picture.shape, np.float32)
    image = np.rint(picture).clip(0, 255).astype(np.uint8)
    write_bytes(path, encode_png(image, 3))


def part(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns (height, width, 3) of a random place in a random photograph."""
    file, _ = TRAINING[rng.integers(len(TRAINING))]
    source = photograph(file)
    least = max(height / source.shape[0], width / source.shape[1], 1.0)
    factor = rng.uniform(least, max(least, 2.0))
    tall, wide = int(height / factor), int(width / factor)
    top, left = (int(rng.integers(most + 1)) for most in (source.shape[0] - tall, source.shape[1] - wide))
    crop = source[top : top + tall, left : left + wide].astype(np.float32)
    large = cv2.resize(crop, (width, height), interpolation=cv2.INTER_CUBIC)
    return large[:, ::-1] if rng.random() < 0.5 else large


def run(code: str, arguments: list[str], folder: Path, until: re.Pattern[str] | None = None) -> Measured:
    """Runs a Python program in ``folder``; its time ends with a line that matches, or with the program.

    Leaves this program if it fails.
    """
    started, seconds, output, before = time.perf_counter(), None, [], os.times()
    # standard error too: BasicSR logs there
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if until else None,
        text=True,
    )
    assert process.stdout is not None
    with process, PeakMemory(process.pid) as memory:
        for line in process.stdout:
            output.append(line)
            if until is not None and seconds is None and until.search(line):
                seconds = time.perf_counter() - started
        process.wait()
    if process.returncode or (until is not None and seconds is None):
        sys.exit("".join(output[-20:]) + f"{arguments} failed with exit code {process.returncode}")
    after = os.times()
    processor = sum(after[2:4]) - sum(before[2:4])  # user and system time of the processes that have ended
    return Measured(seconds or time.perf_counter() - started, processor, memory.peak, "".join(output))


def size(folder: Path) -> float:
    """Returns the bytes of all files in a folder, in GB."""
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e9


if __name__ == "__main__":
    main()
