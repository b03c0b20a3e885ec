"""BasicSR's PairedImageDataset over images that are decoded once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils import get_root_logger
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import get_worker_info

from mobilesr_plugin.data import cache_options, crops
from mobilesr_plugin.data.batches import CollatedBatch, CroppedImages, ToFloat, UInt8Images
from mobilesr_plugin.data.image_cache import open_or_make
from mobilesr_plugin.data.image_decoding import Source
from mobilesr_plugin.data.image_store import GT, LQ, ImageStore
from mobilesr_plugin.errors import DataError

# Of a GPU's free memory: the rest is for training. Asked for by hand, only what must stay free stays.
_AUTO_SHARE, _LARGEST_SHARE = 0.5, 0.9


@DATASET_REGISTRY.register()
class CachedPairedDataset(PairedImageDataset):
    """PairedImageDataset with the same keys, the same folders or LMDB, and the same pixels, faster.

    Images are decoded at the start and kept as uint8 in a file that worker processes and ranks map. A loader
    gets whole batches. Without worker processes the same ``manual_seed`` gives the same crops and flips as
    there. With them the distribution is the same, and crops differ between workers, ranks and epochs. Keys
    beyond PairedImageDataset's: see CacheOptions.

    Raises:
        OptionError: an unknown key or a value that is not allowed.
        DataError: an image is missing, damaged, or does not match its partner.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        options = cache_options.parse(opt)
        super().__init__(opt)
        source = Source((self.gt_folder, self.lq_folder), self.paths, opt["io_backend"])
        self._store = open_or_make(source, options)
        self._check_sizes(source)
        self._to_float = ToFloat(opt.get("color") == "y", self.mean, self.std)
        self._deferred = options.uint8_batches
        self._on_device = _takes_device(self._store, options)
        self._generator: tuple[int, random.Random] | None = None

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns one pair as PairedImageDataset does: (C, H, W), float32, for training a patch."""
        if self.opt["phase"] == "train":
            found = self._draw([index])
            images = {key: self._cut(key, found) for key in ("lq", "gt")}
        else:
            low, high = self._store.image(index, LQ), self._store.image(index, GT)
            height, width = (self.opt["scale"] * side for side in low.shape[:2])
            views = {"lq": low[None], "gt": high[None, :height, :width]}
            images = {key: torch.from_numpy(view.copy()) for key, view in views.items()}
        floats = {key: self._to_float(image)[0] for key, image in images.items()}
        return {**floats, **self.paths[index]}

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Returns a training batch as one collated sample; torch's loader calls this where it exists."""
        if self.opt["phase"] != "train":
            return [self[index] for index in indices]
        found = self._draw(indices)
        batch: dict[str, Any] = {}
        for key in ("lq", "gt"):
            if self._on_device:
                batch[key] = self._crops(key, found)
            else:
                deferred = UInt8Images(self._cut(key, found), self._to_float)
                batch[key] = deferred if self._deferred else deferred.to()
        for key in ("lq_path", "gt_path"):
            batch[key] = [self.paths[index][key] for index in indices]
        return [CollatedBatch(batch)]

    def _draw(self, indices: Sequence[int]) -> np.ndarray:
        pairs = np.asarray(indices)
        patch = self.opt["gt_size"] // self.opt["scale"]
        return crops.draw(
            self._random(),
            pairs,
            self._store.index[pairs, LQ, 1:],
            patch,
            flip=bool(self.opt["use_hflip"]),
            turn=bool(self.opt["use_rot"]),
        )

    def _crops(self, key: str, found: np.ndarray) -> CroppedImages:
        kind, size, step = self._geometry(key)
        return CroppedImages(torch.from_numpy(found), kind, size, step, self._store.name, self._to_float)

    def _cut(self, key: str, found: np.ndarray) -> torch.Tensor:
        kind, size, step = self._geometry(key)
        return crops.cut(self._store, kind, found, size, step)

    def _geometry(self, key: str) -> tuple[int, int, int]:
        size, scale = self.opt["gt_size"], self.opt["scale"]
        return (GT, size, scale) if key == "gt" else (LQ, size // scale, 1)

    def _random(self) -> crops.Randomness:
        """Returns BasicSR's source of randomness in the main process; a worker has its own.

        BasicSR seeds ``random`` in each worker, but alike in all epochs. torch draws a worker's seed in each
        epoch from the generator of the main process, which BasicSR seeds with ``manual_seed`` + rank.
        """
        worker = get_worker_info()
        if worker is None:
            return random
        if self._generator is None or self._generator[0] != worker.seed:
            self._generator = (worker.seed, random.Random(worker.seed))
        return self._generator[1]

    def _check_sizes(self, source: Source) -> None:
        training, scale = self.opt["phase"] == "train", self.opt["scale"]
        gt, lq = self._store.index[:, GT, 1:], self._store.index[:, LQ, 1:]
        spare = gt - lq * scale
        # In validation GT is cut to the size of the result, so it may be larger.
        wrong = np.flatnonzero(((spare != 0) if training else (spare < 0)).any(axis=1))
        if wrong.size:
            pair = int(wrong[0])
            raise DataError(
                f"{source.describe(pair, LQ)} has {lq[pair, 0]}x{lq[pair, 1]} pixels and "
                f"{source.describe(pair, GT)} has {gt[pair, 0]}x{gt[pair, 1]}; at scale {scale} the latter "
                f"should have {lq[pair, 0] * scale}x{lq[pair, 1] * scale}"
            )
        small = np.flatnonzero((gt < self.opt["gt_size"]).any(axis=1)) if training else wrong
        if small.size:
            pair = int(small[0])
            raise DataError(
                f"{source.describe(pair, GT)} has {gt[pair, 0]}x{gt[pair, 1]} pixels, but gt_size is "
                f"{self.opt['gt_size']}; choose a smaller gt_size or larger images"
            )


def _takes_device(store: ImageStore, options: cache_options.CacheOptions) -> bool:
    wanted = options.device_cache
    if wanted is False or (wanted == "auto" and not options.uint8_batches):
        return False
    if not torch.cuda.is_available():
        if wanted is True:
            get_root_logger().warning("device_cache is true, but torch sees no GPU; images stay in memory.")
        return False
    free, _ = torch.cuda.mem_get_info()
    fits = store.block.size <= free * (_LARGEST_SHARE if wanted is True else _AUTO_SHARE)
    size = f"{store.block.size / 1e9:.2f} GB ({free / 1e9:.2f} GB are free)"
    get_root_logger().info(f"The GPU {'keeps' if fits else 'has no room for'} the decoded images: {size}.")
    return fits
