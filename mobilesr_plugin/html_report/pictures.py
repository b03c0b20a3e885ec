"""Sample pictures before and after: bicubic, float, the int8 device file, the original, and the errors."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilesr_plugin.bench.candidates import bicubic_candidate, open_candidates
from mobilesr_plugin.bench.metrics import PROTOCOLS, psnr
from mobilesr_plugin.data.bicubic import downscale, mod_crop
from mobilesr_plugin.data.demo import VALIDATION
from mobilesr_plugin.data.images import encode_png, list_images, read_image, write_bytes
from mobilesr_plugin.data.photographs import photograph

MOST = 4  # pictures on the page
MOST_SIDES = (448, 672)  # height and width that are shown of an original
MOST_OF_A_HEAT_MAP = 16  # steps of 255 that get the brightest colour

_DETAIL = 64  # side of the square that a picture is zoomed into

# Perceptually even from dark to bright, after matplotlib's inferno (CC0).
_HEAT = np.array(
    [(0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (250, 193, 39)],
    float,
)


@dataclass(frozen=True)
class Version:
    """One version of a picture, or a map of errors.

    Attributes:
        key: Such as ``int8``.
        label: What the page calls it.
        note: PSNR or largest error.
        uri: The image, as a data URI.
    """

    key: str
    label: str
    note: str
    uri: str


@dataclass(frozen=True)
class Picture:
    """A picture in all versions.

    Attributes:
        name: File name without suffix, after the set's name if there are several.
        size: (height, width) in pixels.
        focus: Place of its finest detail, (x, y) in percent.
        versions: bicubic, float, int8 and the original.
        maps: Errors of the int8 file against float and against the original.
    """

    name: str
    size: tuple[int, int]
    focus: tuple[float, float]
    versions: tuple[Version, ...]
    maps: tuple[Version, ...]


def write_samples(folder: Path) -> None:
    """Writes the photographs that ``mobilesr data demo`` keeps for validation, as originals."""
    for file in VALIDATION:
        write_bytes(folder / f"{Path(file).stem}.png", encode_png(photograph(file)))


def compare_pictures(
    sets: Mapping[str, Path],
    float_file: Path,
    int8_file: Path,
    *,
    threads: int,
    progress: Callable[[int, int], None],
) -> list[Picture]:
    """Upscales the first pictures of ``sets`` (name -> folder), a crop of the centre each.

    LR is made from the original, by MATLAB's bicubic; see ``accuracy.evaluate``.

    Raises:
        DataError: a folder or an image cannot be used.
    """
    paths = _first([list_images(folder) for folder in sets.values()])
    names = {folder: f"{name} " if len(sets) > 1 else "" for name, folder in sets.items()}
    opened = [
        open_candidates(path, kernels="xnnpack", threads=threads)[0] for path in (float_file, int8_file)
    ]
    scale = opened[1].scale
    runs = {
        "bicubic": bicubic_candidate(scale).upscale,
        "float": opened[0].upscale,
        "int8": opened[1].upscale,
    }
    pictures = []
    for done, path in enumerate(paths, start=1):
        truth = np.ascontiguousarray(mod_crop(_centre(read_image(path)), scale))
        low = downscale(truth, scale)
        results = {name: run(low) for name, run in runs.items()}
        pictures.append(_picture(names[path.parent] + path.stem, truth, results, scale))
        progress(done, len(paths))
    return pictures


def _first(sets: list[list[Path]]) -> list[Path]:
    """Takes the first of each set, then the second, and so on."""
    longest = max(map(len, sets))
    return [own[index] for index in range(longest) for own in sets if index < len(own)][:MOST]


def _centre(image: np.ndarray) -> np.ndarray:
    height, width = (min(side, most) for side, most in zip(image.shape, MOST_SIDES, strict=False))
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _picture(name: str, truth: np.ndarray, results: dict[str, np.ndarray], scale: int) -> Picture:
    labels = {"bicubic": "Bicubic", "float": "Float network", "int8": "int8 device file"}
    versions = []
    for key, label in labels.items():
        value = psnr(results[key], truth, PROTOCOLS["rgb_crop1"], scale)
        versions.append(Version(key, label, f"{value:.2f} dB", picture_uri(results[key])))
    versions.append(Version("original", "Original", "ground truth", picture_uri(truth)))
    maps = []
    for key, label, other in (
        ("to_float", "int8 against float", results["float"]),
        ("to_original", "int8 against the original", truth),
    ):
        error = np.abs(results["int8"].astype(np.int16) - other).max(axis=2)
        note = f"mean {error.mean():.2f}, largest {error.max()} of 255"
        maps.append(Version(key, label, note, picture_uri(heat(error))))
    height, width = truth.shape[:2]
    return Picture(name, (height, width), _focus(truth), tuple(versions), tuple(maps))


def heat(error: np.ndarray) -> np.ndarray:
    """(H, W) errors in steps of 255 -> (H, W, 3) uint8; MOST_OF_A_HEAT_MAP and more is brightest."""
    place = np.clip(error / MOST_OF_A_HEAT_MAP, 0, 1) * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    part = (place - low)[..., None]
    return np.rint(_HEAT[low] * (1 - part) + _HEAT[low + 1] * part).astype(np.uint8)


def heat_gradient() -> str:
    """Returns the colours of a heat map as CSS, from no error to the largest."""
    return ", ".join(f"rgb({red:.0f} {green:.0f} {blue:.0f})" for red, green, blue in _HEAT)


def picture_uri(image: np.ndarray) -> str:
    """(H, W, 3) uint8 -> data URI of a lossless WebP."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", lossless=True, quality=80, method=4)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _focus(image: np.ndarray) -> tuple[float, float]:
    """Centre of the square with the most contrast between neighbours, on a coarse grid."""
    grey = image.mean(axis=2)
    contrast = np.abs(np.diff(grey, axis=1))[:-1] + np.abs(np.diff(grey, axis=0))[:, :-1]
    height, width = contrast.shape
    side = min(_DETAIL, height, width)
    corners = [
        (top, left)
        for top in range(0, height - side + 1, max(1, side // 2))
        for left in range(0, width - side + 1, max(1, side // 2))
    ]
    top, left = max(corners, key=lambda at: contrast[at[0] : at[0] + side, at[1] : at[1] + side].mean())
    return round(100 * (left + side / 2) / width, 1), round(100 * (top + side / 2) / height, 1)
