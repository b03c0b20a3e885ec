"""Decode every image of a data set once, in threads, into one file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from basicsr.utils import FileClient, get_root_logger

from mobilesr_plugin.data.lmdb_store import read_meta_info
from mobilesr_plugin.data.workers import default_workers
from mobilesr_plugin.errors import DataError

KINDS = ("gt", "lq")  # in the order of a store

_LOG_EVERY_S = 10

T = TypeVar("T")

Paths = Sequence[Mapping[str, str]]


class Source:
    """The compressed images of BasicSR's PairedImageDataset.

    Attributes:
        roots: ``dataroot_gt``, ``dataroot_lq``.
        paths: as PairedImageDataset lists them: keys of an LMDB, or paths of files.
    """

    def __init__(self, roots: tuple[str, str], paths: Paths, io_backend: Mapping[str, Any]) -> None:
        self.roots = roots
        self.paths = paths
        self._backend = dict(io_backend)
        self.is_lmdb = self._backend.pop("type") == "lmdb"

    def open(self) -> Callable[[int, int], bytes]:
        """Returns a function from (pair, kind) to the compressed image; threads may share it."""
        client = FileClient("lmdb" if self.is_lmdb else "disk", **self._backend)

        def read(pair: int, kind: int) -> bytes:
            try:
                data = client.get(self.paths[pair][f"{KINDS[kind]}_path"], KINDS[kind])
            except OSError as error:
                raise DataError(f"{self.describe(pair, kind)} cannot be read: {error.strerror}") from error
            if not data:
                raise DataError(f"{self.describe(pair, kind)} is missing or empty")
            return data

        return read

    def describe(self, pair: int, kind: int) -> str:
        """Returns an image's name for messages."""
        name = self.paths[pair][f"{KINDS[kind]}_path"]
        return f"{self.roots[kind]}: {name}" if self.is_lmdb else name

    def names(self, kind: int) -> list[str]:
        """Returns the images' names without suffix."""
        names = [path[f"{KINDS[kind]}_path"] for path in self.paths]
        return names if self.is_lmdb else [Path(name).stem for name in names]

    def count_pixels(self) -> list[tuple[int, int]]:
        """Returns the number of pixels of (GT, LQ) for each pair, without decoding where a header tells.

        Raises:
            DataError: an image is missing or unreadable.
        """
        if not self.is_lmdb:
            read = self.open()
            return [(self._header(read, i, 0), self._header(read, i, 1)) for i in range(len(self.paths))]
        shapes = [read_meta_info(Path(root)) for root in self.roots]
        keys = [path["gt_path"] for path in self.paths]
        return [(shapes[0][k][0] * shapes[0][k][1], shapes[1][k][0] * shapes[1][k][1]) for k in keys]

    def _header(self, read: Callable[[int, int], bytes], pair: int, kind: int) -> int:
        from PIL import Image

        try:
            with Image.open(self.paths[pair][f"{KINDS[kind]}_path"]) as image:
                return image.width * image.height
        except (OSError, Image.DecompressionBombError):  # a format that Pillow does not know, or damage
            decoded = self.decode(read, pair, kind)
            return decoded.shape[0] * decoded.shape[1]

    def decode(self, read: Callable[[int, int], bytes], pair: int, kind: int) -> np.ndarray:
        """Returns an image as BasicSR's ``imfrombytes`` does before it makes floats: (H, W, 3) BGR uint8.

        Sixteen bits become eight, grey becomes colour, alpha is dropped.

        Raises:
            DataError: it is missing or damaged.
        """
        image = cv2.imdecode(np.frombuffer(read(pair, kind), np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{self.describe(pair, kind)} is not a readable image; repair or remove it")
        return image


def decode_all(
    source: Source,
    offsets: np.ndarray,
    size: int,
    path: Path,
    header: Callable[[np.ndarray], bytes],
) -> None:
    """Decode all images into a file.

    Written rather than mapped: a mapped file that outgrows its disk kills the process with a bus error.

    Args:
        source: the images.
        offsets: (pairs, 2) int64: where each image goes, as (H, W, 3) RGB uint8.
        size: of the whole file, in bytes.
        path: the file.
        header: from (pairs, 2, 3) int64 (offset, height, width of GT and LQ) to what comes before the pixels.

    Raises:
        DataError: an image is missing, damaged, or of another size than announced.
        OSError: the disk is full, or the file cannot be written.
    """
    logger = get_root_logger()
    read = source.open()
    sizes = np.diff(np.append(offsets.reshape(-1), size)).reshape(-1, 2)
    index = np.empty((*offsets.shape, 3), np.int64)

    def decode(pair: int) -> tuple[int, list[np.ndarray]]:
        images = []
        for kind in (0, 1):
            image = source.decode(read, pair, kind)
            height, width = image.shape[:2]
            if image.size != sizes[pair, kind]:
                raise DataError(
                    f"{source.describe(pair, kind)} has {height}x{width} pixels, but "
                    f"{sizes[pair, kind] // 3} were announced by its header or meta_info.txt; make the data "
                    "set again"
                )
            images.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        return pair, images

    # One image for each thread keeps all cores busy; threads that OpenCV started would also hang the
    # worker processes that are forked later.
    threads_before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with path.open("wb") as file, closing(_in_threads(decode, len(index))) as decoded:
            logged = time.monotonic()
            for done, (pair, images) in enumerate(decoded, 1):
                for kind, image in enumerate(images):
                    file.seek(offsets[pair, kind])
                    file.write(image.data)
                    index[pair, kind] = offsets[pair, kind], *image.shape[:2]
                if time.monotonic() - logged > _LOG_EVERY_S:
                    logged = time.monotonic()
                    logger.info(f"Decoded {done} of {len(index)} image pairs.")
            file.seek(0)
            file.write(header(index))
            file.flush()
            os.fsync(file.fileno())
    finally:
        cv2.setNumThreads(threads_before)


def _in_threads(function: Callable[[int], T], count: int) -> Generator[T, None, None]:
    """Yields the results for 0 to count - 1 as they get ready, holding few of them in memory."""
    workers = default_workers()
    pool = ThreadPoolExecutor(workers)
    try:
        running = {pool.submit(function, number) for number in range(min(2 * workers, count))}
        following = iter(range(len(running), count))
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(function, number) for number in islice(following, len(done))}
            while done:
                yield done.pop().result()
    finally:
        pool.shutdown(cancel_futures=True)
