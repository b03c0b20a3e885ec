"""A small real data set without a download, from the photographs inside scikit-image."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mobilesr_plugin.data.bicubic import downscale
from mobilesr_plugin.data.image_pairs import prepare_pairs, validation_paths
from mobilesr_plugin.data.images import encode_png, list_images, write_bytes
from mobilesr_plugin.data.lmdb_store import is_complete, read_meta_info
from mobilesr_plugin.data.photographs import photograph
from mobilesr_plugin.data.plan import Output, Prepared, Progress, check_scales, common_modulus
from mobilesr_plugin.data.training_set import prepare_training, training_paths

DEMO_SCALES = (2, 3, 4)

# About this many HR pixels, 48x48 LR at x3: a whole tile is decoded for each patch, so small tiles make short
# iterations.
TILE = 144
STEP = 72

# Written last. Holds the recipe, so that another version of this module does not take over an older set.
MARKER = ".demo"

# File, and by how much to shrink it first. Shrinking gives JPEGs and soft photographs clean detail. The
# stereo pair shows one scene and therefore stays on this side.
TRAINING = (
    ("brick.png", 1),
    ("camera.png", 1),
    ("grass.png", 1),
    ("gravel.png", 1),
    ("hubble_deep_field.jpg", 2),
    ("ihc.png", 1),
    ("motorcycle_left.png", 1),
    ("motorcycle_right.png", 1),
    ("retina.jpg", 2),
    ("rocket.jpg", 2),
)

# Chosen for detail that a short training can recover. Sky, noise and JPEG artefacts (rocket, hubble, retina)
# leave a network little to gain over bicubic.
VALIDATION = ("astronaut.png", "chelsea.png", "coffee.png", "coins.png")


def make_demo(
    out: Path, scales: Sequence[int] = DEMO_SCALES, progress: Progress | None = None
) -> list[Prepared]:
    """Make the demo set; what is complete is left as it is.

    Args:
        out: folder for the result. Training goes to ``train_HR_sub.lmdb`` and
            ``train_LR_bicubic_X3_sub.lmdb``, validation to ``valid_HR`` and ``valid_LR_bicubic/X3``.
        scales: factors, each 2 or more.
        progress: called with (pictures finished, pictures in all).

    Returns:
        Outcome for training and for validation.

    Raises:
        OptionError: a scale is below 2.
        DataError: scikit-image lacks a file, or the result has another origin or cannot be written.
    """
    scales = check_scales(scales)
    modulus = common_modulus(scales)
    tile, step = (modulus * max(1, round(size / modulus)) for size in (TILE, STEP))
    recipe = hashlib.sha256(repr((TRAINING, VALIDATION, tile, step)).encode()).hexdigest()
    paths = training_paths(out, "train", scales, tiles=True), validation_paths(out, "valid", scales)
    finished = _finished(out / MARKER, recipe, *paths)
    if finished:
        return finished

    total = len(TRAINING) + len(VALIDATION)

    def report(before: int) -> Progress | None:
        return (lambda done, _: progress(before + done, total)) if progress else None

    with tempfile.TemporaryDirectory(prefix="mobilesr-demo-") as temporary:
        train, valid = Path(temporary) / "train", Path(temporary) / "valid"
        for file, shrink in TRAINING:
            _save(train, file, shrink)
        for file in VALIDATION:
            _save(valid, file, 1)
        # one process: starting more takes longer than the work
        training = prepare_training(
            train,
            out,
            scales=scales,
            name="train",
            crop_size=tile,
            step=step,
            workers=1,
            progress=report(0),
        )
        validation = prepare_pairs(valid, paths[1], workers=1, progress=report(len(TRAINING)))
    write_bytes(out / MARKER, recipe.encode())
    return [training, validation]


def _finished(
    marker: Path, recipe: str, training: dict[int, Path], validation: dict[int, Path]
) -> list[Prepared] | None:
    if not marker.is_file() or marker.read_text(encoding="utf-8") != recipe:
        return None
    if not all(map(is_complete, training.values())) or not all(path.is_dir() for path in validation.values()):
        return None
    return [
        Prepared([Output(path, len(read_meta_info(path)), made=False) for path in training.values()]),
        Prepared([Output(path, len(list_images(path)), made=False) for path in validation.values()]),
    ]


def _save(folder: Path, file: str, shrink: int) -> None:
    image = photograph(file)
    if shrink > 1:
        image = downscale(image, shrink)
    write_bytes(folder / f"{Path(file).stem}.png", encode_png(image))
