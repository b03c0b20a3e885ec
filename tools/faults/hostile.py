"""Files whose reading would run code or reach outside their folder: none may."""

from __future__ import annotations

import io
import pickle
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from faults import server
from faults.outcome import Row, kind_of_fault
from faults.server import Task

_EXPORT = "experiments/trained/export"
_READ_A_NETWORK = (
    "upscale photos/png.png --out new --model {}",
    "bench accuracy --data hr --model {}",
    "bench latency --size 24x32 --runs 3 --threads 1 {}",
)


class _Touch:
    """Its unpickling makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def run(source: Path, folder: Path) -> Row:
    """Gives each hostile file to each command that reads its kind; call ``server.preload`` first."""
    row = Row("hostile files")
    started = time.monotonic()
    for task, outcome in server.run_all(_tasks(source, folder), 2):
        row.rounds += 1
        name, marker, must_fail = task.tag
        fault = kind_of_fault(outcome, only_ours=task.words[0] not in ("train.py", "test.py"))
        if marker.exists() or (must_fail and outcome.code == 0):
            fault = "losses"
        if fault:
            setattr(row, fault, getattr(row, fault) + 1)
            ran = ", and its code ran" if marker.exists() else ""
            row.notes.append(
                f"{name}, {' '.join(task.words)}: {fault} ({outcome.code}){ran}; see {task.folder}"
            )
        else:
            shutil.rmtree(task.folder)
    row.seconds = time.monotonic() - started
    return row


def _tasks(source: Path, folder: Path) -> Iterator[Task]:
    number = 0
    for name, place, content, commands, must_fail in _cases():
        for command in commands:
            work = folder / str(number)
            number += 1
            shutil.copytree(source, work)
            marker = work / "marker"
            path = work / place
            path.write_bytes(content(path, marker))
            yield Task(tuple(command.format(place).split()), work, tag=(name, marker, must_fail))


def _cases() -> Iterator[tuple[str, str, Any, tuple[str, ...], bool]]:
    checkpoint = (*_READ_A_NETWORK, "export --ckpt {} --calib lr --out new", "train.py -opt train.yml")
    for name, content in (("pickle", _pickle), ("pickle in a .pth", _pickle_in_zip), ("array", _numpy)):
        yield name, "float.pth", content, checkpoint, True
        yield name, "srvgg.pth", content, ("import srvgg {} --out new.pth",), True
        state = "experiments/trained/training_states/4.state"
        yield name, state, content, ("train.py -opt trained.yml --auto_resume",), True
    yield "python in YAML", "train.yml", _yaml, ("train.py -opt {}", "test.py -opt {}"), True
    yield (
        "python in YAML",
        "train.yml",
        _yaml,
        ("export --ckpt float.pth --calib lr --out new --opt {}",),
        True,
    )
    yield "python in --force_yml", "train.yml", _same, (_forced("train:total_iter={}"), _forced("{}=1")), True
    yield "data of ONNX outside", f"{_EXPORT}/abpn_x2.onnx", _onnx, _READ_A_NETWORK, True
    yield "pickle as a network", f"{_EXPORT}/abpn_x2_int8.tflite", _pickle, _READ_A_NETWORK, True


def _forced(override: str) -> str:
    code = "__import__('pathlib').Path('marker').touch()"
    return "train.py -opt train.yml --force_yml " + override.replace("{}", code)


def _same(path: Path, marker: Path) -> bytes:
    return path.read_bytes()


def _pickle(path: Path, marker: Path) -> bytes:
    return pickle.dumps({"params": _Touch(marker)})


def _pickle_in_zip(path: Path, marker: Path) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(written, "w") as after:
        for name in before.namelist():
            hostile = name.endswith("data.pkl")
            after.writestr(name, _pickle(path, marker) if hostile else before.read(name))
    return written.getvalue()


def _numpy(path: Path, marker: Path) -> bytes:
    written = io.BytesIO()
    np.save(written, np.array([_Touch(marker)], dtype=object), allow_pickle=True)
    return written.getvalue()


def _yaml(path: Path, marker: Path) -> bytes:
    return path.read_bytes() + f"\nimage: !!python/object/apply:os.mknod ['{marker}']\n".encode()


def _onnx(path: Path, marker: Path) -> bytes:
    """An ONNX file whose weights lie in a file outside its folder."""
    import onnx

    model = onnx.load(str(path))
    weight = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    outside = path.parents[3] / "outside.bin"
    outside.write_bytes(weight.raw_data)
    onnx.external_data_helper.set_external_data(weight, location=f"../../../{outside.name}")
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    return bytes(model.SerializeToString())
