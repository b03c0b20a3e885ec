"""Find the decoded images of a data set on this machine, or decode them.

They live in anonymous memory that ends with the last process that uses it, or in a file. The first process
decodes; the others on the machine (ranks of a distributed run, a second training) wait and share.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import platform
import tempfile
import time
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import IO, TextIO

import numpy as np
from basicsr.utils import get_root_logger

from mobilesr_plugin.data.cache_options import CacheOptions
from mobilesr_plugin.data.tile_decoding import Source, decode_all
from mobilesr_plugin.data.tile_store import TileStore, layout, write_header
from mobilesr_plugin.errors import DataError
from mobilesr_plugin.free_memory import free_memory

DEFAULT_FOLDER = ".mobilesr_cache"

# The stores of this process by name. A batch names its store, which is cheaper to send than to pickle.
STORES: weakref.WeakValueDictionary[str, TileStore] = weakref.WeakValueDictionary()


def open_or_make(source: Source, options: CacheOptions) -> TileStore:
    """Returns the store of a data set, decoding it if no process of this machine has it.

    Raises:
        DataError: an image is missing or damaged, or there is no room for the decoded images.
    """
    fingerprint = fingerprint_of(source)
    if fingerprint.hex() in STORES:
        return STORES[fingerprint.hex()]
    folder = Path(options.cache_dir or Path(source.roots[0]).parent / DEFAULT_FOLDER)
    file = folder / f"{_source_name(source)}-{fingerprint.hex()}.tiles"
    with _locked(_meeting_folder() / fingerprint.hex()) as note:
        store = _open_noted(note, fingerprint) or _open(file, fingerprint)
        if store is None:
            store = _make(source, options, fingerprint, file)
            note.truncate(0)
            note.write(str(store.path))
        else:
            get_root_logger().info(f"Found {len(store.index)} decoded image pairs in {store.path}.")
    STORES[store.name] = store
    return store


def fingerprint_of(source: Source) -> bytes:
    """Returns 32 bytes that change when a file of the data set does: names, sizes and times of change."""
    digest = hashlib.sha256(repr((source.roots, source.is_lmdb)).encode())
    for path in source.paths:
        digest.update(repr((path["gt_path"], path["lq_path"])).encode())
    if source.is_lmdb:
        files = [Path(root) / name for root in source.roots for name in ("data.mdb", "meta_info.txt")]
    else:
        files = [Path(path[key]) for path in source.paths for key in ("gt_path", "lq_path")]
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}") from error
        digest.update(b"%d %d\n" % (status.st_size, status.st_mtime_ns))
    return digest.digest()


def _make(source: Source, options: CacheOptions, fingerprint: bytes, path: Path) -> TileStore:
    logger = get_root_logger()
    offsets, size = layout(source.count_pixels())
    in_memory = hasattr(os, "memfd_create") and size <= options.cache_share * free_memory()
    place = "memory" if in_memory else str(path)
    logger.info(f"Decoding {len(offsets)} image pairs, {size / 1e9:.2f} GB, to {place}.")
    started = time.monotonic()
    if in_memory:
        file = os.fdopen(os.memfd_create(fingerprint.hex()), "w+b")
        _fill(file, source, fingerprint, offsets, size, place)
        store = TileStore(Path(), fingerprint, file)
    else:
        store = _make_file(source, fingerprint, offsets, size, path)
    logger.info(f"Decoded {len(offsets)} image pairs in {time.monotonic() - started:.1f} s.")
    return store


def _make_file(source: Source, fingerprint: bytes, offsets: np.ndarray, size: int, path: Path) -> TileStore:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # With the machine's name, because others may share the folder; here the lock keeps others away.
        prefix = f".{fingerprint.hex()}-{platform.node()}-"
        for left_over in path.parent.glob(f"{prefix}*"):
            left_over.unlink()
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=prefix, delete=False) as file:
            try:
                _fill(file, source, fingerprint, offsets, size, str(path))
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            finally:
                Path(file.name).unlink(missing_ok=True)
    except OSError as error:
        raise _no_room(str(path), size, error) from error
    # What earlier versions of the same data set have left; whoever still maps one keeps it until the end.
    for old in path.parent.glob(f"{path.name.split('-')[0]}-*.tiles"):
        if old != path:
            old.unlink(missing_ok=True)
    return TileStore(path, fingerprint)


def _fill(
    file: IO[bytes], source: Source, fingerprint: bytes, offsets: np.ndarray, size: int, place: str
) -> None:
    try:
        # Takes all the room now: a mapped file that outgrows its disk kills the process with a bus error.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        file.truncate(size)
    except OSError as error:
        raise _no_room(place, size, error) from error
    # Closed when nothing refers to it any more; a failure on its way up still does.
    block = np.frombuffer(mmap.mmap(file.fileno(), size), np.uint8)
    write_header(block, fingerprint, decode_all(source, offsets, block))


def _no_room(place: str, size: int, error: OSError) -> DataError:
    return DataError(
        f"the decoded images ({size / 1e9:.2f} GB) cannot be put in {place}: {error.strerror}; "
        "set cache_dir to a folder with room, lower cache_share, or use type: PairedImageDataset"
    )


def _open_noted(note: TextIO, fingerprint: bytes) -> TileStore | None:
    """Opens the store in another process's memory that a note speaks of, if it is still there."""
    note.seek(0)
    path = Path(note.read())
    try:
        # The process may have ended, and its number may be another's now, with any file behind it.
        present = str(path.readlink()).startswith(f"/memfd:{fingerprint.hex()} ")
    except OSError:
        return None
    return _open(path, fingerprint) if present else None


def _open(path: Path, fingerprint: bytes) -> TileStore | None:
    try:
        return TileStore(path, fingerprint)
    except (OSError, ValueError):
        return None


def _source_name(source: Source) -> str:
    return hashlib.sha256(repr(source.roots).encode()).hexdigest()[:16]


def _meeting_folder() -> Path:
    """Where processes of one user on this machine say where their stores are."""
    folder = Path(tempfile.gettempdir()) / f"mobilesr-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise DataError(f"{folder} belongs to another user; set TMPDIR to a folder of your own")
    return folder


@contextlib.contextmanager
def _locked(path: Path) -> Generator[TextIO, None, None]:
    """Opens a note that no other process reads or writes meanwhile."""
    import fcntl  # not on every platform

    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
