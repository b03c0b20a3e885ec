"""All images of a data set, decoded, in one block of memory that processes share.

Layout, little-endian: 16 bytes that name the format, 32 bytes of fingerprint, the number of pairs (int64),
then for each pair two times (offset, height, width) (int64): GT, LQ. At each offset (H, W, 3) RGB uint8.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

GT, LQ = 0, 1

_MAGIC = b"mobilesr tiles 1"
_HEADER = len(_MAGIC) + 32 + 8


def layout(pixels: Sequence[tuple[int, int]]) -> tuple[np.ndarray, int]:
    """Where each image of a store lies.

    Args:
        pixels: number of pixels of (GT, LQ), for each pair.

    Returns:
        Offsets of (pairs, 2), int64, and the size of the whole store in bytes.
    """
    bytes_ = 3 * np.asarray(pixels, np.int64).reshape(-1)
    start = _HEADER + 24 * bytes_.size
    ends = start + np.cumsum(bytes_)
    return (ends - bytes_).reshape(-1, 2), int(ends[-1])


def write_header(block: np.ndarray, fingerprint: bytes, index: np.ndarray) -> None:
    """Write what comes before the pixels. Last, because it is what makes a block a store.

    Args:
        block: the whole store, (bytes,) uint8.
        fingerprint: 32 bytes.
        index: (pairs, 2, 3) int64: offset, height, width of GT and LQ.
    """
    assert len(fingerprint) == 32
    head = _MAGIC + fingerprint + np.int64(len(index)).tobytes() + index.astype("<i8").tobytes()
    block[: len(head)] = np.frombuffer(head, np.uint8)


class TileStore:
    """A finished store, mapped for reading. Pickles as its path, so other processes map the same memory.

    Attributes:
        path: the file; for one that lives in memory alone, the name under which this machine's processes of
            the same user can open it while this process lives.
        name: the fingerprint in hexadecimal.
        index: (pairs, 2, 3) int64: offset, height, width of GT and LQ.
        block: the whole store, (bytes,) uint8, read-only.
        on_device: copies in the memory of devices, by name of the device.
    """

    def __init__(self, path: Path, fingerprint: bytes, file: BinaryIO | None = None) -> None:
        """Map a store.

        Args:
            path: where it is.
            fingerprint: which one is expected.
            file: the open file, for one that has no path yet.

        Raises:
            OSError: there is no such file, or it cannot be mapped.
            ValueError: it is not the expected store.
        """
        self._file = file or path.open("rb")
        descriptor = self._file.fileno()
        self.path = Path(f"/proc/{os.getpid()}/fd/{descriptor}") if _is_in_memory(descriptor) else path
        self.name = fingerprint.hex()
        self.on_device: dict[str, Any] = {}
        self.block = np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), np.uint8)
        if self.block[: len(_MAGIC) + 32].tobytes() != _MAGIC + fingerprint:
            raise ValueError(f"{path} is not the store {self.name}")
        count = int(self.block[_HEADER - 8 : _HEADER].view("<i8")[0])
        self.index = self.block[_HEADER : _HEADER + 48 * count].view("<i8").reshape(count, 2, 3)

    def __reduce__(self) -> tuple[type[TileStore], tuple[Path, bytes]]:
        return TileStore, (self.path, bytes.fromhex(self.name))

    def image(self, pair: int, kind: int) -> np.ndarray:
        """Returns one image, (H, W, 3) RGB uint8, a read-only view.

        Args:
            pair: which pair.
            kind: GT or LQ.
        """
        offset, height, width = self.index[pair, kind]
        return self.block[offset : offset + 3 * height * width].reshape(height, width, 3)


def _is_in_memory(descriptor: int) -> bool:
    link = Path(f"/proc/self/fd/{descriptor}")
    return link.is_symlink() and str(link.readlink()).startswith("/memfd:")
