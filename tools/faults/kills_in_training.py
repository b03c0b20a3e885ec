"""SIGKILL at random moments of training; then every file loads, and ``--auto_resume`` goes on."""

from __future__ import annotations

import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from faults import world
from faults.outcome import Row, kind_of_fault
from faults.processes import Running, wait_until
from faults.ranks import start_ranks

SAVE_EVERY = 5
STEP = 10  # iterations after the resumed one that end a resumed run
ENOUGH = 10**6


@dataclass(frozen=True)
class Training:
    """A kind of training: its options, and how many processes it runs in."""

    name: str
    options: dict[str, Any]
    ranks: int = 1


def trainings() -> list[Training]:
    """Float, for int8 (killed while it calibrates, too), and two processes."""
    return [
        Training("float", world.options("killed")),
        Training(
            "QAT", world.qat_options("killed", quantization={**world.QUANTIZATION, "calibration_images": 24})
        ),
        Training("two processes", world.options("killed"), ranks=2),
    ]


def run(source: Path, folder: Path, training: Training, rounds: int, seed: int) -> Row:
    """Kills a training ``rounds`` times; each run goes on from the states that the ones before left.

    A round waits for the first new state, then for a random time, so that kills fall on every part of
    an iteration, a save among them. At the end the training is let go on for some iterations undisturbed.
    """
    row = Row(f"SIGKILL in training, {training.name}")
    started = time.monotonic()
    generator = random.Random(f"{seed} {training.name}")
    shutil.copytree(source, folder)
    opt = training.options
    opt["train"]["total_iter"] = ENOUGH
    opt["logger"] |= {"print_freq": 100, "save_checkpoint_freq": SAVE_EVERY, "use_tb_logger": False}
    opt["val"]["val_freq"] = 50
    world.write_options(folder / "killed.yml", opt)
    for number in range(rounds):
        row.rounds += 1
        before = newest(folder)
        running = _start(folder, training, number)
        resumed = wait_until(lambda before=before: newest(folder) > before, running[0])
        time.sleep(generator.uniform(0, 1.0))
        for each in generator.sample(running, len(running)):
            each.kill()
        if not resumed:
            row.losses += 1
            row.notes.append(
                f"round {number} in {folder}: no new state after iteration {before}; see {number}.err"
            )
            return row
        _check_files(folder, row, number)
    opt["train"]["total_iter"] = newest(folder) + STEP
    world.write_options(folder / "killed.yml", opt)
    outcomes = [each.end() for each in _start(folder, training, rounds)]
    for outcome in outcomes:
        fault = kind_of_fault(outcome, only_ours=False) or ("losses" if outcome.code else None)
        if fault:
            setattr(row, fault, getattr(row, fault) + 1)
            row.notes.append(f"the last run in {folder} ended with {outcome.code}")
    row.seconds = time.monotonic() - started
    return row


def newest(folder: Path) -> int:
    """The iteration of the newest training state."""
    states = (folder / "experiments" / "killed" / "training_states").glob("*.state")
    return max((int(path.stem) for path in states), default=0)


def _start(folder: Path, training: Training, number: int) -> list[Running]:
    words = [*world.script("train"), "-opt", "killed.yml", "--auto_resume"]
    if training.ranks == 1:
        return [Running(words, folder, f"{number}.err")]
    return start_ranks(words, folder, str(number), training.ranks)


def _check_files(folder: Path, row: Row, number: int) -> None:
    """Loads what has its final name; old ones are removed, so that a round costs the same as the first."""
    experiment = folder / "experiments" / "killed"
    for path in [*experiment.glob("models/*.pth"), *experiment.glob("training_states/*.state")]:
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            row.losses += 1
            row.notes.append(f"round {number}: {path}: {error}")
    last = newest(folder)
    if not (experiment / "models" / f"net_g_{last}.pth").is_file():
        row.losses += 1
        row.notes.append(f"round {number}: {experiment}: {last}.state has no net_g_{last}.pth")
    for path in [*experiment.glob("models/*.pth"), *experiment.glob("training_states/*.state")]:
        if path.stem.removeprefix("net_g_") not in (str(last), "latest"):
            path.unlink()
