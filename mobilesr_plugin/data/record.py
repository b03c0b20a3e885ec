"""The note that a preparation leaves beside its result: from which pictures, with which settings.

With it a later run can tell a result to continue from one that has another origin and must not be mixed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mobilesr_plugin.data.images import UnreadableImageError, image_size, write_bytes
from mobilesr_plugin.errors import DataError

# Hidden: BasicSR's folder scan would take it for an image.
RECORD_NAME = ".prepare.json"

_SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class SourceImage:
    """One HR picture.

    Attributes:
        path: the file.
        key: its name in the result; only letters, digits, ``_`` and ``-``.
        height: pixels, from the header.
        width: pixels, from the header.
        fingerprint: changes with the file's content, for all practical purposes.
    """

    path: Path
    key: str
    height: int
    width: int
    fingerprint: str


@dataclass(frozen=True)
class Record:
    """Origin of a prepared data set.

    Attributes:
        settings: everything that changes the result, as plain data.
        sources: key -> fingerprint of every picture.
    """

    settings: dict[str, int | str]
    sources: dict[str, str] = field(default_factory=dict)


def scan_sources(paths: Sequence[Path]) -> tuple[list[SourceImage], list[UnreadableImageError]]:
    """Read the headers of pictures.

    Returns:
        The usable pictures and the reasons why the others are not, both in the order of ``paths``.

    Raises:
        DataError: two files would get the same name in the result.
    """
    taken: dict[str, Path] = {}
    images: list[SourceImage] = []
    unreadable: list[UnreadableImageError] = []
    for path in paths:
        key = key_of(path)
        if key in taken:
            raise DataError(
                f"{taken[key].name} and {path.name} in {path.parent} would both become {key!r}; rename one"
            )
        taken[key] = path
        try:
            height, width = image_size(path)
        except UnreadableImageError as error:
            unreadable.append(error)
        else:
            images.append(SourceImage(path, key, height, width, _fingerprint(path)))
    return images, unreadable


def key_of(path: Path) -> str:
    """Name of a picture in the result.

    BasicSR cuts LMDB keys at the first dot and encodes them as ASCII, so neither may occur in them.
    """
    return re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)


def check_record(folder: Path, record: Record, *, other: str) -> None:
    """Compare the record of a result with the one that is there, if any.

    Args:
        folder: the result.
        record: what it would be made from now.
        other: options that choose another place for it, for the message.

    Raises:
        DataError: ``folder`` was made from other pictures or with other settings.
    """
    path = folder / RECORD_NAME
    difference = _difference(_load(path), record) if path.exists() else ""
    if difference:
        raise DataError(
            f"{folder} was made differently before: {difference}; delete it or choose another {other}"
        )


def write_record(folder: Path, record: Record) -> None:
    """Write the record of a result, unless it is there.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """
    path = folder / RECORD_NAME
    if not path.exists():
        write_bytes(path, (json.dumps(asdict(record), indent=1) + "\n").encode())


def _load(path: Path) -> Record:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Record(settings=dict(content["settings"]), sources=dict(content["sources"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete {path.parent} and start again") from error


def _difference(before: Record, now: Record) -> str:
    for name in sorted(before.settings.keys() | now.settings.keys()):
        old, new = before.settings.get(name), now.settings.get(name)
        if old != new:
            return f"{name} was {old}, is now {new}"
    return _source_difference(before.sources, now.sources)


def _source_difference(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    for verb, names in (
        ("is new", now.keys() - before.keys()),
        ("is missing", before.keys() - now.keys()),
        ("has changed", {key for key in before.keys() & now.keys() if before[key] != now[key]}),
    ):
        if names:
            others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            return f"picture {min(names)} {verb}{others}"
    return ""


def _fingerprint(path: Path) -> str:
    # Size, head and tail: the last bytes of a compressed picture depend on everything before them, and
    # reading all of a data set only to recognise it would take minutes.
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(str(size).encode())
        digest.update(file.read(_SAMPLE_BYTES))
        file.seek(max(0, size - _SAMPLE_BYTES))
        digest.update(file.read())
    return digest.hexdigest()[:16]
