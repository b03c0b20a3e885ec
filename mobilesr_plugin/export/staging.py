"""An export's folder: written by one export at a time, and never with half a file under its final name.

Files are written into a hidden folder beside their place and moved when all are whole. A lock of the kernel,
which ends with the process that holds it however that dies, keeps a second export out.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from mobilesr_plugin.errors import ExportError

LOCK = ".export.lock"
REPORT = "report.json"
UNVERIFIED = "UNVERIFIED"
_PREFIX = ".unfinished-"


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder inside ``folder`` for :func:`publish`; what killed exports left is removed.

    Raises:
        ExportError: the folder cannot be written, or another export is writing it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            _remove_leftovers(folder)
            temporary = Path(tempfile.mkdtemp(dir=folder, prefix=_PREFIX))
            try:
                yield temporary
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ExportError(
            f"{folder} cannot be written: {error.strerror or error}; choose another folder with --out"
        ) from error


def publish(temporary: Path, folder: Path) -> None:
    """Moves whole files to their place; the report comes last, so where it lies, all of it is there."""
    (folder / REPORT).unlink(missing_ok=True)
    if not (temporary / UNVERIFIED).exists():
        (folder / UNVERIFIED).unlink(missing_ok=True)
    else:
        (temporary / UNVERIFIED).replace(folder / UNVERIFIED)
    for path in sorted(temporary.iterdir(), key=lambda path: path.name == REPORT):
        path.replace(folder / path.name)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ExportError(
            f"{folder} is being written by another export; wait for it, or choose another folder with --out"
        ) from error
    try:
        yield
    finally:
        # Removed while it is held: whoever opened it before finds that it has no name any more.
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)
