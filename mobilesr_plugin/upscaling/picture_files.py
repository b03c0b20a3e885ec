"""Pictures with all that people expect to survive: bit depth, grey, alpha, colour profile, EXIF."""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilesr_plugin.data.images import UnreadableImageError
from mobilesr_plugin.native_output import silenced_native_output

if TYPE_CHECKING:
    from PIL import Image as PILImage

READABLE = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})
#: Suffix -> Pillow's name of the format.
WRITABLE = {
    **{".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"},
    **{".tif": "TIFF", ".tiff": "TIFF"},
}

Buffer = bytes | memoryview

# What Pillow raises for damaged files, by format and by place of the damage.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
_ORIENTATION, _EXIF_IFD, _WIDTH, _HEIGHT, _BITS = 0x0112, 0x8769, 0xA002, 0xA003, 258  # tags
# A TIFF's tags say how it is stored, too; of those these are about the picture: make, model, software, date,
# artist, copyright.
_ABOUT = (0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright.

    Attributes:
        pixels: (H, W), grey, or (H, W, 3), RGB; uint8 or uint16.
        alpha: (H, W) of the same type; None if it has none.
        icc: Its colour profile.
        exif: Its EXIF data, as an ``Exif`` of Pillow, without orientation.
        notes: What could not be kept.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: Any = None
    notes: tuple[str, ...] = field(default=())


def read_picture(path: Path) -> Picture:
    """Decodes a picture of 8 or 16 bits for each channel; of several frames the first.

    Raises:
        UnreadableImageError: missing, empty, not a picture, damaged, cut short, or of more than 16 bits.
    """
    from PIL import Image

    try:
        if path.stat().st_size == 0:
            raise UnreadableImageError(path, "is empty (0 bytes)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # libtiff and libpng tell of damage on standard error, too.
            with silenced_native_output(), Image.open(path) as image:
                image.load()  # all of it: a file that was cut short fails here
                return _decoded(path, image)
    except FileNotFoundError as error:
        raise UnreadableImageError(path, "does not exist") from error
    except Image.UnidentifiedImageError as error:
        raise UnreadableImageError(path, "is not a readable image") from error
    except (*_DECODE_ERRORS, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(path, f"is damaged or cut short ({reason})") from error


def _decoded(path: Path, image: PILImage.Image) -> Picture:
    notes = []
    if getattr(image, "n_frames", 1) > 1:
        notes.append(f"the first of {image.n_frames} frames")  # type: ignore[attr-defined]
    icc, exif = image.info.get("icc_profile"), image.getexif()
    orientation = exif.get(_ORIENTATION, 1)
    if image.format == "TIFF":
        exif = _about(exif)
    if _ORIENTATION in exif:
        del exif[_ORIENTATION]
    bits = _bits(path, image)
    if bits > 16 or (image.mode in ("F", "I") and bits != 16):
        raise UnreadableImageError(path, f"has {bits} bits per channel; convert it to 8 or 16 bits")
    if bits == 16:
        pixels, alpha = _sixteen_bits(path)
    else:
        if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"):
            notes.append(f"{image.mode} was converted to RGB")
            icc = None  # a profile of other channels
        pixels, alpha = _eight_bits(image)
    pixels = _upright(pixels, orientation)
    alpha = None if alpha is None else _upright(alpha, orientation)
    return Picture(pixels, alpha, icc, exif if len(exif) else None, tuple(notes))


def _bits(path: Path, image: PILImage.Image) -> int:
    """Bits of a channel. Pillow cuts colours of 16 bits to 8 without a word, so the header is asked."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return max(8, file.read(25)[24])  # signature, length, "IHDR", width, height, then the depth
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS, 8)  # type: ignore[attr-defined]
        return max(8, max(bits) if isinstance(bits, tuple) else int(bits))
    return 32 if image.mode in ("F", "I") else 16 if image.mode.startswith("I;16") else 8


def _eight_bits(image: PILImage.Image) -> tuple[np.ndarray, np.ndarray | None]:
    grey = image.mode in ("1", "L", "LA", "La")
    transparent = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    decoded = np.array(image.convert(("LA" if grey else "RGBA") if transparent else "L" if grey else "RGB"))
    if not transparent:
        return decoded, None
    return np.ascontiguousarray(decoded[:, :, 0] if grey else decoded[:, :, :3]), decoded[:, :, -1].copy()


def _sixteen_bits(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    import cv2

    decoded = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise UnreadableImageError(path, "has 16 bits per channel in a form that cannot be read; convert it")
    if decoded.ndim == 2:
        return decoded, None
    pixels = np.ascontiguousarray(decoded[:, :, 2::-1])
    if _png_is_grey(path):
        pixels = pixels[:, :, 0].copy()
    return pixels, decoded[:, :, 3].copy() if decoded.shape[2] == 4 else None


def _png_is_grey(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(26)
    return head.startswith(_PNG_SIGNATURE) and head[25] in (0, 4)  # the colour type


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turns as EXIF's orientation says (TIFF 6.0, tag 274)."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


def encoder_of(picture: Picture, suffix: str) -> tuple[Callable[[], Buffer], tuple[str, ...]]:
    """Returns a function that encodes a picture, and notes on what its format cannot hold.

    The function raises ValueError or OSError if the format cannot hold a picture of this size. It needs
    ``picture`` no more, which may be large.
    """
    notes = []
    form = WRITABLE[suffix]
    pixels, alpha = picture.pixels, picture.alpha
    if pixels.dtype == np.uint16 and form not in ("PNG", "TIFF"):
        notes.append(f"16 bits became 8, which is all that {form} holds")
        pixels = (pixels >> 8).astype(np.uint8)
        alpha = None if alpha is None else (alpha >> 8).astype(np.uint8)
    if alpha is not None and form == "JPEG":
        notes.append("alpha was dropped, which JPEG does not hold")
        alpha = None
    exif = _exif(picture, form)
    if pixels.dtype == np.uint16:
        if form == "PNG":
            return functools.partial(_png16, pixels, alpha, picture.icc, exif), tuple(notes)
        if exif:
            notes.append("EXIF was dropped, which a TIFF of 16 bits does not get here")
        return functools.partial(_tiff16, pixels, alpha, picture.icc), tuple(notes)
    return _encoder8(pixels, alpha, form, picture.icc, exif), tuple(notes)


def _exif(picture: Picture, form: str) -> bytes | None:
    exif = picture.exif if picture.exif is None or form != "TIFF" else _about(picture.exif)
    if not exif:
        return None
    if _EXIF_IFD in exif:
        inner = exif.get_ifd(_EXIF_IFD)
        if _WIDTH in inner:
            inner[_HEIGHT], inner[_WIDTH] = picture.pixels.shape[:2]
    return bytes(exif.tobytes())


def _about(exif: PILImage.Exif) -> PILImage.Exif:
    from PIL import Image

    kept = Image.Exif()
    for tag in _ABOUT:
        if tag in exif:
            kept[tag] = exif[tag]
    return kept


def _encoder8(
    pixels: np.ndarray, alpha: np.ndarray | None, form: str, icc: bytes | None, exif: bytes | None
) -> Callable[[], Buffer]:
    from PIL import Image

    if alpha is not None:
        if pixels.ndim == 2 and form in ("WEBP", "BMP"):
            pixels = np.repeat(pixels[:, :, None], 3, axis=2)
        pixels = np.dstack([pixels, alpha])
    image = Image.fromarray(pixels)
    settings: dict[str, dict[str, Any]] = {
        "PNG": {"compress_level": 3},
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"quality": 95, "method": 4},
        "TIFF": {"compression": "tiff_adobe_deflate"},
    }
    options = settings.get(form, {})
    if icc and form != "BMP":
        options["icc_profile"] = icc
    if exif and form != "BMP":
        options["exif"] = exif

    def encode() -> Buffer:
        stream = io.BytesIO()
        image.save(stream, form, **options)
        return stream.getbuffer()

    return encode


def _png16(pixels: np.ndarray, alpha: np.ndarray | None, icc: bytes | None, exif: bytes | None) -> bytes:
    import cv2

    if alpha is not None and pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)  # OpenCV writes no grey with alpha
    if pixels.ndim == 3:
        pixels = pixels[:, :, ::-1]
    whole = pixels if alpha is None else np.dstack([pixels, alpha])
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(whole), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise ValueError("a PNG file cannot hold this picture")
    data = encoded.tobytes()
    after_header = len(_PNG_SIGNATURE) + 25
    chunks = b""
    if icc:
        chunks += _chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc))
    if exif:
        chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    return data[:after_header] + chunks + data[after_header:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _tiff16(pixels: np.ndarray, alpha: np.ndarray | None, icc: bytes | None) -> bytes:
    import tifffile

    planes = pixels[:, :, None] if pixels.ndim == 2 and alpha is not None else pixels
    whole = planes if alpha is None else np.concatenate([planes, alpha[:, :, None]], axis=2)
    stream = io.BytesIO()
    tifffile.imwrite(
        stream,
        whole,
        photometric="minisblack" if pixels.ndim == 2 else "rgb",
        extrasamples=None if alpha is None else ["unassalpha"],
        planarconfig="contig" if whole.ndim == 3 else None,
        compression="zlib",
        iccprofile=icc,
        metadata=None,
    )
    return stream.getvalue()
