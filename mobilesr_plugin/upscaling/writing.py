"""Results on the disk: whole or not there, and one error where that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from mobilesr_plugin.atomic_file import write_atomically
from mobilesr_plugin.errors import DataError


class CannotWriteError(DataError):
    """A result cannot be written: the disk is full, or the folder is not writable. Ends the run."""


def write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Lets ``fill`` write a file that then is whole, in a folder that is made if need be.

    Raises:
        CannotWriteError: it cannot be written; nothing is left of it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, fill)
    except OSError as error:
        raise _cannot_write(path, error) from error
    except Exception as error:
        # PyAV closes a container whose writing has failed; that fails, too, with an error of its own.
        if isinstance(error.__context__, OSError):
            raise _cannot_write(path, error.__context__) from error
        raise


def _cannot_write(path: Path, error: OSError) -> CannotWriteError:
    return CannotWriteError(
        f"{path} cannot be written: {error.strerror or error}; what was finished before is kept, and the "
        "same command goes on from there"
    )
