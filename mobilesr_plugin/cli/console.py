"""What the command line says: progress, remarks, results. Progress only where standard error is a terminal.

``--quiet`` leaves results and errors; ``--json`` leaves one JSON document on standard output, and errors.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import typer

if TYPE_CHECKING:
    from rich.progress import ProgressColumn


@dataclass(frozen=True)
class _Output:
    silent: bool = False
    documents: TextIO | None = None  # where JSON goes, if not to sys.stdout


_current = _Output()


@contextmanager
def output(*, quiet: bool = False, as_json: bool = False) -> Iterator[None]:
    """Makes this module as silent as a command was told to be.

    With ``as_json``, whatever anybody else prints goes to standard error: BasicSR and converters do.
    """
    global _current
    before = _current
    _current = _Output(silent=quiet or as_json, documents=sys.stdout if as_json else None)
    try:
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            yield
    finally:
        _current = before


def print_json(content: Any) -> None:
    """Prints the document that ``--json`` promises."""
    typer.echo(json.dumps(content, indent=2), file=_current.documents)


def say(text: str) -> None:
    """Prints what was made, or a remark about it, to standard output."""
    if not _current.silent:
        typer.echo(text)


def warn(text: str) -> None:
    """Prints what the user should know, though nothing failed, to standard error."""
    if not _current.silent:
        typer.echo(text, err=True)


@contextmanager
def stages(number: int, first: str) -> Iterator[Callable[[str], None]]:
    """Shows which of ``number`` stages runs; yields a function that begins the next one."""
    with progress_bar(first, unit="") as update:
        begun = 0
        update(begun, number)

        def begin(what: str) -> None:
            nonlocal begun
            begun += 1
            update(begun, number, what)

        yield begin


@contextmanager
def progress_bar(what: str, *, unit: str = "/s") -> Iterator[Callable[..., None]]:
    """Shows a bar with rate and remaining time; yields a function of (done, total[, what])."""
    if _current.silent or not sys.stderr.isatty():
        yield lambda done, total, what="": None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, rate="")

        def update(done: int, total: int, what: str = what) -> None:
            speed = bar.tasks[0].speed
            rate = f"{speed:.1f}{unit}" if speed and unit else ""
            bar.update(task, completed=done, total=total, description=what, rate=rate)

        yield update
