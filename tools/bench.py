"""The figures that this project promises, each measured as a ratio within one run.

Run by ``make bench DATA=... REFERENCE=...``: about three quarters of an hour. ``--parts`` measures some of
them. Bounds are those of the class of processors at hand (AMX, VNNI, AVX2, ...; see
``mobilesr_plugin.processor``), printed beside each figure. ``--write`` keeps the figures in docs/figures.json
and puts the table into docs/benchmarks.md. Exit code 1 if a figure misses its bound by more than a tenth.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import figures
from figures import Figure
from steps import printed_json, run
from write_benchmarks import DOCUMENT, replace_section

from mobilesr_plugin.atomic_file import write_atomically
from mobilesr_plugin.processor import processor

RESULT = Path("studies/bench")
HR, LR = (f"datasets/study/train_{kind}_sub.lmdb" for kind in ("HR", "LR_bicubic_X3"))
TRAINED = {name: Path(f"experiments/bench_{name}") for name in ("stock", "fast", "qat")}
PUBLISHED = "abpn_x3_published_ptq_360x640.tflite"
SETS = ("Set5", "DIV2K_valid_crop256")
PROTOCOL = "rgb_crop1"


def training(data: Path, reference: Path) -> list[Figure]:
    """Stock BasicSR and the plugin through train.py."""
    command = f"mobilesr bench training --gt {HR} --lq {LR} --setting stock fast qat-fast --runs 9 --json"
    stock, fast, qat = printed_json(command)
    least = 5 if processor().bfloat16 else 3
    speeds = f"{fast['iterations_per_second']:.2f} / {stock['iterations_per_second']:.2f}"
    return [
        Figure(
            "iterations/s through train.py, ABPN x3: plugin / stock BasicSR",
            fast["ratio"],
            least,
            True,
            note=speeds,
        ),
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
            f"PSNR on {name} after 5000 iterations, dB: stock - fast",
            stock[name]["psnr"] - fast[name]["psnr"],
            0.03,
            False,
            3,
            f"{stock[name]['psnr']:.3f} - {fast[name]['psnr']:.3f}",
        )
        for name in SETS
    ]


def export(data: Path, reference: Path) -> list[Figure]:
    """From a checkpoint of QATSRModel to verified files, Python's start included."""
    command = "python basicsr/train.py -opt tools/studies/bench_qat.yml"
    run("1/2", "a checkpoint for int8", command, RESULT / "qat.log")
    command = f"mobilesr-export --ckpt {TRAINED['qat']}/models/net_g_latest.pth --out {TRAINED['qat']}/export"
    seconds = [run("2/2", "export", command, RESULT / "export.log") for _ in range(3)]
    bound = 15 if processor().vnni else 25
    return [
        Figure("export of ABPN, checkpoint to verified files, s", statistics.median(seconds), bound, False, 1)
    ]


def latency(data: Path, reference: Path) -> list[Figure]:
    """The int8 file at 360x640 on XNNPACK, two threads."""
    ours = f"{TRAINED['qat']}/export/abpn_x3_int8_360x640.tflite"
    published = reference / PUBLISHED
    first, second = printed_json(f"mobilesr bench latency {published} {ours} --runs 61 --json")
    (alone,) = printed_json(f"mobilesr bench latency {ours} --per-op --runs 61 --json")
    what = "ABPN x3, 360x640, int8 file / "
    times = f"{second['median']:.1f} / {first['median']:.1f} ms"
    return [
        # Without VNNI convolutions take more of the time, and what we save around them counts less.
        Figure(
            f"{what}published PTQ file",
            second["ratio"],
            0.62 if processor().vnni else 0.8,
            False,
            note=times,
        ),
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
    parser.add_argument("--write", action="store_true", help="keep the figures, and put them into the docs")
    arguments = parser.parse_args()
    RESULT.mkdir(parents=True, exist_ok=True)
    photos = (
        f"mobilesr data prepare --hr {arguments.data}/train_photos_480 --scale 3 --out datasets/study "
        "--name train --crop-size 480 --step 480"
    )
    run("data", "training photographs", photos, RESULT / "data.log")
    store = figures.STORE if arguments.write else RESULT / "figures.json"
    missed = []
    for name in arguments.parts:
        measured = PARTS[name](arguments.data, arguments.reference)
        content = figures.add(measured, store)
        missed += [figure.what for figure in measured if figure.missed]
    table = figures.table(content)
    print(f"\n{table}")
    if arguments.write:
        text = replace_section(DOCUMENT.read_text(), "figures", f"{table}\n")
        write_atomically(DOCUMENT, lambda file: file.write(text.encode()))
    sys.exit("\n".join(f"missed by more than a tenth: {what}" for what in missed) or None)


if __name__ == "__main__":
    main()
