"""Faults on purpose, counted: ``make test-faults``.

Kills in training and in commands, lost processes, full disks, bad and hostile files. Prints a table; exit
code 1 if anything was lost, or a failure was not told in one line. Folders of what failed stay.

    python tools/test_faults.py --rounds 5 --cases 50 --seed 1 --only 'bad inputs' --keep /tmp/faults
    python tools/test_faults.py --seed 0 --only 'bad inputs' --case 123
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from faults import bad_inputs, full_disk, hostile, kills_in_commands, kills_in_training, ranks, server, world
from faults.outcome import Row, kind_of_fault, table

JOBS = 2
DISK_ROUNDS = 8  # for each command, of the 50 of a whole run
BEGIN, END = "<!-- faults -->", "<!-- end of faults -->"

Scenario = Callable[[], list[Row]]


def main() -> None:
    """Runs the scenarios, two at a time, and leaves with exit code 1 if one found a fault."""
    arguments = _arguments()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    print(f"making what the commands read, in {folder}", flush=True)
    source = folder / "world"
    if not source.exists():
        world.build(source)
    server.preload()
    named = _scenarios(source, folder, arguments)
    chosen = {name: run for name, run in named.items() if arguments.only in name}
    rows = _run_all(chosen, folder)
    text = table(rows)
    seconds = time.monotonic() - started
    print(f"\n{text}\n\nseed {arguments.seed}, {seconds:.0f} s in all")
    for row in rows:
        for note in row.notes:
            print(f"{row.scenario}: {note}")
    if arguments.write:
        _write(arguments.write, text)
    faulty = sum(row.faults for row in rows)
    if faulty:
        sys.exit(f"{faulty} faults; their folders are kept in {folder}")
    if not arguments.keep:
        shutil.rmtree(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=50, help="kills for each kind of training and command")
    parser.add_argument("--cases", type=int, default=500, help="bad inputs")
    parser.add_argument("--case", help="only this bad input")
    parser.add_argument("--only", default="", help="only scenarios whose name contains this")
    parser.add_argument("--keep", type=Path, help="folder to work in, which stays")
    parser.add_argument("--write", type=Path, help="a document whose table of faults is replaced")
    return parser.parse_args()


def _scenarios(source: Path, folder: Path, arguments: argparse.Namespace) -> dict[str, Scenario]:
    rounds, seed = arguments.rounds, arguments.seed
    few = max(1, rounds * DISK_ROUNDS // 50)
    found: dict[str, Scenario] = {
        "ranks": lambda: [ranks.run(source, folder / "ranks", few, seed)],
    }
    for training in kills_in_training.trainings():
        place = folder / f"kills in training, {training.name}"
        found[place.name] = lambda t=training, p=place: [kills_in_training.run(source, p, t, rounds, seed)]
    for name in kills_in_commands.COMMANDS:
        place = folder / f"kills in {name}"
        found[place.name] = lambda n=name, p=place: [kills_in_commands.run(source, p, n, rounds, seed)]
    for name in full_disk.COMMANDS:
        place = folder / f"full disk, {name}"
        found[place.name] = lambda n=name, p=place: [full_disk.run(source, p, n, few, seed)]
    found["bad inputs"] = lambda: _bad_inputs(source, folder / "bad inputs", arguments)
    found["hostile files"] = lambda: [hostile.run(source, folder / "hostile files")]
    return found


def _bad_inputs(source: Path, folder: Path, arguments: argparse.Namespace) -> list[Row]:
    """One row for each kind of file."""
    rows = {kind.name: Row(f"bad input, {kind.name}") for kind in bad_inputs.KINDS}
    tasks = bad_inputs.tasks(source, folder, arguments.cases, arguments.seed, arguments.case)
    for task, outcome in server.run_all(tasks, 1):
        kind, file, mutation = task.tag
        row = rows[kind]
        row.rounds, row.seconds = row.rounds + 1, row.seconds + outcome.seconds
        fault = kind_of_fault(outcome, only_ours=task.words[0] not in ("train.py", "test.py"))
        if fault is None:
            shutil.rmtree(task.folder)
            continue
        setattr(row, fault, getattr(row, fault) + 1)
        number = task.folder.name
        row.notes.append(
            f"case {number} ({mutation} of {file}), {' '.join(task.words)}: {fault} ({outcome.code}); "
            f"see {task.folder}; again: --seed {arguments.seed} --only 'bad inputs' --case {number}"
        )
    return [row for row in rows.values() if row.rounds]


def _run_all(scenarios: dict[str, Scenario], folder: Path) -> list[Row]:
    """Runs each in a forked process of its own, so that this one stays without threads; keeps their order."""
    waiting, running = list(scenarios.items()), {}
    while waiting or running:
        while waiting and len(running) < JOBS:
            name, run = waiting.pop(0)
            sys.stdout.flush()
            pid = os.fork()
            if not pid:
                _report(run, folder / f"{name}.json")
            running[pid] = name
        pid, _ = os.wait()
        name = running.pop(pid)
        done = _read(folder / f"{name}.json", name)
        print("\n".join(table(done).splitlines()[2:]), flush=True)
    return [row for name in scenarios for row in _read(folder / f"{name}.json", name)]


def _report(run: Scenario, path: Path) -> None:
    code = 1
    try:
        path.write_text(json.dumps([dataclasses.asdict(row) for row in run()]))
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            sys.stderr.flush()
        os._exit(code)


def _read(path: Path, name: str) -> list[Row]:
    if not path.exists():
        return [Row(name, losses=1, notes=["the scenario itself failed; see above"])]
    return [Row(**row) for row in json.loads(path.read_text())]


def _write(document: Path, text: str) -> None:
    content = document.read_text()
    before, rest = content.split(BEGIN)
    document.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
