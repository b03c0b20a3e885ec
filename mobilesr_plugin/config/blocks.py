"""Which schema is for which block of an option file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mobilesr_plugin.config import schema
from mobilesr_plugin.config.schema import Keys

Place = tuple[str, ...]  # keys from the top level down, such as ("train", "optim_g")

SR_MODELS = ("SRModel", "MobileSRModel", "QATSRModel", "SwinIRModel", "RealESRNetModel")
IMAGE_DATASETS = ("PairedImageDataset", "CachedPairedDataset", "SingleImageDataset")
OPTIMIZERS = ("Adam", "AdamW", "Adamax", "SGD", "ASGD", "RMSprop", "Rprop")
SCHEDULES: dict[object, type[Keys]] = {
    "MultiStepLR": schema.MultiStepSchedule,
    "MultiStepRestartLR": schema.MultiStepSchedule,
    "CosineAnnealingRestartLR": schema.CosineSchedule,
}
LOSSES: dict[object, type[Keys]] = {
    **dict.fromkeys(("L1Loss", "MSELoss", "CharbonnierLoss"), schema.PixelLoss),
    "PerceptualLoss": schema.PerceptualLoss,
}
METRICS = ("calculate_psnr", "calculate_psnr_pt", "calculate_ssim", "calculate_ssim_pt")


def blocks(opt: Mapping[str, Any], *, training: bool) -> Iterator[tuple[Place, object, type[Keys]]]:
    """Yields each block that is there: its place, what it holds, and the schema for it.

    A block that is absent or holds something else is left out; the schema of the block around it says so.

    Args:
        opt: Options as YAML has them.
        training: Whether train.py reads them, or test.py.
    """
    for place, block in _all_blocks(opt, training=training):
        held = at(opt, place)
        # A data set or a metric must be a block, and no block around it names it.
        if isinstance(held, Mapping) or (place[0] == "datasets" and len(place) == 2) or place[:2] == _METRICS:
            yield place, held, block


_METRICS = ("val", "metrics")


def _all_blocks(opt: Mapping[str, Any], *, training: bool) -> Iterator[tuple[Place, type[Keys]]]:
    yield (), schema.TrainingOptions if training else schema.Options
    yield ("path",), schema.Path
    for phase in at(opt, ("datasets",), {}):
        place = ("datasets", phase)
        images = at(opt, (*place, "type")) in IMAGE_DATASETS
        if training and phase == "train":
            yield place, schema.TrainingImages if images else schema.TrainingDataset
        else:
            yield place, schema.Images if images else schema.Dataset
        if images:
            yield (*place, "io_backend"), schema.Storage
    if training:
        yield from _train(opt)
        yield ("logger",), schema.Logger
        yield ("logger", "wandb"), schema.Wandb
    yield ("val",), schema.ValidationInTraining if training else schema.Validation
    for name in at(opt, _METRICS, {}):
        kind = at(opt, (*_METRICS, name, "type"))
        yield (*_METRICS, name), schema.Metric if kind in METRICS else schema.Typed


def _train(opt: Mapping[str, Any]) -> Iterator[tuple[Place, type[Keys]]]:
    yield ("train",), schema.SRTrain if opt.get("model_type") in SR_MODELS else schema.Train
    for key in at(opt, ("train",), {}):
        place = ("train", key)
        kind = at(opt, (*place, "type"))
        if str(key).startswith("optim_"):
            yield place, schema.Optimizer if kind in OPTIMIZERS else schema.Typed
        elif key == "scheduler":
            yield place, SCHEDULES.get(kind, schema.Typed)
        elif str(key).endswith("_opt"):
            yield place, LOSSES.get(kind, schema.Typed)


def at(opt: object, place: Place, default: Any = None) -> Any:
    """Returns what lies at a place; ``default`` where nothing does, or no block where a block is wanted."""
    for key in place:
        opt = opt.get(key) if isinstance(opt, Mapping) else None
    return default if opt is None or (isinstance(default, dict) and not isinstance(opt, Mapping)) else opt
