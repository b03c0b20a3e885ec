"""Writing a file so that no reader ever sees half of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Lets ``fill`` write a temporary file beside ``path``, then puts it in the place of ``path``.

    Whatever goes wrong, ``path`` holds its old content or all of the new, and no temporary file stays.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    # Hidden, so that a scan of the folder never takes a left-over for a result.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
