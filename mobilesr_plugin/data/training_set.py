"""HR pictures to a BasicSR training set: HR and bicubic LR, whole or in tiles, in one LMDB each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from mobilesr_plugin.data.bicubic import downscale
from mobilesr_plugin.data.images import UnreadableImageError, encode_png, read_image
from mobilesr_plugin.data.lmdb_store import (
    META_INFO,
    PNG_LEVEL,
    LmdbStore,
    Shape,
    flush_when_due,
    is_complete,
    read_meta_info,
)
from mobilesr_plugin.data.plan import Output, Prepared, Progress, check_scales, common_modulus, corrupt, plan
from mobilesr_plugin.data.record import RECORD_NAME, Record, SourceImage, check_record, write_record
from mobilesr_plugin.data.tiles import TileGrid
from mobilesr_plugin.data.workers import default_workers, run_tasks
from mobilesr_plugin.errors import DataError, OptionError

# The shortest side worth keeping: an LR patch of 64x64, the usual one, is 256 HR pixels wide at x4.
MIN_SIDE = 256

HR = 1  # in mappings from scale to result, HR is the result at scale 1


@dataclass(frozen=True)
class TileTask:
    """One picture to cut, and at which scales.

    Attributes:
        image: the source.
        grid: its tiles, in HR pixels.
        scales: 1 for HR tiles, s for LR tiles of scale s.
    """

    image: SourceImage
    grid: TileGrid
    scales: tuple[int, ...]


def training_paths(out: Path, name: str, scales: Sequence[int], *, tiles: bool = False) -> dict[int, Path]:
    """BasicSR's names: ``<name>_HR.lmdb`` (key 1), ``<name>_LR_bicubic_X3.lmdb`` (key 3), ...

    LMDBs of tiles have ``_sub`` before the suffix.
    """
    end = "_sub.lmdb" if tiles else ".lmdb"
    return {HR: out / f"{name}_HR{end}"} | {s: out / f"{name}_LR_bicubic_X{s}{end}" for s in scales}


def prepare_training(
    hr: Path,
    out: Path,
    *,
    scales: Sequence[int],
    name: str | None = None,
    crop_size: int | None = None,
    step: int | None = None,
    min_side: int = MIN_SIDE,
    workers: int | None = None,
    skip_corrupt: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Make a training set, or go on with one that was stopped.

    Pictures stay whole unless ``crop_size`` is given. LR is made from the whole picture and cut afterwards,
    so tiles know what lies beyond their edge. A picture with a side below ``crop_size`` gives tiles as large
    as that side; below ``min_side`` it is left out.

    Args:
        hr: folder of HR pictures.
        out: folder for the LMDBs.
        scales: factors of the LR sets.
        name: start of the LMDBs' names; the default is ``<out's name>_train``.
        crop_size: side of an HR tile; None: whole pictures.
        step: distance of neighbouring HR tiles; the default is half of ``crop_size``.
        min_side: shortest side of a usable picture (at most ``crop_size`` counts).
        workers: number of processes; the default is the number of CPUs.
        skip_corrupt: leave unreadable pictures out instead of failing.
        progress: called with (pictures finished, pictures in all).

    Returns:
        What was written and what was left out.

    Raises:
        OptionError: crop size and step do not suit the scales.
        DataError: see ``plan``; or the result has another origin or cannot be written.
    """
    scales = check_scales(scales)
    modulus = common_modulus(scales)
    step = _check_grid(crop_size, step, scales)
    if crop_size is not None:
        min_side = min(min_side, crop_size)
    images, skipped, too_small = plan(hr, modulus=modulus, min_side=min_side, skip_corrupt=skip_corrupt)
    grids = {
        image.key: TileGrid(
            image.height - image.height % modulus, image.width - image.width % modulus, crop_size, step
        )
        for image in images
    }
    name = name or f"{out.resolve().name}_train"
    paths = training_paths(out, name, scales, tiles=crop_size is not None)
    grid_settings = {} if crop_size is None else {"crop_size": crop_size, "step": step}
    sources = {image.key: image.fingerprint for image in images}
    records = {
        scale: Record({**grid_settings, "modulus": modulus, "scale": scale}, sources) for scale in paths
    }
    # All of them before the first is begun, so that a refusal leaves nothing behind.
    for scale, path in paths.items():
        _check_lmdb(path, records[scale], _all_shapes(images, grids, scale))
    for scale, path in paths.items():
        if not (path / "data.mdb").exists():
            write_record(path, records[scale])
            # a left-over would mark what is about to be begun as complete
            (path / META_INFO).unlink(missing_ok=True)

    with ExitStack() as stack:
        stores = {
            scale: stack.enter_context(LmdbStore(path))
            for scale, path in paths.items()
            if not is_complete(path)
        }
        tasks = [
            TileTask(image, grids[image.key], missing)
            for image in images
            if (missing := _missing(stores, grids[image.key].names(image.key)))
        ]
        done = len(images) - len(tasks)
        report = progress or _ignore
        report(done, len(images))
        results = run_tasks(make_tiles, tasks, workers or default_workers())
        for _, result in stack.enter_context(closing(results)):
            if isinstance(result, UnreadableImageError):
                if not skip_corrupt:
                    raise corrupt(result)
                skipped.append(result)
            else:
                for scale, tiles in result.items():
                    stores[scale].put(tiles)
                flush_when_due(stores.values())
            done += 1
            report(done, len(images))
        bad = {error.path for error in skipped}
        good = [image for image in images if image.path not in bad]
        if not good:
            raise DataError(f"{hr} holds no readable picture")
        for scale, store in stores.items():
            store.finish(_all_shapes(good, grids, scale))
    return Prepared(
        outputs=[Output(path, len(read_meta_info(path)), scale in stores) for scale, path in paths.items()],
        skipped=skipped,
        too_small=too_small,
    )


