"""LR pictures to calibrate the ranges of a quantized network with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobilesr_plugin.data.images import list_images, read_image
from mobilesr_plugin.data.lmdb_store import is_complete, read_meta_info
from mobilesr_plugin.errors import DataError
from mobilesr_plugin.native_output import silenced_native_output

if TYPE_CHECKING:
    from mobilesr_plugin.data.bicubic import ImageU8


def calibration_images(source: Path, scale: int, limit: int = 100, seed: int = 0) -> list[ImageU8]:
    """Take pictures as a network would get them: LR, evenly spread over the source, the same on every call.

    Args:
        source: folder of pictures, used as they are, or a BasicSR LMDB of LR images.
        scale: of the network; an LMDB whose name says another scale, or HR, is refused.
        limit: largest number of pictures.
        seed: shifts the selection where the source holds more than ``limit``.

    Returns:
        Arrays of (H, W, 3), RGB, uint8, [0, 255], in the order of the source.

    Raises:
        DataError: the source is missing, empty, unreadable, or of another scale.
    """
    if limit < 1:
        raise DataError(f"calibration needs at least one picture, got a limit of {limit}")
    if not source.exists():
        raise DataError(f"calibration: {source} does not exist")
    if (source / "data.mdb").exists() or source.suffix == ".lmdb":
        return _from_lmdb(source, scale, limit, seed)
    paths = list_images(source)
    return [read_image(paths[index]) for index in _spread(len(paths), limit, seed)]


def _spread(count: int, limit: int, seed: int) -> list[int]:
    if count <= limit:
        return list(range(count))
    # One from each of `limit` equal stretches. Neighbours in a data set are tiles of one picture, so a random
    # draw would see some pictures often and others never.
    offset = np.random.default_rng(seed).random()
    return [int((index + offset) * count / limit) for index in range(limit)]


def _from_lmdb(source: Path, scale: int, limit: int, seed: int) -> list[ImageU8]:
    import cv2
    import lmdb

    if not is_complete(source):
        raise DataError(f"calibration: {source} is not a complete LMDB (no data.mdb or no meta_info.txt)")
    _check_scale(source, scale)
    keys = sorted(read_meta_info(source))
    if not keys:
        raise DataError(f"calibration: {source} holds no images")
    images = []
    try:
        with (
            lmdb.open(str(source), readonly=True, lock=False, readahead=False) as env,
            env.begin() as transaction,
        ):
            for index in _spread(len(keys), limit, seed):
                data = transaction.get(keys[index].encode("ascii"))
                with silenced_native_output():  # libpng tells of damage on standard error, too
                    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
                if image is None:
                    raise DataError(f"calibration: {source}: {keys[index]} is missing or damaged")
                images.append(np.ascontiguousarray(image[:, :, ::-1]))
    except lmdb.Error as error:
        raise DataError(f"calibration: {source} cannot be read: {error}") from error
    return images


def _check_scale(source: Path, scale: int) -> None:
    name = source.name
    factor = re.search(r"_LR_bicubic_X(\d+)", name)
    if factor and int(factor[1]) != scale:
        raise DataError(f"calibration: {source} is LR of another scale than the network's {scale}")
    if name.endswith(("_HR.lmdb", "_HR_sub.lmdb")):
        raise DataError(f"calibration: {source} holds HR pictures; give the LR LMDB beside it")
