"""The keys of a data set of type ``CachedPairedDataset``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.options import check_keys

BACKENDS = ("disk", "lmdb")

# What BasicSR's loader and its PairedImageDataset understand.
_BASICSR = (
    *("name", "type", "phase", "scale", "dataroot_gt", "dataroot_lq", "filename_tmpl", "meta_info_file"),
    *("io_backend", "gt_size", "use_hflip", "use_rot", "mean", "std", "color"),
    *("num_worker_per_gpu", "batch_size_per_gpu", "dataset_enlarge_ratio", "use_shuffle", "prefetch_mode"),
    *("num_prefetch_queue", "pin_memory", "persistent_workers"),
)


@dataclass(frozen=True)
class CacheOptions:
    """Where the decoded images are kept, and in which form batches leave the loader.

    Attributes:
        cache_dir: Folder for the file of decoded images, which every process maps; None: ``.mobilesr_cache``
            beside ``dataroot_gt``.
        uint8_batches: Whether ``lq`` and ``gt`` stay uint8 until a model calls their ``to(device)``, as
            BasicSR's models do; otherwise they are float32 tensors.
        device_cache: Whether a GPU keeps the decoded images and cuts the patches out itself. ``auto``: with
            ``uint8_batches``, if they take at most half of the GPU's free memory.
    """

    cache_dir: str | None = None
    uint8_batches: bool = False
    device_cache: bool | str = "auto"

    def __post_init__(self) -> None:
        if self.cache_dir is not None and not isinstance(self.cache_dir, str):
            raise OptionError(f"cache_dir is {self.cache_dir!r}; it must be a folder, or ~ for the default")
        if not isinstance(self.uint8_batches, bool):
            raise OptionError(f"uint8_batches is {self.uint8_batches!r}; it must be true or false")
        if not isinstance(self.device_cache, bool) and self.device_cache != "auto":
            raise OptionError(f"device_cache is {self.device_cache!r}; it must be auto, true or false")


def parse(dataset: Mapping[str, Any]) -> CacheOptions:
    """Returns our keys out of the options of one data set, after a look at all of them.

    Raises:
        OptionError: one line: an unknown key, a value that is not allowed, or a missing key.
    """
    where = f"datasets: {dataset.get('name', dataset.get('phase', 'train'))}"
    own = [field.name for field in fields(CacheOptions)]
    if "cache_share" in dataset:
        raise OptionError(
            f"{where}: cache_share is no longer a key: decoded images are always in a file that is mapped "
            f"into memory; delete the line. Own keys: {', '.join(own)}"
        )
    check_keys(where, dataset, [*own, *_BASICSR])
    backend = (dataset.get("io_backend") or {}).get("type")
    if backend not in BACKENDS:
        raise OptionError(f"{where}: io_backend type is {backend!r}; it must be one of {', '.join(BACKENDS)}")
    if dataset.get("phase") == "train":
        for key in ("gt_size", "use_hflip", "use_rot"):
            if dataset.get(key) is None:
                raise OptionError(f"{where}: {key} is missing; training needs it")
        size, scale = dataset["gt_size"], dataset.get("scale", 1)
        if not isinstance(size, int) or size < scale or size % scale:
            raise OptionError(f"{where}: gt_size must be a multiple of the scale {scale}, got {size}")
    try:
        return CacheOptions(**{key: dataset[key] for key in own if key in dataset})
    except OptionError as error:
        raise OptionError(f"{where}: {error}") from error
