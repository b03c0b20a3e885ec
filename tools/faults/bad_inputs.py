"""Generated bad inputs over all commands."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faults import mutations
from faults.mutations import BYTES, Mutation
from faults.server import Task

EXPORT = "experiments/trained/export"
MODELS = "experiments/trained/models"
LR_SET = "data/data_train_LR_bicubic_X2_sub.lmdb"
_ACCURACY = "bench accuracy --data hr --model"
_LATENCY = "bench latency --size 24x32 --runs 3 --threads 1"
_UPSCALE = "upscale photos/png.png --threads 1 --out new --model"
_PREPARE = "data prepare --hr hr --out data --scale 2 --crop-size 32 --step 16 --min-side 32 --workers 1"
_RUNS_A_NETWORK = (f"{_ACCURACY} {{}}", f"{_LATENCY} {{}}", f"{_UPSCALE} {{}}")
_REPORT = "report experiments/trained --no-latency --data hr --out new.html --threads 1"


@dataclass(frozen=True)
class Kind:
    """Files of one kind, how they are damaged, and the commands that read them (``{}`` is the file)."""

    name: str
    files: tuple[str, ...]
    mutations: tuple[Mutation, ...]
    commands: tuple[str, ...]


KINDS = (
    Kind(
        ".tflite",
        (
            f"{EXPORT}/abpn_x2_int8.tflite",
            f"{EXPORT}/abpn_x2_fp32.tflite",
            f"{EXPORT}/abpn_x2_int8_24x32.tflite",
        ),
        (*BYTES, *(mutations.tflite_fields,) * 5),
        (*_RUNS_A_NETWORK, f"{_LATENCY} {{}} --per-op"),
    ),
    Kind(
        ".tflite in a test and a report",
        (f"{EXPORT}/abpn_x2_int8.tflite",),
        (*BYTES, mutations.tflite_fields, mutations.tflite_fields),
        ("test.py -opt tflite_test.yml", _REPORT),
    ),
    Kind(".onnx", (f"{EXPORT}/abpn_x2.onnx", f"{EXPORT}/abpn_x2_qdq.onnx"), BYTES, _RUNS_A_NETWORK),
    Kind(
        ".pth",
        ("float.pth", f"{MODELS}/net_g_latest.pth"),
        (*BYTES, mutations.zip_parts, mutations.zip_parts),
        (*_RUNS_A_NETWORK, "export --ckpt {} --size 24x32 --calib lr --out new"),
    ),
    Kind(
        ".pth in an import and a training",
        ("srvgg.pth", "float.pth"),
        (*BYTES, mutations.zip_parts),
        ("import srvgg {} --out new.pth", "train.py -opt train.yml", "train.py -opt qat.yml"),
    ),
    Kind(
        ".state",
        ("experiments/trained/training_states/4.state",),
        (*BYTES, mutations.zip_parts),
        ("train.py -opt trained.yml --auto_resume --force_yml train:total_iter=6",),
    ),
    Kind(
        "option file",
        ("train.yml", "qat.yml", "lmdb.yml"),
        (mutations.yaml_values,) * 4 + (mutations.lines, mutations.flips),
        ("train.py -opt {}",) * 3 + (f"{_ACCURACY} float.pth --opt {{}}",),
    ),
    Kind(
        "option file of a test",
        ("test.yml", "tflite_test.yml"),
        (mutations.yaml_values,) * 3 + (mutations.lines,),
        ("test.py -opt {}",),
    ),
    Kind("report.json", (f"{EXPORT}/report.json",), (mutations.json_values,) * 4 + BYTES, (_REPORT,)),
    Kind("tensorboard log", ("tb_logger/trained/events.out.tfevents.1.host",), BYTES, (_REPORT,)),
    Kind(
        "PNG",
        ("hr/0.png", "lr/0.png", "photos/png.png", "photos/deep.png"),
        (*BYTES, *(mutations.png_chunks,) * 3),
        (
            f"upscale photos --out new --model {EXPORT}/abpn_x2_int8.tflite --threads 1",
            f"{_ACCURACY} {EXPORT}/abpn_x2_int8.tflite",
            "data prepare --hr hr --out new --scale 2 --as valid --workers 1",
            "train.py -opt train.yml",
            "export --ckpt float.pth --size 24x32 --calib lr --out new",
        ),
    ),
    Kind(
        "JPEG and others",
        tuple(f"photos/{each}.{each}" for each in ("jpg", "jpg", "webp", "bmp", "tif")),
        BYTES,
        (
            f"upscale {{}} --out new --model {EXPORT}/abpn_x2_int8.tflite --threads 1",
            "data prepare --hr photos --out new --scale 2 --as valid --workers 1",
        ),
    ),
    Kind(
        "LMDB",
        (f"{LR_SET}/data.mdb", f"{LR_SET}/data.mdb", f"{LR_SET}/meta_info.txt", f"{LR_SET}/.prepare.json"),
        (*BYTES, mutations.lines),
        (
            "train.py -opt lmdb.yml",
            _PREPARE,
            f"export --ckpt float.pth --calib {LR_SET} --size 24x32 --out new",
        ),
    ),
    Kind("video", ("clip.mp4",), BYTES, (f"upscale {{}} --out new --model {EXPORT}/abpn_x2_int8.tflite",)),
    Kind("option files of the package", ("options/abpn_x3.yml",), BYTES, ("data options --out options",)),
)


def tasks(world: Path, folder: Path, rounds: int, seed: int, only: str | None = None) -> Iterator[Task]:
    """Yields ``rounds`` commands, each in a copy of the world with one damaged file.

    The kinds of files take turns. Case ``n`` of a seed is the same whatever ``rounds`` is.
    """
    for number in range(rounds):
        kind = KINDS[number % len(KINDS)]
        if only in (None, kind.name, str(number)):
            yield _task(world, folder / str(number), kind, random.Random(f"{seed} {number}"))


def _task(world: Path, folder: Path, kind: Kind, generator: random.Random) -> Task:
    shutil.copytree(world, folder, symlinks=True)  # half a megabyte
    name = generator.choice(kind.files)
    words = generator.choice(kind.commands).format(name).split()
    mutation = generator.choice(kind.mutations)
    path = folder / name
    path.write_bytes(mutation(path.read_bytes(), generator))
    return Task(tuple(words), folder, tag=(kind.name, name, mutation.__name__))
