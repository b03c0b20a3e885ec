"""The checksums in files of ``torch.save``."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO


def check_sums(source: Path | BinaryIO) -> None:
    """Checks the checksums of a file of ``torch.save``, which ``torch.load`` does not.

    Raises:
        OSError, zipfile.BadZipFile, zlib.error: the file cannot be read, or bytes of it have changed.
    """
    with zipfile.ZipFile(source) as archive:
        damaged = archive.testzip()
    if damaged:
        raise zipfile.BadZipFile(f"{damaged} has changed")
