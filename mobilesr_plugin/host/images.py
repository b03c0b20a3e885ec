"""Repair of how BasicSR meets a damaged image while it trains or validates."""

from __future__ import annotations

import functools
from typing import Any

from mobilesr_plugin.errors import DataError
from mobilesr_plugin.host.replacing import replace_everywhere


def repair_damaged_images() -> None:
    """Name the pair of which an image cannot be decoded.

    Fault: ``imfrombytes`` returns None for it, or fails at None, and training ends with "'NoneType' object
    has no attribute 'astype'" and no name. To see it: leave 40 bytes of a PNG file of a PairedImageDataset.
    """
    from basicsr.data.paired_image_dataset import PairedImageDataset
    from basicsr.utils import img_util

    read, item = img_util.imfrombytes, PairedImageDataset.__getitem__
    if hasattr(read, "__wrapped__"):
        return

    @functools.wraps(read)
    def imfrombytes(content: bytes, flag: str = "color", float32: bool = False) -> Any:
        import cv2

        try:
            image = read(content, flag, float32)
        except (AttributeError, cv2.error):
            image = None
        if image is None:
            raise DataError(f"an image of {len(content):,} bytes is damaged; get it again")
        return image

    @functools.wraps(item)
    def getitem(self: Any, index: int) -> Any:
        try:
            return item(self, index)
        except DataError as error:
            pair = self.paths[index % len(self.paths)]
            raise DataError(f"{pair['lq_path']}, {pair['gt_path']}: {error}") from error

    replace_everywhere(read, imfrombytes)
    PairedImageDataset.__getitem__ = getitem
