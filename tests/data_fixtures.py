"""Small seeded pictures and readers for the tests of data sets."""

from __future__ import annotations

from pathlib import Path

import cv2
import lmdb
import numpy as np


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 with soft areas, edges and some noise, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    for _ in range(6):
        y, x = int(rng.integers(0, height)), int(rng.integers(0, width))
        image[y : y + height // 4, x : x + width // 4] = rng.integers(0, 256, 3)
    return np.clip(image + rng.integers(-4, 5, image.shape), 0, 255).astype(np.uint8)


def write_png(path: Path, image: np.ndarray) -> Path:
    """Write RGB, RGBA or grey of 8 or 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if image.ndim == 3:
        image = image[:, :, [2, 1, 0, 3][: image.shape[2]]] if image.shape[2] == 4 else image[:, :, ::-1]
    assert cv2.imwrite(str(path), image)
    return path


def hr_folder(folder: Path, count: int = 4, height: int = 150, width: int = 200) -> Path:
    """A folder of ``count`` PNG files 0001.png, 0002.png, ..., each of another size."""
    for index in range(1, count + 1):
        write_png(folder / f"{index:04d}.png", picture(height + 5 * index, width + 3 * index, seed=index))
    return folder


def lmdb_content(folder: Path) -> dict[str, bytes]:
    """Everything in an LMDB."""
    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin() as transaction:
        return {bytes(key).decode(): bytes(value) for key, value in transaction.cursor()}


def folder_content(folder: Path) -> dict[str, bytes]:
    """Every visible file in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def decode(data: bytes) -> np.ndarray:
    """PNG bytes to (H, W, 3) RGB."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def read_png(path: Path) -> np.ndarray:
    """PNG file to (H, W, 3) RGB."""
    return decode(path.read_bytes())
