"""Keys of an option file that do not fit each other, though each for itself is fine."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from mobilesr_plugin.config.blocks import IMAGE_DATASETS, SR_MODELS, Place, at
from mobilesr_plugin.config.yaml_values import shown

Found = Iterator[tuple[Place, str]]


def contradictions(opt: Mapping[str, Any], *, training: bool) -> Found:
    """Yields the place and the text of each; the values are of the right types.

    Args:
        opt: Options as YAML has them.
        training: Whether train.py reads them, or test.py.
    """
    yield from _phases(opt, training=training)
    yield from _data(opt)
    yield from _folders(opt)
    if opt["model_type"] in SR_MODELS and not opt.get("network_g"):
        yield ("network_g",), "is missing; it must be a block of keys: type, and the network's arguments"
    if training:
        yield from _losses(opt)
        yield from _schedule(opt)
        yield from _wandb(opt)
    else:
        yield from _saved_images(opt)


def _phases(opt: Mapping[str, Any], *, training: bool) -> Found:
    allowed = ("train", "val") if training else ("train", "val", "test")
    for phase in opt["datasets"]:
        kind = phase.split("_")[0]
        if kind not in allowed or (training and kind == "train" and phase != "train"):
            names = "train, val or val_NAME" if training else "val, test, val_NAME or test_NAME"
            yield ("datasets", phase), f"is not a phase; name the block {names}"
    if training and "train" not in opt["datasets"]:
        yield ("datasets", "train"), "is missing; it must be a block of keys: the data set to train with"


def _data(opt: Mapping[str, Any]) -> Found:
    for phase, dataset in opt["datasets"].items():
        place = ("datasets", phase)
        scale, size = dataset.get("scale", opt.get("scale", 1)), dataset.get("gt_size")
        if phase == "train" and dataset["type"] in IMAGE_DATASETS and size % scale:
            yield (*place, "gt_size"), f"is {size}; it must be a multiple of the scale {scale}"
        if (
            phase == "train"
            and dataset.get("prefetch_mode") == "cuda"
            and dataset.get("pin_memory") is not True
        ):
            yield (*place, "prefetch_mode"), "is cuda, which needs pin_memory: true beside it"
        # Validation never has workers.
        workers = dataset.get("num_worker_per_gpu", 0) if phase == "train" else 0
        if dataset.get("persistent_workers") and not workers:
            yield (*place, "persistent_workers"), "is true, but there are no workers; write false"


def _folders(opt: Mapping[str, Any]) -> Found:
    for key, value in opt["path"].items():
        if "strict_load" in key or "param_key" in key or "ignore_resume" in key or isinstance(value, str):
            continue
        if value is not None or not ("pretrain_network" in key or "resume" in key):
            yield ("path", key), f"is {shown(value)}; it must be text: a path, which BasicSR makes or reads"


def _losses(opt: Mapping[str, Any]) -> Found:
    train = opt["train"]
    if opt["model_type"] in SR_MODELS and not (train.get("pixel_opt") or train.get("perceptual_opt")):
        yield (
            ("train", "pixel_opt"),
            "is missing, and perceptual_opt too; one of the two must be a block: the loss",
        )


def _schedule(opt: Mapping[str, Any]) -> Found:
    place: Place = ("train", "scheduler")
    schedule, total = at(opt, place, {}), opt["train"]["total_iter"]
    weights = schedule.get("restart_weights", [1])
    match schedule.get("type"):
        case "MultiStepLR" | "MultiStepRestartLR":
            restarts = schedule.get("restarts", [0])
            if len(restarts) != len(weights):
                yield (
                    (*place, "restart_weights"),
                    f"has {len(weights)} entries and restarts {len(restarts)}; they must have as many",
                )
        case "CosineAnnealingRestartLR":
            periods = schedule["periods"]
            if len(periods) != len(weights):
                yield (
                    (*place, "restart_weights"),
                    f"has {len(weights)} entries and periods {len(periods)}; they must have as many",
                )
            elif sum(periods) < total - 1:  # it is stepped between iterations
                yield (
                    (*place, "periods"),
                    f"is {periods}, which ends at iteration {sum(periods):g}, but total_iter is {total:g}; "
                    "their sum must be at least total_iter",
                )


def _wandb(opt: Mapping[str, Any]) -> Found:
    if at(opt, ("logger", "wandb", "project")) is None or "debug" in opt["name"]:
        return
    place: Place = ("logger", "wandb", "project")
    if opt["logger"]["use_tb_logger"] is not True:
        yield place, "is given, which needs logger: use_tb_logger: true; write that, or ~ for the project"
    elif importlib.util.find_spec("wandb") is None:
        yield place, "is given, but wandb is not installed; install it (pip install wandb), or write ~"


def _saved_images(opt: Mapping[str, Any]) -> Found:
    if opt["val"]["save_img"] and "suffix" not in opt["val"]:
        yield (
            ("val", "suffix"),
            "is missing, and save_img is true; it must be text for the names of files, or ~",
        )
