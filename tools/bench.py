"""The figures that this project promises, each measured as a ratio within one run.

Run by ``make bench DATA=... REFERENCE=...``: about three quarters of an hour. ``--parts`` measures some of
them, and takes the others from an earlier run. Writes ``studies/bench/``: JSON for each part, and the table,
figures.md. Exit code 1 if a figure misses its bound by more than a tenth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from steps import printed_json, run
from write_benchmarks import DOCUMENT, replace_section

from mobilesr_plugin.atomic_file import write_atomically

RESULT = Path("studies/bench")
HR, LR = (f"datasets/study/train_{kind}_sub.lmdb" for kind in ("HR", "LR_bicubic_X3"))
TRAINED = {name: Path(f"experiments/bench_{name}") for name in ("stock", "fast", "qat")}
PUBLISHED = "abpn_x3_published_ptq_360x640.tflite"
SETS = ("Set5", "DIV2K_valid_crop256")
PROTOCOL = "rgb_crop1"
TOLERANCE = 0.1


@dataclass(frozen=True)
class Figure:
    """One promise: ``bound`` is what ``measured`` must reach (``least``) or must not exceed."""

    what: str
    measured: float
    bound: float
    least: bool
    decimals: int = 2

    @property
    def missed(self) -> bool:
        """Whether it is further off than the tolerance."""
        if self.least:
            return self.measured < self.bound * (1 - TOLERANCE)
        return self.measured > self.bound * (1 + TOLERANCE)

    @property
    def reached(self) -> bool:
        """Whether the bound itself is kept."""
        return self.measured >= self.bound if self.least else self.measured <= self.bound

    def row(self) -> str:
        """Returns a line of the table."""
        measured, bound = (f"{value:.{self.decimals}f}" for value in (self.measured, self.bound))
        judged = "reached" if self.reached else "MISSED" if self.missed else "missed, by less than a tenth"
        return f"| {self.what} | {measured} | {'>=' if self.least else '<='} {bound} | {judged} |"


def training(data: Path, reference: Path) -> list[Figure]:
    """Stock BasicSR and the plugin through train.py."""
    command = f"mobilesr bench training --gt {HR} --lq {LR} --setting stock bfloat16 qat-bfloat16 "
    command += "--runs 9 --json"
    stock, fast, qat = printed_json(command)
    return [
        Figure("iterations/s through train.py, ABPN x3: plugin / stock BasicSR", fast["ratio"], 5, True),
        Figure("QAT step / float step", fast["ratio"] / qat["ratio"], 1.35, False),
        Figure("peak memory: plugin / stock BasicSR", fast["peak_bytes"] / stock["peak_bytes"], 1.2, False),
    ]


def dataset(data: Path, reference: Path) -> list[Figure]:
    """The training data alone."""
    *_, cached = printed_json(f"mobilesr bench dataset --gt {HR} --lq {LR} --json")
    return [Figure("samples/s: CachedPairedDataset / PairedImageDataset", cached["ratio"], 15, True, 1)]


def budget(data: Path, reference: Path) -> list[Figure]:
    """5000 iterations from scratch, stock and with everything that makes them faster."""
    for number, name in enumerate(("stock", "fast"), start=1):
        command = f"python basicsr/train.py -opt tools/studies/bench_{name}.yml"
        run(f"{number}/2", f"5000 iterations, {name}", command, RESULT / f"{name}.log", threads=1)
    models = " ".join(str(TRAINED[name] / "models/net_g_latest.pth") for name in ("stock", "fast"))
    folders = " ".join(str(data / name / "HR") for name in SETS)
    compared = printed_json(
        f"mobilesr bench accuracy --model {models} --data {folders} --protocol {PROTOCOL} --json"
    )
    stock, fast = (model["results"][PROTOCOL]["sets"] for model in compared["models"][-2:])
    return [
        Figure(
            f"PSNR on {name} after 5000 iterations, dB: stock {stock[name]['psnr']:.3f}, "
            f"fast {fast[name]['psnr']:.3f}; what is lost",
            stock[name]["psnr"] - fast[name]["psnr"],
            0.03,
            False,
            3,
        )
        for name in SETS
    ]


def export(data: Path, reference: Path) -> list[Figure]:
    """From a checkpoint of QATSRModel to verified files, Python's start included."""
    command = "python basicsr/train.py -opt tools/studies/bench_qat.yml"
    run("1/2", "a checkpoint for int8", command, RESULT / "qat.log")
    command = f"mobilesr-export --ckpt {TRAINED['qat']}/models/net_g_latest.pth --out {TRAINED['qat']}/export"
    seconds = [run("2/2", "export", command, RESULT / "export.log") for _ in range(3)]
    return [
        Figure("export of ABPN, checkpoint to verified files, s", statistics.median(seconds), 15, False, 1)
    ]


def latency(data: Path, reference: Path) -> list[Figure]:
    """The int8 file at 360x640 on XNNPACK, two threads."""
    ours = f"{TRAINED['qat']}/export/abpn_x3_int8_360x640.tflite"
    published = reference / PUBLISHED
    _, compared = printed_json(f"mobilesr bench latency {published} {ours} --runs 61 --json")
    (alone,) = printed_json(f"mobilesr bench latency {ours} --per-op --runs 61 --json")
    what = "ABPN x3, 360x640, int8 file / "
    return [
        Figure(f"{what}published PTQ file", compared["ratio"], 0.62, False),
        Figure(f"{what}its convolutions alone", alone["per_operator"]["ratio"], 1.2, False),
    ]


PARTS: dict[str, Callable[[Path, Path], list[Figure]]] = {
    part.__name__: part for part in (training, dataset, budget, export, latency)
}


def main() -> None:
    """Measures, prints the table, and judges it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of train_photos_480 and the test sets"
    )
    parser.add_argument("--reference", type=Path, required=True, help="folder of the published file")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    RESULT.mkdir(parents=True, exist_ok=True)
    photos = (
        f"mobilesr data prepare --hr {arguments.data}/train_photos_480 --scale 3 --out datasets/study "
        "--name train --crop-size 480 --step 480"
    )
    run("data", "training photographs", photos, RESULT / "data.log")
    for name in arguments.parts:
        figures = PARTS[name](arguments.data, arguments.reference)
        (RESULT / f"{name}.json").write_text(json.dumps([asdict(figure) for figure in figures], indent=2))
    table, missed = judge()
    print(f"\n{table}")
    if arguments.write:
        text = replace_section(DOCUMENT.read_text(), "figures", f"{table}\n")
        write_atomically(DOCUMENT, lambda file: file.write(text.encode()))
    sys.exit("\n".join(f"missed by more than a tenth: {figure.what}" for figure in missed) or None)


def judge() -> tuple[str, list[Figure]]:
    """Returns the table of all parts measured so far, which it writes, and the figures that are missed."""
    files = [RESULT / f"{name}.json" for name in PARTS]
    figures = [Figure(**each) for path in files if path.exists() for each in json.loads(path.read_text())]
    lines = ["| figure | measured | bound | |", "|---|---:|---:|---|", *(figure.row() for figure in figures)]
    table = "\n".join(lines)
    (RESULT / "figures.md").write_text(f"{table}\n")
    return table, [figure for figure in figures if figure.missed]


if __name__ == "__main__":
    main()
