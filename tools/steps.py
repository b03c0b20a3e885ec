"""Runs the steps of a demo or a study: commands as a user types them, each with a log."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


def run(progress: str, what: str, command: str, log: Path, *, threads: int | None = None) -> float:
    """Runs one command of the environment's programs and returns its seconds; leaves if it fails.

    Args:
        progress: Such as ``2/5``.
        what: What the step does.
        command: Program and arguments; the program is one of the running interpreter's environment.
        log: File for its output.
        threads: Threads of its arithmetic; with 1, the same seed gives the same weights.
    """
    print(f"[{progress}] {what}\n      $ {command}", flush=True)
    program, *arguments = shlex.split(command)
    started = time.perf_counter()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        done = subprocess.run(
            [str(BIN / program), *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {}),
            check=False,
        )
    if done.returncode:
        print(log.read_text()[-3000:], file=sys.stderr)
        sys.exit(f"step {progress} failed with exit code {done.returncode}; its log is {log}")
    seconds = time.perf_counter() - started
    print(f"      {seconds:.0f} s", flush=True)
    return seconds


def printed_json(command: str) -> Any:
    """Returns what a command prints with ``--json``; leaves if it fails."""
    print(f"      $ {command}", flush=True)
    program, *arguments = shlex.split(command)
    done = subprocess.run([str(BIN / program), *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{program} failed with exit code {done.returncode}")
    return json.loads(done.stdout)
