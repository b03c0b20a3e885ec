"""Batches of a CachedPairedDataset on their way to a model.

BasicSR's models take ``data["lq"].to(device)`` and expect (N, C, H, W), float32, [0, 1]. What travels there
from the loader can be smaller: uint8 pixels, or only where to cut them. The classes here become that
tensor in their ``to``, so a model sees no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch.utils.data._utils.collate import default_collate_fn_map

from mobilesr_plugin.data.crops import DeviceImages, cut, new_tensor
from mobilesr_plugin.data.image_cache import STORES
from mobilesr_plugin.data.image_store import ImageStore

# of BT.601, as in BasicSR's bgr2ycbcr: weights of R, G, B for values in [0, 1], and what black has
_LUMA = (65.481, 128.553, 24.966)
_BLACK = 16.0


@dataclass(frozen=True)
class ToFloat:
    """From pixels to what a network takes, bit for bit as PairedImageDataset computes it on the CPU.

    Attributes:
        luma: Whether colour becomes Y of BT.601 (``color: y``).
        mean: Subtracted from each channel, or None.
        std: Divides each channel then, or None.
    """

    luma: bool = False
    mean: Any = None
    std: Any = None

    def __call__(
        self, pixels: torch.Tensor, memory_format: torch.memory_format = torch.contiguous_format
    ) -> torch.Tensor:
        """Convert a batch.

        Args:
            pixels: (N, H, W, 3), RGB, uint8, on any device.
            memory_format: of the result.

        Returns:
            (N, 3 or 1, H, W), float32, [0, 1] before mean and std.
        """
        # A tensor: division by a number is a multiplication by its rounded inverse on a GPU.
        most = torch.full((), 255.0, device=pixels.device)
        if self.luma:
            images = self._luma(pixels, most).unsqueeze(1)
        elif memory_format is torch.channels_last:
            images = pixels.to(torch.float32).div_(most).permute(0, 3, 1, 2)
        else:
            planes = pixels.permute(0, 3, 1, 2)
            shape = tuple(planes.shape)
            on_cpu = pixels.device.type == "cpu"
            images = new_tensor(shape, torch.float32) if on_cpu else torch.empty(shape, device=pixels.device)
            images.copy_(planes).div_(most)
        if self.mean is not None or self.std is not None:
            from torchvision.transforms.functional import normalize

            normalize(images, self.mean, self.std, inplace=True)
        return images.contiguous(memory_format=memory_format)

    def _luma(self, pixels: torch.Tensor, most: torch.Tensor) -> torch.Tensor:
        red, green, blue = (channel.to(torch.float32).div_(most).double() for channel in pixels.unbind(-1))
        total = blue.mul_(_LUMA[2]).add_(green.mul_(_LUMA[1])).add_(red.mul_(_LUMA[0])).add_(_BLACK)
        return total.div_(most).to(torch.float32)


class _Deferred:
    """What becomes a tensor of floats when a model calls its ``to``."""

    to_float: ToFloat

    def _pixels(self, device: torch.device) -> torch.Tensor:
        raise NotImplementedError

    def to(
        self,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        non_blocking: bool = True,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> torch.Tensor:
        """Become a tensor on ``device``; the arguments are those of ``torch.Tensor.to``.

        Args:
            device: where it is computed.
            dtype: of the result; None: float32.
            non_blocking: not used: a copy from pinned memory never blocks.
            memory_format: of the result.

        Returns:
            (N, C, H, W), RGB or Y, [0, 1] before mean and std.
        """
        return self.to_float(self._pixels(torch.device(device)), memory_format).to(dtype or torch.float32)


@dataclass(frozen=True)
class UInt8Images(_Deferred):
    """Patches as uint8.

    Attributes:
        pixels: (N, H, W, 3), RGB, uint8.
        to_float: The conversion.
    """

    pixels: torch.Tensor
    to_float: ToFloat

    def _pixels(self, device: torch.device) -> torch.Tensor:
        return self.pixels.to(device, non_blocking=True)

    def pin_memory(self) -> UInt8Images:
        """Called by a loader with ``pin_memory: true``."""
        return replace(self, pixels=self.pixels.pin_memory())


@dataclass(frozen=True)
class CroppedImages(_Deferred):
    """Patches that are not cut yet.

    Attributes:
        crops: (N, 6), int64; see ``crops``.
        kind: GT or LQ.
        size: Side of a patch.
        step: Pixels in one LR pixel.
        store: Name of the store, which the process that calls ``to`` has open.
        to_float: The conversion.
    """

    crops: torch.Tensor
    kind: int
    size: int
    step: int
    store: str
    to_float: ToFloat

    def _pixels(self, device: torch.device) -> torch.Tensor:
        store = STORES[self.store]
        images = None if device.type == "cpu" else _images_on(store, device)
        if images is not None:
            return images.cut(self.kind, self.crops, self.size, self.step)
        return cut(store, self.kind, self.crops.numpy(), self.size, self.step).to(device)

    def pin_memory(self) -> CroppedImages:
        """Called by a loader with ``pin_memory: true``."""
        return replace(self, crops=self.crops.pin_memory())


def _images_on(store: ImageStore, device: torch.device) -> DeviceImages | None:
    """Returns the store in a device's memory, copied there at the first call; None if it has no room."""
    if str(device) not in store.on_device:
        try:
            store.on_device[str(device)] = DeviceImages(store, device)
        except torch.OutOfMemoryError:
            get_root_logger().warning("The GPU has no room for the decoded images; they stay in memory.")
            store.on_device[str(device)] = None
    return store.on_device[str(device)]


class CollatedBatch:
    """A batch that needs no collating: what a data set's ``__getitems__`` returns as its only sample."""

    def __init__(self, batch: dict[str, Any]) -> None:
        self.batch = batch


def _unwrap(samples: Sequence[CollatedBatch], *, collate_fn_map: Any = None) -> dict[str, Any]:
    (sample,) = samples
    return sample.batch


# torch's own way to teach default_collate a type; BasicSR's loader leaves no room for another collate_fn.
# https://pytorch.org/docs/stable/data.html#torch.utils.data.default_collate
default_collate_fn_map[CollatedBatch] = _unwrap
