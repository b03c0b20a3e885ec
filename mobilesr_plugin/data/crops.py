"""Patches at random places, flipped and transposed, as BasicSR cuts them; a batch at a time.

A batch of crops is an array (N, 6), int64: pair, top, left (both in LR pixels), and 0 or 1 for a horizontal
flip, a vertical flip and a transposition, in this order (``basicsr/data/transforms.py``).
"""

from __future__ import annotations

import math
from typing import Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import get_worker_info

from mobilesr_plugin.data.image_store import ImageStore

_UPLOAD_BYTES = 256 * 1024**2


class Randomness(Protocol):
    """What ``random.Random`` and the module ``random`` have."""

    def randint(self, a: int, b: int, /) -> int: ...

    def random(self) -> float: ...


def draw(
    generator: Randomness,
    pairs: np.ndarray,
    sizes: np.ndarray,
    patch: int,
    *,
    flip: bool,
    turn: bool,
) -> np.ndarray:
    """Draw a batch of crops: those of ``paired_random_crop`` and ``augment``, from the same generator.

    Args:
        generator: where randomness comes from; BasicSR's is that of the module ``random``.
        pairs: (N,) which pairs.
        sizes: (N, 2) height and width of their LR images.
        patch: side of an LR patch.
        flip: BasicSR's ``use_hflip``.
        turn: BasicSR's ``use_rot``: vertical flip and transposition.

    Returns:
        (N, 6), int64.
    """
    found = []
    for pair, (height, width) in zip(pairs.tolist(), sizes.tolist(), strict=True):
        top = generator.randint(0, height - patch)
        left = generator.randint(0, width - patch)
        # As there, a switch that is off draws nothing.
        mirror, upend, transpose = (on and generator.random() < 0.5 for on in (flip, turn, turn))
        found.append((pair, top, left, mirror, upend, transpose))
    return np.array(found, np.int64)


def cut(store: ImageStore, kind: int, crops: np.ndarray, size: int, step: int) -> torch.Tensor:
    """Cut a batch of crops out of a store.

    Args:
        store: the images.
        kind: GT or LQ.
        crops: (N, 6).
        size: side of a patch of this kind.
        step: pixels of this kind in one LR pixel: the scale for GT, 1 for LQ.

    Returns:
        (N, size, size, 3), RGB, uint8.
    """
    patches = new_tensor((len(crops), size, size, 3), torch.uint8)
    for patch, (pair, top, left, mirror, upend, turn) in zip(patches.numpy(), crops.tolist(), strict=True):
        source = store.image(pair, kind)[top * step :, left * step :][:size, :size]
        # OpenCV moves whole pixels, ten times as fast as NumPy's strides of three bytes.
        if turn:
            source = cv2.transpose(source, dst=None if mirror or upend else patch)
            mirror, upend = upend, mirror  # the flips now come after the transposition
        if mirror or upend:
            cv2.flip(source, -1 if mirror and upend else int(mirror), dst=patch)
        elif not turn:
            patch[...] = source
    return patches


def new_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Returns memory for a batch on the CPU; a worker process gets shared memory, which saves a copy."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    # as torch's default_collate does
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * dtype.itemsize, device="cpu")
    return torch.empty(0, dtype=dtype).set_(storage).view(shape)


class DeviceImages:
    """The images of a store in the memory of a device, which cuts crops out itself."""

    def __init__(self, store: ImageStore, device: torch.device) -> None:
        """Copy a store to a device.

        Raises:
            RuntimeError: the device has no room.
        """
        self._block = torch.empty(store.block.size, dtype=torch.uint8, device=device)
        for start in range(0, store.block.size, _UPLOAD_BYTES):
            part = store.block[start : start + _UPLOAD_BYTES]
            self._block[start : start + len(part)] = torch.from_numpy(part.copy())
        self._index = torch.from_numpy(store.index.copy()).to(device)

    def cut(self, kind: int, crops: torch.Tensor, size: int, step: int) -> torch.Tensor:
        """Cut a batch of crops; see the function ``cut``.

        Args:
            kind, size, step: as there.
            crops: (N, 6), int64, on any device.

        Returns:
            (N, size, size, 3), RGB, uint8, on the device.
        """
        crops = crops.to(self._block.device, non_blocking=True)
        pair, top, left, mirror, upend, turn = crops.view(-1, 6, 1, 1).unbind(1)
        offset, _, width = self._index[pair, kind].unbind(-1)
        along = torch.arange(size, device=crops.device)
        row, column = along.view(1, size, 1), along.view(1, 1, size)
        # Backwards from a pixel of the patch to the pixel of the image that it shows.
        y, x = torch.where(turn == 1, column, row), torch.where(turn == 1, row, column)
        y = torch.where(upend == 1, size - 1 - y, y) + top * step
        x = torch.where(mirror == 1, size - 1 - x, x) + left * step
        pixel = offset + 3 * (y * width + x)
        return self._block[pixel.unsqueeze(-1) + torch.arange(3, device=crops.device)]
