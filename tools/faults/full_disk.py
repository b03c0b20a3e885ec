"""ENOSPC at a random write of each command, by a library in front of the C library's ``write``."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from faults import whole, world
from faults.outcome import Row, kind_of_fault
from faults.processes import run as run_process

_EXPORT = "experiments/trained/export"
_PREPARE = "data prepare --hr hr --out made --scale 2 --crop-size 32 --step 16 --min-side 32 --workers 1"
COMMANDS = {
    "training": "train.py -opt full.yml",
    "data prepare": _PREPARE,
    "data prepare --as valid": "data prepare --hr hr --out made --scale 2 --as valid --workers 1",
    "export": "export --ckpt experiments/trained/models/net_g_latest.pth --size 24x32 --out made",
    "upscale, a picture": f"upscale photos/png.png --out made/new.png --model {_EXPORT}/abpn_x2_int8.tflite",
    "upscale, a folder": f"upscale photos --out made --model {_EXPORT}/abpn_x2_int8.tflite",
    "upscale, a video": f"upscale clip.mp4 --out made --model {_EXPORT}/abpn_x2_int8.tflite",
    "import": "import srvgg srvgg.pth --out new.pth",
    "report": "report experiments/trained --no-latency --data hr --out new.html",
}


def library(folder: Path) -> Path | None:
    """Compiles the library; None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    built = folder / "no_space.so"
    source = Path(__file__).with_name("no_space.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", built, source, "-ldl"], check=True)
    return built


def run(source: Path, folder: Path, name: str, rounds: int, seed: int) -> Row:
    """Runs one of COMMANDS undisturbed, counting its writes, then on a disk that gets full."""
    row = Row(f"full disk, {name}")
    started = time.monotonic()
    folder.mkdir()
    # LD_PRELOAD separates its libraries by spaces, which the folders of scenarios have.
    shim = library(Path(tempfile.mkdtemp(prefix="no-space-")))
    if shim is None:
        row.notes.append(f"{name} was left out: there is no C compiler")
        return row
    words = COMMANDS[name].split()
    line = [*world.script("train"), *words[1:]] if words[0] == "train.py" else world.command(*words)
    generator = random.Random(f"{seed} {name}")
    writes = 0
    for number in range(rounds + 1):
        work, count = folder / f"{number}" / "work", folder / f"{number}.count"
        shutil.copytree(source, work)
        (work.parent / "scratch").mkdir()
        full = world.options("full")
        full["train"]["total_iter"] = 10
        world.write_options(work / "full.yml", full)
        variables = {
            "LD_PRELOAD": str(shim),
            "NO_SPACE_ROOT": f"{work.parent}/",
            "TMPDIR": str(work.parent / "scratch"),
        }
        if number:
            variables["NO_SPACE_AFTER"] = str(generator.randrange(writes))
        else:
            variables["NO_SPACE_COUNT"] = str(count)
        before = whole.visible(work)
        outcome = run_process(line, work, f"../../{number}.log", **variables)
        if not number:
            writes = count.stat().st_size if count.exists() else 0
            if outcome.code or not writes:
                row.losses += 1
                row.notes.append(f"{name} failed undisturbed ({outcome.code}) or wrote nothing; see {work}")
                break
            shutil.rmtree(work.parent)
            continue
        row.rounds += 1
        fault = kind_of_fault(outcome, only_ours=words[0] != "train.py")
        broken = whole.problems(whole.visible(work) - before)
        if broken and fault is None:
            fault = "losses"
        if fault:
            setattr(row, fault, getattr(row, fault) + 1)
            after = variables["NO_SPACE_AFTER"]
            row.notes += [
                f"{name}, full after {after} of {writes} writes: {fault} ({outcome.code}); see {work}"
            ]
            row.notes += broken
        else:
            shutil.rmtree(work.parent)
    shutil.rmtree(shim.parent)
    row.seconds = time.monotonic() - started
    return row
