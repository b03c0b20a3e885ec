"""Image files: find, read and write them, with errors that name the file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobilesr_plugin.atomic_file import write_atomically
from mobilesr_plugin.errors import DataError

if TYPE_CHECKING:
    from PIL import Image as PILImage

    from mobilesr_plugin.data.bicubic import ImageU8

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})

# What Pillow raises for damaged files, by format and by place of the damage.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)

_ORIENTATION = 0x0112  # the EXIF tag
_SIXTEEN_BIT_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "F"})


class UnreadableImageError(DataError):
    """A picture that cannot be used; ``path`` names it, ``reason`` says why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def list_images(folder: Path) -> list[Path]:
    """Return the image files directly in ``folder``, by name.

    Hidden files are left out, as BasicSR leaves them out.

    Raises:
        DataError: there is no such folder, it cannot be read, or it holds no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    try:
        found = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        )
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error
    if not found:
        raise DataError(f"{folder} holds no image (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def image_size(path: Path) -> tuple[int, int]:
    """Read (height, width) from the header, without decoding, turned as EXIF says.

    Raises:
        UnreadableImageError: missing, empty, not an image, or 16 bits per channel.
    """
    with _open(path) as image:
        width, height = image.size
        try:
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        except _DECODE_ERRORS:
            turned = False
    return (width, height) if turned else (height, width)


def read_image(path: Path) -> ImageU8:
    """Decode a picture.

    Grey becomes RGB, palettes are resolved, alpha is dropped, EXIF orientation is applied.

    Returns:
        (H, W, 3), RGB, uint8, [0, 255].

    Raises:
        UnreadableImageError: missing, empty, not an image, damaged, or 16 bits per channel.
    """
    from PIL import ImageOps

    # Pillow rather than OpenCV: OpenCV returns the decodable part of a truncated file as if all were well.
    with _open(path) as image:
        try:
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("P", "PA"):
                # by way of RGBA, so that transparent entries keep their colour
                upright = upright.convert("RGBA")
            return np.array(upright.convert("RGB"))
        except _DECODE_ERRORS as error:
            raise UnreadableImageError(path, f"is damaged ({_one_line(error)})") from error


def encode_png(image: ImageU8, level: int = 1) -> bytes:
    """Compress (H, W, 3) RGB uint8 to the bytes of a PNG file; ``level`` 0 to 9."""
    import cv2

    done, data = cv2.imencode(
        ".png", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, level]
    )
    assert done
    return data.tobytes()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file that is either whole or not there.

    Raises:
        DataError: the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(data))
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error


def _open(path: Path) -> PILImage.Image:
    from PIL import Image

    try:
        if path.stat().st_size == 0:
            raise UnreadableImageError(path, "is empty (0 bytes)")
        image = Image.open(path)
    except FileNotFoundError as error:
        raise UnreadableImageError(path, "does not exist") from error
    except (*_DECODE_ERRORS, Image.DecompressionBombError) as error:
        raise UnreadableImageError(path, f"is not a readable image ({_one_line(error)})") from error
    if image.mode in _SIXTEEN_BIT_MODES or _png_bits(path) == 16:
        image.close()
        raise UnreadableImageError(path, "has 16 bits per channel; convert it to 8 bits first")
    return image


def _png_bits(path: Path) -> int | None:
    # Pillow cuts 16-bit RGB down to 8 bits without a word, so the header is asked: signature (8 bytes),
    # length, "IHDR", width, height (16 bytes), then the bit depth.
    with path.open("rb") as file:
        head = file.read(25)
    return head[24] if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) == 25 else None


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    # Pillow's message repeats the whole path, which the caller has already named.
    return "cannot identify image file" if text.startswith("cannot identify image file") else text
