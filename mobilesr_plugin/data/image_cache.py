"""Find the decoded images of a data set on this machine, or decode them.

They lie in a file that every process maps: the system keeps in memory what fits, and takes it back when it
needs room. The first process decodes; the others (ranks of a distributed run, a second training) wait and
share.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
import shutil
import time
import weakref
from collections.abc import Generator
from pathlib import Path

import numpy as np
from basicsr.utils import get_root_logger
from filelock import FileLock, Timeout

from mobilesr_plugin.data.cache_options import CacheOptions
from mobilesr_plugin.data.image_decoding import Source, decode_all
from mobilesr_plugin.data.image_store import GT, ImageStore, header, layout
from mobilesr_plugin.data.overlap import overlap_note
from mobilesr_plugin.errors import DataError

DEFAULT_FOLDER = ".mobilesr_cache"

# The stores of this process by name. A batch names its store, which is cheaper to send than to pickle.
STORES: weakref.WeakValueDictionary[str, ImageStore] = weakref.WeakValueDictionary()


def open_or_make(source: Source, options: CacheOptions) -> ImageStore:
    """Returns the store of a data set, decoding it if no process of this machine has done so.

    Raises:
        DataError: an image is missing or damaged, or there is no room for the decoded images.
    """
    fingerprint = fingerprint_of(source)
    if fingerprint.hex() in STORES:
        return STORES[fingerprint.hex()]
    folder = Path(options.cache_dir or Path(source.roots[0]).parent / DEFAULT_FOLDER)
    path = folder / f"{_source_name(source)}-{fingerprint.hex()}.images"
    # A file under its final name is whole, so opening it takes no lock and no permission to write.
    store = _open(path, fingerprint)
    if store is None:
        pixels = source.count_pixels()
        offsets, size = layout(pixels)
        note = overlap_note(source.names(GT), pixels[0][GT], Path(source.roots[GT]))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / f".{_source_name(source)}.lock"):
                store = _open(path, fingerprint) or _make(source, fingerprint, offsets, size, note, path)
        except OSError as error:
            raise _cannot_write(path, size, error) from error
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


def _make(
    source: Source, fingerprint: bytes, offsets: np.ndarray, size: int, note: str, path: Path
) -> ImageStore:
    logger = get_root_logger()
    _remove_left_overs(path)
    logger.info(f"Decoding {len(offsets)} image pairs, {size / 1e9:.2f} GB, to {path}.")
    if note:
        logger.info(note)
    free = shutil.disk_usage(path.parent).free
    if size > free:
        whole = ", train on whole images" if note else ""
        raise DataError(
            f"the decoded images take {size:,} bytes, but {path.parent} has {free:,} free; "
            f"set cache_dir to a folder with room{whole}, or use type: PairedImageDataset"
        )
    started = time.monotonic()
    # With the machine's name, because others may share the folder.
    temporary = path.with_name(f".{path.stem}-{platform.node()}.tmp")
    try:
        decode_all(source, offsets, size, temporary, lambda index: header(fingerprint, index))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    logger.info(f"Decoded {len(offsets)} image pairs in {time.monotonic() - started:.1f} s.")
    return ImageStore(path, fingerprint)


def _remove_left_overs(path: Path) -> None:
    """Removes earlier versions of the same data set and what a killed process left, which take room."""
    source = path.name.split("-")[0]
    for pattern in (f"{source}-*", f".{source}-*-{platform.node()}.tmp"):
        for old in path.parent.glob(pattern):
            # Who still maps one keeps it until the end; Windows does not remove it then.
            with contextlib.suppress(OSError):
                old.unlink()


def _cannot_write(path: Path, size: int, error: OSError) -> DataError:
    return DataError(
        f"the decoded images ({size / 1e9:.2f} GB) cannot be written to {path}: {error.strerror or error}; "
        "set cache_dir to a folder with room, or use type: PairedImageDataset"
    )


def _open(path: Path, fingerprint: bytes) -> ImageStore | None:
    try:
        store = ImageStore(path, fingerprint)
    except (OSError, ValueError):
        return None
    get_root_logger().info(f"Found {len(store.index)} decoded image pairs in {path}.")
    return store


def _source_name(source: Source) -> str:
    return hashlib.sha256(repr(source.roots).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None, None, None]:
    """Keeps other processes out meanwhile."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        get_root_logger().info("Another process decodes these images; waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
