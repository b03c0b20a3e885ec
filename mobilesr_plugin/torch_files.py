"""Files of ``torch.save``: whether their bytes are as they were written, and plain data for them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def check_sums(source: Path | io.BytesIO) -> None:
    """Checks the checksums of a file of ``torch.save``, which ``torch.load`` does not.

    Raises:
        OSError, zipfile.BadZipFile, zlib.error: the file cannot be read, or bytes of it have changed.
    """
    with zipfile.ZipFile(source) as archive:
        damaged = archive.testzip()
    if damaged:
        raise zipfile.BadZipFile(f"{damaged} has changed")


def plain_data(value: Any) -> Any:
    """Returns ``value`` with plain dicts and lists in place of other mappings and tuples."""
    if isinstance(value, Mapping):
        return {str(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_data(item) for item in value]
    return value
