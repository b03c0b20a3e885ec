"""LMDB folders in BasicSR's layout: data.mdb, lock.mdb, meta_info.txt.

``meta_info.txt`` is written last and in one step: an LMDB that has it is complete. Until then the pictures
already committed stay, so that a stopped run can go on.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from mobilesr_plugin.atomic_file import write_atomically
from mobilesr_plugin.data.images import write_bytes
from mobilesr_plugin.errors import DataError

if TYPE_CHECKING:
    import lmdb

Shape = tuple[int, int, int]

PNG_LEVEL = 1  # BasicSR's: larger files, faster decoding during training
META_INFO = "meta_info.txt"

_FIRST_MAP_SIZE = 64 * 1024**2
_COMMIT_BYTES = 16 * 1024**2
_LOCK_BYTES = 8192  # of LMDB's lock file, for its default of 126 readers
_META_LINE = re.compile(r"(?P<key>[^.]+)\.\w+ \((?P<h>\d+),(?P<w>\d+),(?P<c>\d+)\)(?: \d+)?")


def is_complete(folder: Path) -> bool:
    """Whether ``folder`` is an LMDB that was written to its end."""
    return (folder / META_INFO).is_file() and (folder / "data.mdb").is_file()


def read_meta_info(folder: Path) -> dict[str, Shape]:
    """Return key -> (height, width, channels) of a complete LMDB, in the order of the file.

    Raises:
        DataError: the file is missing or has a line that is not BasicSR's.
    """
    path = folder / META_INFO
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    shapes: dict[str, Shape] = {}
    for number, line in enumerate(lines, start=1):
        match = _META_LINE.fullmatch(line.strip())
        if match is None:
            raise DataError(
                f"{path}, line {number}: expected `name.png (height,width,channels) level`, got {line!r}"
            )
        shapes[match["key"]] = (int(match["h"]), int(match["w"]), int(match["c"]))
    return shapes


def flush_when_due(stores: Collection[LmdbStore]) -> None:
    """Commit all stores once enough waits in them.

    All together: a picture counts as finished only when every store has it.

    Raises:
        DataError: the disk is full or cannot be written.
    """
    if sum(store.pending_bytes for store in stores) >= _COMMIT_BYTES:
        for store in stores:
            store.flush()


def _take_room(lock: Path) -> None:
    # LMDB makes this file sparse and maps it. On a full disk its first write would kill the process with a
    # bus error; writing it here raises an OSError instead.
    if not lock.exists():
        write_atomically(lock, lambda file: file.write(bytes(_LOCK_BYTES)))


class LmdbStore:
    """Write PNG bytes into one LMDB, with the chance to stop and go on.

    Used as a context manager; leaving it without an exception commits what is pending. The map grows as
    needed, so nothing has to be known about the size beforehand.
    """

    def __init__(self, folder: Path) -> None:
        """Open or create the LMDB.

        Args:
            folder: path that ends with ``.lmdb``, which BasicSR insists on.

        Raises:
            DataError: it cannot be created, or its file is damaged.
        """
        import lmdb

        assert folder.suffix == ".lmdb"
        self.folder = folder
        self._pending: dict[str, bytes] = {}
        self.pending_bytes = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _take_room(folder / "lock.mdb")
            size = folder / "data.mdb"
            present = size.stat().st_size if size.exists() else 0
            self._env: lmdb.Environment = lmdb.open(str(folder), map_size=max(_FIRST_MAP_SIZE, 2 * present))
            self._done = self._read_keys()
        except (lmdb.Error, OSError) as error:
            raise self._failure(error) from error

    def __enter__(self) -> LmdbStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
            else:
                # What is finished need not be done again; the error on its way is the one to report.
                with contextlib.suppress(DataError):
                    self.flush()
        finally:
            self._env.close()

    def has_all(self, keys: Iterable[str]) -> bool:
        """Whether every key is stored or waiting to be."""
        return all(key in self._done or key in self._pending for key in keys)

    def put(self, images: Mapping[str, bytes]) -> None:
        """Take the tiles of one picture; they wait for ``flush`` or ``flush_when_due``.

        Args:
            images: key -> bytes of a PNG file.
        """
        self._pending.update(images)
        self.pending_bytes += sum(map(len, images.values()))

    def flush(self) -> None:
        """Commit what is pending, in one transaction.

        Raises:
            DataError: the disk is full or cannot be written.
        """
        import lmdb

        while self._pending:
            try:
                with self._env.begin(write=True) as transaction:
                    for key, data in self._pending.items():
                        transaction.put(key.encode("ascii"), data)
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])
            except lmdb.MapResizedError:
                self._env.set_mapsize(0)  # another process has made it larger: take over its size
            except (lmdb.Error, OSError) as error:
                raise self._failure(error) from error
            else:
                self._done.update(self._pending)
                self._pending.clear()
                self.pending_bytes = 0

    def finish(self, shapes: Mapping[str, Shape]) -> None:
        """Commit the rest and write meta_info.txt, which marks the LMDB as complete.

        Args:
            shapes: key -> (height, width, channels) of everything that belongs in it, in the wanted order.

        Raises:
            DataError: the disk is full or cannot be written.
        """
        self.flush()
        missing = shapes.keys() - self._done
        assert not missing, f"{len(missing)} keys were never put, {min(missing)} first"
        lines = (f"{key}.png ({h},{w},{c}) {PNG_LEVEL}\n" for key, (h, w, c) in shapes.items())
        write_bytes(self.folder / META_INFO, "".join(lines).encode("ascii"))

    def _read_keys(self) -> set[str]:
        with self._env.begin() as transaction:
            return {bytes(key).decode("ascii") for key in transaction.cursor().iternext(values=False)}

    def _failure(self, error: Exception) -> DataError:
        return DataError(
            f"{self.folder} cannot be written: {error} (free some space or choose another --out)"
        )
