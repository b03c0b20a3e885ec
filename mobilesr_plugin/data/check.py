"""Look at the data sets of an option file before anything is built.

BasicSR finds a wrong path only after the network is built, and a wrong picture only when its turn comes,
perhaps hours later and in a worker process. Here both are one line at the start. Nothing is decoded: sizes
come from meta_info.txt and from file headers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mobilesr_plugin.data import cache_options
from mobilesr_plugin.data.images import UnreadableImageError, image_size
from mobilesr_plugin.data.lmdb_store import META_INFO, read_meta_info
from mobilesr_plugin.data.remedy import command_for
from mobilesr_plugin.errors import DataError

Sizes = dict[str, tuple[int, int]]  # name -> (height, width)

# BasicSR's data sets and ours, and the folders that each reads
_ROOTS = {
    "PairedImageDataset": ("dataroot_gt", "dataroot_lq"),
    "CachedPairedDataset": ("dataroot_gt", "dataroot_lq"),
    "SingleImageDataset": ("dataroot_lq",),
}

_PNG_TAIL_BYTES = 4096


def check_datasets(opt: Mapping[str, Any]) -> None:
    """Check every data set of BasicSR's parsed options whose type is understood; leave others alone.

    Args:
        opt: BasicSR's options, with ``scale`` and ``datasets`` (phase -> options of one data set).

    Raises:
        DataError: one line: a folder or LMDB is missing (and the command that makes it) or incomplete, LR and
            HR do not match, an image file is empty or unreadable, or patches do not fit the images.
        OptionError: one line: a wrong key of a CachedPairedDataset.
    """
    for phase, dataset in (opt.get("datasets") or {}).items():
        roots = _roots_of(str(dataset.get("type"))) if isinstance(dataset, Mapping) else None
        if roots is None:
            continue
        if dataset["type"] == "CachedPairedDataset":
            cache_options.parse(dataset)
        scale = int(dataset.get("scale", opt.get("scale", 1)))
        training = str(dataset.get("phase", phase)).split("_")[0] == "train"
        where = f"datasets: {phase}"
        _check_patch(where, dataset, scale, training)
        sizes = {root: _read_sizes(f"{where}: {root}", dataset, root, scale) for root in roots}
        if len(sizes) == 2:
            gt, lq = sizes["dataroot_gt"], sizes["dataroot_lq"]
            _check_names(where, dataset, gt, lq)
            _check_sizes(where, gt, lq, scale, exact=training)
        if training and "dataroot_gt" in sizes:
            _check_fit(where, sizes["dataroot_gt"], int(dataset["gt_size"]))


def _roots_of(kind: str) -> tuple[str, ...] | None:
    if kind in _ROOTS:
        return _ROOTS[kind]
    # A subclass, ours or the user's: known to BasicSR's registry, which is there if anything is to be built.
    module = sys.modules.get("basicsr.utils.registry")
    found = getattr(module, "DATASET_REGISTRY", {})
    base = found.get(kind) if module and kind in found else None
    for parent in getattr(base, "__mro__", ()):
        if parent.__name__ in _ROOTS:
            return _ROOTS[parent.__name__]
    return None


def _check_patch(where: str, dataset: Mapping[str, Any], scale: int, training: bool) -> None:
    if not training or dataset.get("dataroot_gt") is None:
        return
    gt_size = dataset.get("gt_size")
    if not isinstance(gt_size, int) or gt_size < scale or gt_size % scale:
        raise DataError(f"{where}: gt_size must be a multiple of the scale {scale}, got {gt_size}")


def _read_sizes(where: str, dataset: Mapping[str, Any], root: str, scale: int) -> Sizes:
    if not dataset.get(root):
        raise DataError(f"{where} is missing from the options")
    path = Path(dataset[root])
    backend = (dataset.get("io_backend") or {}).get("type")
    if backend is None:
        raise DataError(
            f"{where}: io_backend is missing from the options; write `io_backend: {{type: disk}}`"
        )
    if not path.exists():
        raise DataError(f"{where}: {path} does not exist; {_remedy(path, scale)}{_tiles_beside(path)}")
    if backend == "lmdb":
        return _lmdb_sizes(where, path, scale)
    if path.suffix == ".lmdb":
        raise DataError(f"{where}: {path} is an LMDB, but io_backend is {backend}; write `type: lmdb`")
    return _folder_sizes(where, path, dataset, root, scale)


def _remedy(path: Path, scale: int) -> str:
    command = command_for(path, scale)
    if command:
        return f"make it with `{command}`"
    return "correct the path, or see `mobilesr data prepare --help`"


def _tiles_beside(path: Path) -> str:
    tiles = path.with_name(f"{path.stem}_sub{path.suffix}")
    return f", or use the tiles that are there: {tiles}" if tiles.exists() else ""


def _lmdb_sizes(where: str, path: Path, scale: int) -> Sizes:
    if path.suffix != ".lmdb":
        raise DataError(f"{where}: {path} is no LMDB (its name must end with .lmdb), but io_backend is lmdb")
    for name in ("data.mdb", META_INFO):
        if not (path / name).is_file():
            raise DataError(f"{where}: {path} is incomplete (no {name}); {_remedy(path, scale)}")
    shapes = read_meta_info(path)
    _check_lmdb_file(where, path, len(shapes), scale)
    return {key: shape[:2] for key, shape in shapes.items()}


def _check_lmdb_file(where: str, path: Path, expected: int, scale: int) -> None:
    import lmdb

    try:
        with lmdb.open(str(path), readonly=True, lock=False, max_spare_txns=0) as env:
            entries, info, page = env.stat()["entries"], env.info(), env.stat()["psize"]
    except lmdb.Error as error:
        raise DataError(
            f"{where}: {path} is damaged ({error}); delete it and {_remedy(path, scale)}"
        ) from error
    needed = (info["last_pgno"] + 1) * page
    present = (path / "data.mdb").stat().st_size
    if present < needed:
        # Reading beyond the end of a mapped file kills the process with a bus error: no exception to catch.
        raise DataError(
            f"{where}: {path}/data.mdb is cut short ({present} of {needed} bytes); "
            f"delete it and {_remedy(path, scale)}"
        )
    if entries != expected:
        raise DataError(
            f"{where}: {path} holds {entries} images, but its {META_INFO} lists {expected}; "
            f"delete it and {_remedy(path, scale)}"
        )


def _folder_sizes(where: str, path: Path, dataset: Mapping[str, Any], root: str, scale: int) -> Sizes:
    if not path.is_dir():
        raise DataError(f"{where}: {path} is not a folder")
    listing = dataset.get("meta_info_file")
    if listing:
        try:
            lines = Path(listing).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise DataError(f"{where}: meta_info_file {listing} cannot be read: {error.strerror}") from error
        names = [line.split(" ")[0] for line in lines if line.strip()]
        if root == "dataroot_lq" and dataset.get("dataroot_gt"):
            names = [_lq_name(dataset, name) for name in names]
    else:
        names = sorted(e.name for e in os.scandir(path) if e.is_file() and not e.name.startswith("."))
    if not names:
        raise DataError(f"{where}: {path} holds no images; {_remedy(path, scale)}")
    try:
        sizes = {name: image_size(path / name) for name in names}
        for name in names:
            _check_png_end(path / name)
    except UnreadableImageError as error:
        raise DataError(f"{where}: {error}; repair or remove it") from error
    return sizes


def _check_png_end(path: Path) -> None:
    # The header of a file that was cut short looks well; its last chunk is missing.
    if path.suffix.lower() != ".png":
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _PNG_TAIL_BYTES))
        if b"IEND" not in file.read():
            raise UnreadableImageError(path, "is cut short (a PNG without an end)")


def _lq_name(dataset: Mapping[str, Any], gt_name: str) -> str:
    stem, suffix = os.path.splitext(os.path.basename(gt_name))  # noqa: PTH119, PTH122  (as BasicSR does)
    return str(dataset.get("filename_tmpl", "{}")).format(stem) + suffix


def _check_names(where: str, dataset: Mapping[str, Any], gt: Sizes, lq: Sizes) -> None:
    lmdb = dataset["io_backend"]["type"] == "lmdb"
    partner = {name: name if lmdb else _lq_name(dataset, name) for name in gt}
    lonely = [name for name in gt if partner[name] not in lq]
    if lonely:
        raise DataError(
            f"{where}: {lonely[0]} of dataroot_gt {dataset['dataroot_gt']} needs {partner[lonely[0]]} in "
            f"dataroot_lq {dataset['dataroot_lq']}, which is not there{_others(lonely)}"
        )
    extra = sorted(lq.keys() - partner.values())
    if extra:
        raise DataError(
            f"{where}: {extra[0]} of dataroot_lq {dataset['dataroot_lq']} has no partner in "
            f"dataroot_gt {dataset['dataroot_gt']}{_others(extra)}"
        )
    # so that sizes can be compared name by name
    for name, other in partner.items():
        if other != name:
            lq[name] = lq.pop(other)


def _others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _check_sizes(where: str, gt: Sizes, lq: Sizes, scale: int, *, exact: bool) -> None:
    # In validation BasicSR cuts GT to the size of the result, so it may be a few pixels larger there.
    spare = 0 if exact else scale - 1
    for name, (height, width) in gt.items():
        low_height, low_width = lq[name]
        if not (0 <= height - low_height * scale <= spare and 0 <= width - low_width * scale <= spare):
            raise DataError(
                f"{where}: {name}: LR of {low_height}x{low_width} and HR of {height}x{width} pixels "
                f"do not match at scale {scale}: HR should be {low_height * scale}x{low_width * scale}"
            )


def _check_fit(where: str, gt: Sizes, gt_size: int) -> None:
    for name, (height, width) in gt.items():
        if min(height, width) < gt_size:
            raise DataError(
                f"{where}: gt_size {gt_size} is larger than {name} of {height}x{width} pixels; "
                f"choose a smaller gt_size or larger images"
            )
