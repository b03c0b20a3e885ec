"""Whole processes, started to be killed: training, commands, and their ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from faults.outcome import Outcome
from faults.world import environment

LIMIT = 300.0  # seconds


class Running:
    """A process with a group of its own, whose standard error goes to a file.

    Args:
        words: The command line.
        folder: Its working directory.
        log: Where standard error goes, relative to it; standard output goes beside it.
    """

    def __init__(self, words: list[str], folder: Path, log: str, **variables: str) -> None:
        self.log = folder / log
        self.started = time.monotonic()
        with self.log.open("wb") as err, self.log.with_suffix(".out").open("wb") as out:
            self.process = subprocess.Popen(
                words,
                cwd=folder,
                env=environment(**variables),
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL for the process and all that it started, as the system does it: no goodbye."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self, limit: float = LIMIT) -> Outcome:
        """Waits for the end; kills what does not end by itself."""
        try:
            code: int | None = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()
        return Outcome(code, self.log.read_text(errors="replace"), time.monotonic() - self.started)


def wait_until(condition: Callable[[], bool], running: Running, limit: float = LIMIT) -> bool:
    """Waits until a condition holds; False if the process ends, or the time, before it does."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        if condition():
            return True
        if not running.alive():
            return condition()
        time.sleep(0.01)
    return False


def run(words: list[str], folder: Path, log: str = "log", limit: float = LIMIT, **variables: str) -> Outcome:
    """Runs a process to its end."""
    return Running(words, folder, log, **variables).end(limit)
