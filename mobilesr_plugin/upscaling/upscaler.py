"""A network of a file, ready for images of any size: pixels in, pixels out, in tiles."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mobilesr_plugin import register
from mobilesr_plugin.colour import upscale_colour
from mobilesr_plugin.cpus import usable_cpus
from mobilesr_plugin.graph.collapse import collapsed
from mobilesr_plugin.networks_from_files import (
    FileNetwork,
    Network,
    open_networks,
    shared_out,
    to_pixels,
    to_tensor,
)
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import OnnxRunner, TFLiteRunner
from mobilesr_plugin.upscaling.field import receptive_field
from mobilesr_plugin.upscaling.reach import Field
from mobilesr_plugin.upscaling.tiles import Tiling

DEEP = 65535  # white, in 16 bits
#: Memory of a network on one tile, by ``Field.pixel_bytes``. Frames of 640x360 stay whole in small networks.
TILE_BYTES = 300_000_000
_UNKNOWN = 1000  # bytes for a pixel, of a network that cannot be analysed
_SMALL = 20480  # values of an image, at most, that PyTorch calls small


class Upscaler:
    """Runs a network on images that may be larger than what it could hold at once.

    Args:
        file: The network.
        tile: Longest side of a tile; 0: never cut; None: what takes about TILE_BYTES.
        overlap: Pixels on each side of a tile; None: the receptive field's radius.

    Attributes:
        scale: Upscaling factor.
        channels: 3 (RGB) or 1 (Y).
        takes_real: Whether it takes and gives real numbers, so that 16 bits can be kept.
        tiling: How images are cut.
        field: The receptive field; None if it is not known.
    """

    def __init__(self, file: FileNetwork, *, tile: int | None = None, overlap: int | None = None) -> None:
        self.file, self.scale, self.channels = file, file.scale, file.channels
        known = receptive_field(file)
        self.field = (
            known if overlap is None else Field(overlap, True, known.pixel_bytes if known else _UNKNOWN)
        )
        radius, largest, whole = None, tile or None, 0
        if self.field is not None:
            radius = self.field.radius
            if tile is None:
                whole = TILE_BYTES // self.field.pixel_bytes
                largest = max(math.isqrt(whole), 4 * radius + 1)
        self.tiling = Tiling(radius, largest, whole, file.fixed_size, str(file.path))
        self.takes_real = _takes_real(file)
        self._network = _prepared(file)
        self._shared: dict[int, list[Upscaler]] = {}

    def shared_out(self, parts: int) -> list[Upscaler]:
        """Returns upscalers that run at the same time, with this one's threads shared out, if there can be.

        Threads that work on one image wait for each other at the end of every operator. The first call opens
        the file ``parts`` times, which takes about a second, and the next ones return the same upscalers.
        """
        if parts not in self._shared:
            files = shared_out(self.file, parts) if parts > 1 else []
            self._shared[parts] = [self._of(file) for file in files]
        return self._shared[parts] if len(self._shared[parts]) > 1 else [self]

    def _of(self, file: FileNetwork) -> Upscaler:
        made = copy.copy(self)
        made.file, made._network = file, _prepared(file)
        return made

    def note(self, shape: tuple[int, int]) -> str | None:
        """Returns what is not exact, or not cut, about an image of ``shape``."""
        whole = self.tiling.sizes(shape) == shape
        large = shape[0] * shape[1] * _UNKNOWN > TILE_BYTES or max(shape) > (
            self.tiling.largest or max(shape)
        )
        if self.field is None and large:
            return (
                "the image was not cut: the overlap of tiles cannot be told from the network; see --overlap"
            )
        if self.field is not None and not self.field.shift_invariant and not whole:
            return "tiles may round otherwise than the whole image: the network resizes by no power of 2"
        return None

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """(H, W, C) uint8 -> (H * s, W * s, C) uint8; C is ``channels``, or 1 for an RGB network."""
        return self.tiling.run(image, self._pixels_of_tile, self.scale)

    def luma(self, image: np.ndarray, *, deep: bool = False) -> np.ndarray:
        """(H, W, 1) float32 in [0, 1] -> (H * s, W * s, 1), float32 or, from networks on pixels, uint8.

        The network is one of luma. Exported files and integers round Y to pixels, as in validation, unless
        ``deep``, which needs ``takes_real``.
        """
        real = deep or (self.takes_real and isinstance(self.file.origin, nn.Module))
        run = self._real_of_tile if real else self._pixels_of_real_tile
        return self.tiling.run(image, run, self.scale)

    def deep(self, image: np.ndarray) -> np.ndarray:
        """(H, W, C) uint16 -> (H * s, W * s, C) uint16, without rounding to 8 bits; needs ``takes_real``."""
        return self.tiling.run(image, self._deep_tile, self.scale)

    def _pixels_of_tile(self, tile: np.ndarray) -> np.ndarray:
        if isinstance(self.file.origin, (TFLiteRunner, OnnxRunner)) and tile.shape[2] == self.channels:
            return self.file.origin(tile[None])[0]
        return self._rounded(to_tensor(tile[None]))

    def _pixels_of_real_tile(self, tile: np.ndarray) -> np.ndarray:
        return self._rounded(_channels_first(tile))

    def _real_of_tile(self, tile: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            made = upscale_colour(self._network, _channels_first(tile), self.channels)
        return np.ascontiguousarray(made[0].permute(1, 2, 0).numpy())

    def _deep_tile(self, tile: np.ndarray) -> np.ndarray:
        real = self._real_of_tile(tile.astype(np.float32) / np.float32(DEEP))
        return np.rint(real.clip(0, 1) * np.float32(DEEP)).astype(np.uint16)

    def _rounded(self, image: torch.Tensor) -> np.ndarray:
        """As validation runs it: exported files on pixels, a float checkpoint on real numbers."""
        network = self._network if isinstance(self.file.origin, nn.Module) else self.file.network
        with torch.inference_mode():
            return to_pixels(upscale_colour(network, image, self.channels))[0]


def open_upscaler(
    path: Path,
    *,
    kernels: str = "xnnpack",
    threads: int | None = None,
    opt_path: Path | None = None,
    tile: int | None = None,
    overlap: int | None = None,
) -> Upscaler:
    """Opens a .pth, .onnx or .tflite file; of a checkpoint with integers, these run.

    Args:
        path, kernels, threads, opt_path: See ``open_networks``; PyTorch's threads hold for the whole process.
        tile, overlap: See ``Upscaler``.

    Raises:
        CheckpointError, DataError, MissingExtraError, OptionError: the file cannot be used.
    """
    register()
    threads = threads or usable_cpus()
    torch.set_num_threads(threads)
    first, *_ = open_networks(path, kernels=kernels, threads=threads, opt_path=opt_path)
    return Upscaler(first, tile=tile, overlap=overlap)


def _takes_real(file: FileNetwork) -> bool:
    match file.origin:
        case IntegerNetwork():
            return False
        case TFLiteRunner():
            return file.kind != "int8" and file.origin.input["dtype"] == np.float32
        case OnnxRunner():
            return file.kind != "int8"
    return True


def _prepared(file: FileNetwork) -> Network:
    """The network on real numbers."""
    origin = file.origin
    if isinstance(origin, IntegerNetwork):
        return file.network
    if isinstance(origin, nn.Module):
        return _exact_network(origin)
    if not _takes_real(file):
        return file.network
    return lambda image: torch.from_numpy(
        np.ascontiguousarray(
            origin.real(image.permute(0, 2, 3, 1).contiguous().numpy()).transpose(0, 3, 1, 2)
        )
    )


def _exact_network(network: nn.Module) -> Network:
    """A float network in PyTorch whose sums do not depend on the image's size.

    PyTorch has several kernels, which sum in different orders; with them one of a million pixels of a tile
    would differ. oneDNN's for channels-last images are the same for every size, and the faster ones, but
    PyTorch takes others for a single small image (``use_mkldnn`` in its Convolution.cpp). So there go two.
    """
    plain = collapsed(network).eval()
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(image: torch.Tensor) -> torch.Tensor:
        if image.shape[2] * image.shape[3] <= _SMALL:
            image = torch.cat([image, image])
        result: torch.Tensor = plain(image.contiguous(memory_format=torch.channels_last))
        return result[:1]

    return run


def _channels_first(tile: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(tile.transpose(2, 0, 1)[None]))
