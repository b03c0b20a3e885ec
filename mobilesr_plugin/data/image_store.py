"""All images of a data set, decoded, in one file that processes map into their memory.

Layout, little-endian: 16 bytes that name the format, 32 bytes of fingerprint, the number of pairs (int64),
then for each pair two times (offset, height, width) (int64): GT, LQ. At each offset (H, W, 3) RGB uint8.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def header(fingerprint: bytes, index: np.ndarray) -> bytes:
    """Returns what comes before the pixels.

    Args:
        fingerprint: 32 bytes.
        index: (pairs, 2, 3) int64: offset, height, width of GT and LQ.
    """
    assert len(fingerprint) == 32
    return _MAGIC + fingerprint + np.int64(len(index)).tobytes() + index.astype("<i8").tobytes()


class ImageStore:
    """A finished store, mapped for reading. Pickles as its path, so other processes map the same pages.

    Attributes:
        path: the file.
        name: the fingerprint in hexadecimal.
        index: (pairs, 2, 3) int64: offset, height, width of GT and LQ.
        block: the whole store, (bytes,) uint8, read-only.
        on_device: copies in the memory of devices, by name of the device.
    """

    def __init__(self, path: Path, fingerprint: bytes) -> None:
        """Map a store.

        Args:
            path: where it is.
            fingerprint: which one is expected.

        Raises:
            OSError: there is no such file, or it cannot be mapped.
            ValueError: it is not the expected store, or it is cut short.
        """
        self.path = path
        self.name = fingerprint.hex()
        self.on_device: dict[str, Any] = {}
        with path.open("rb") as file:
            self.block = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        if self.block[: len(_MAGIC) + 32].tobytes() != _MAGIC + fingerprint:
            raise ValueError(f"{path} is not the store {self.name}")
        count = int(self.block[_HEADER - 8 : _HEADER].view("<i8")[0])
        self.index = self.block[_HEADER : _HEADER + 48 * count].view("<i8").reshape(count, 2, 3)
        offset, height, width = (int(number) for number in self.index[-1, LQ])
        # Reading beyond the end of a mapped file kills the process with a bus error: no exception to catch.
        if offset + 3 * height * width != self.block.size:
            raise ValueError(f"{path} is cut short")

    def __reduce__(self) -> tuple[type[ImageStore], tuple[Path, bytes]]:
        return ImageStore, (self.path, bytes.fromhex(self.name))

    def image(self, pair: int, kind: int) -> np.ndarray:
        """Returns one image, (H, W, 3) RGB uint8, a read-only view.

        Args:
            pair: which pair.
            kind: GT or LQ.
        """
        offset, height, width = self.index[pair, kind]
        return self.block[offset : offset + 3 * height * width].reshape(height, width, 3)