def make_tiles(task: TileTask) -> dict[int, dict[str, bytes]]:
    """Decode, shrink, cut and compress one picture.

    Returns:
        scale -> key -> bytes of a PNG file.

    Raises:
        UnreadableImageError: the picture is damaged.
    """
    grid = task.grid
    image = read_image(task.image.path)[: grid.height, : grid.width]
    names = grid.names(task.image.key)
    tiles: dict[int, dict[str, bytes]] = {}
    for scale in task.scales:
        scaled = image if scale == HR else downscale(image, scale)
        height, width = grid.tile_height // scale, grid.tile_width // scale
        tiles[scale] = {
            name: encode_png(scaled[y // scale :, x // scale :][:height, :width], PNG_LEVEL)
            for name, (y, x) in zip(names, grid.origins(), strict=True)
        }
    return tiles


def _all_shapes(images: Sequence[SourceImage], grids: Mapping[str, TileGrid], scale: int) -> dict[str, Shape]:
    return {
        name: (grids[image.key].tile_height // scale, grids[image.key].tile_width // scale, 3)
        for image in images
        for name in grids[image.key].names(image.key)
    }


def _missing(stores: Mapping[int, LmdbStore], names: Sequence[str]) -> tuple[int, ...]:
    return tuple(scale for scale, store in stores.items() if not store.has_all(names))


def _check_grid(crop_size: int | None, step: int | None, scales: Sequence[int]) -> int:
    """Returns the step of the grid, which whole pictures do not use."""
    if crop_size is None:
        if step is not None:
            raise OptionError(f"--step is {step}, but pictures stay whole; it needs --crop-size, such as 480")
        return 1
    step = crop_size // 2 if step is None else step
    for option, value in (("--crop-size", crop_size), ("--step", step)):
        wrong = [scale for scale in scales if value < 1 or value % scale]
        if wrong:
            raise OptionError(f"{option} must be a multiple of the scale, got {value} for scale {wrong[0]}")
    return step


def _check_lmdb(path: Path, record: Record, shapes: Mapping[str, Shape]) -> None:
    if (path / RECORD_NAME).exists() or not (path / "data.mdb").exists():
        check_record(path, record, other="--name or --out")
        return
    # Made by BasicSR's own scripts: used as it is when it holds exactly these images.
    if not is_complete(path):
        raise DataError(f"{path} is an unfinished LMDB from elsewhere (no {META_INFO}); delete it first")
    if read_meta_info(path) != dict(shapes):
        raise DataError(
            f"{path} exists with other images than these pictures give; delete it or choose another --name"
        )


def _ignore(done: int, total: int) -> None:
    pass
