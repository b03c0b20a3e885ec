"""SIGKILL at random moments of commands: no file is half-written, and a rerun equals an undisturbed run."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

from faults import server, whole
from faults.outcome import Row, kind_of_fault
from faults.server import Task

_MODEL = "--model experiments/trained/export/abpn_x2_int8.tflite --threads 1"
_PREPARE = "data prepare --hr hr --out made --scale 2 --workers 2"
_RERUN_AFTER = 5  # kills in one folder, one upon the other
LIMIT = 300.0
COMMANDS = {
    "data prepare": f"{_PREPARE} --crop-size 32 --step 4 --min-side 32",
    "data prepare --as valid": f"{_PREPARE} --as valid",
    "export": "export --ckpt experiments/trained/models/net_g_latest.pth --size 24x32 --out made",
    "upscale of a folder": f"upscale photos --out made {_MODEL}",
    "upscale of a video": f"upscale clip.mp4 --out made {_MODEL}",
}


def run(source: Path, folder: Path, name: str, rounds: int, seed: int) -> Row:
    """Kills one of COMMANDS ``rounds`` times; ``server.preload`` must have been called in this process."""
    row = Row(f"SIGKILL in {name}")
    started = time.monotonic()
    words = tuple(COMMANDS[name].split())
    generator = random.Random(f"{seed} {name}")
    folder.mkdir()
    reference = folder / "undisturbed"
    shutil.copytree(source, reference)
    begun = time.monotonic()
    outcome = server.run(Task(words, reference, LIMIT))
    takes = time.monotonic() - begun
    if outcome.code:
        row.losses += 1
        row.notes.append(f"{name} failed undisturbed; see {reference}/stderr")
        return row
    expected = whole.content(reference / "made")
    for number in range(rounds):
        work = folder / str(number - number % _RERUN_AFTER)
        if not work.exists():
            shutil.copytree(source, work)
        row.rounds += 1
        killed = server.killed_after(Task(words, work, LIMIT), generator.uniform(0, takes))
        found = whole.problems(whole.visible(work / "made"))
        if number % _RERUN_AFTER == _RERUN_AFTER - 1 or number == rounds - 1:
            found += _rerun(words, work, expected, row)
        if not killed and not found:
            shutil.rmtree(work)  # it was quicker; the next round starts again
        elif found:
            row.losses += 1
            row.notes += [f"round {number} of {name}, in {work}: {problem}" for problem in found]
        elif number % _RERUN_AFTER == _RERUN_AFTER - 1:
            shutil.rmtree(work)
    row.seconds = time.monotonic() - started
    return row


def _rerun(words: tuple[str, ...], work: Path, expected: dict[str, bytes], row: Row) -> list[str]:
    outcome = server.run(Task(words, work, LIMIT))
    fault = kind_of_fault(outcome) or ("losses" if outcome.code else None)
    if fault:
        setattr(row, fault, getattr(row, fault) + 1)
        return [f"a rerun ended with {outcome.code}"]
    got = whole.content(work / "made")
    different = sorted(key for key in got.keys() | expected.keys() if got.get(key) != expected.get(key))
    return [f"after a rerun {key} differs from an undisturbed run" for key in different]
