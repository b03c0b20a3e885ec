"""Runs commands in forked children of this process, which has imported everything that they need once.

A child is a real process: its crash is a signal, its hang meets a time limit, and nothing of it stays. This
process itself must start no thread before it forks.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.outcome import Outcome
from faults.world import ROOT

LIMIT = 60.0  # seconds
_MEMORY = 24 * 2**30  # address space, so that a file that claims to be huge cannot take the machine
_POLL = 0.005
# Modules that commands import late.
_MODULES = (
    *("basicsr", "torchvision", "cv2", "PIL.Image", "lmdb", "onnx", "onnxruntime", "av"),
    *("ai_edge_litert.interpreter", "ai_edge_litert.schema_py_generated", "yaml", "tifffile", "jinja2"),
    *("basicsr.train", "basicsr.test", "mobilesr_plugin.cli.main", "mobilesr_plugin.bench.latency"),
    *("mobilesr_plugin.bench.accuracy", "mobilesr_plugin.upscaling.run", "mobilesr_plugin.upscaling.video"),
    *("mobilesr_plugin.pipeline", "mobilesr_plugin.html_report.page", "mobilesr_plugin.data.prepare"),
    *("mobilesr_plugin.importers.importing", "mobilesr_plugin.importers.srvgg"),
)


@dataclass(frozen=True)
class Task:
    """A command to run: ``words`` are ``mobilesr``'s arguments, or ``train.py``/``test.py`` and theirs."""

    words: tuple[str, ...]
    folder: Path
    limit: float = LIMIT
    tag: Any = None


def preload() -> None:
    """Imports what the commands need; call it once, before ``run_all``."""
    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    sys.path.insert(0, str(ROOT))
    for name in _MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    importlib.import_module("mobilesr_plugin").register()


def run_all(tasks: Iterable[Task], jobs: int) -> Iterator[tuple[Task, Outcome]]:
    """Runs tasks, ``jobs`` at a time, and yields each with its outcome as it ends."""
    waiting = iter(tasks)
    running: dict[int, tuple[Task, float]] = {}
    more = True
    while more or running:
        while more and len(running) < jobs:
            task = next(waiting, None)
            if task is None:
                more = False
            else:
                running[_fork(task)] = (task, time.monotonic())
        for pid, (task, started) in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            seconds = time.monotonic() - started
            if not ended and seconds < task.limit:
                continue
            del running[pid]
            _end_group(pid)
            if not ended:
                os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status) if ended else None
            err = (task.folder / "stderr").read_text(errors="replace")
            yield task, Outcome(code, err, seconds)
        time.sleep(_POLL)


def run(task: Task) -> Outcome:
    """Runs one task to its end."""
    ((_, outcome),) = run_all([task], 1)
    return outcome


def killed_after(task: Task, seconds: float) -> bool:
    """Runs one task, and kills it and its children after so many seconds; False if it was quicker."""
    pid = _fork(task)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if os.waitpid(pid, os.WNOHANG)[0]:
            _end_group(pid)
            return False
        time.sleep(_POLL)
    _end_group(pid)
    os.waitpid(pid, 0)
    return True


def _end_group(pid: int) -> None:
    """Ends whatever a child has started, and the child."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _fork(task: Task) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
        return pid
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(task.folder)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        for name, number in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        code = _ended(lambda: _call(task.words))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _call(words: tuple[str, ...]) -> None:
    if words[0] in ("train.py", "test.py"):
        path = str(ROOT / "basicsr" / words[0])
        sys.argv = [path, *words[1:]]
        runpy.run_path(path, run_name="__main__")
        return
    from mobilesr_plugin.cli.main import main

    sys.argv = ["mobilesr", *words]
    main(list(words))


def _ended(action: Callable[[], None]) -> int:
    """Ends as the interpreter does: with the code of SystemExit, or through ``sys.excepthook``."""
    try:
        action()
    except SystemExit as left:
        return _code(left)
    except BaseException:
        try:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        except SystemExit as left:
            return _code(left)
        except BaseException:
            traceback.print_exc()
        return 1
    return 0


def _code(left: SystemExit) -> int:
    if left.code is None:
        return 0
    if isinstance(left.code, int):
        return left.code & 0xFF
    print(left.code, file=sys.stderr)
    return 1
