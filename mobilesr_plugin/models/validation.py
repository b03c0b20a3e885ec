"""Validation as BasicSR does it, with the images shared out among the ranks of a distributed run."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import imwrite
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from mobilesr_plugin.colour import upscale_colour
from mobilesr_plugin.models.speed import uncompiled

# Results that TensorBoard gets at each validation: few and small, so that a log of many stays small.
LOGGED_IMAGES, LOGGED_SIDE = 4, 256


class Reference:
    """A network that never changes, beside the one that is validated.

    Args:
        network: From (N, C, H, W) in [0, 1] to (N, C, H * s, W * s), on the model's device.

    Attributes:
        metrics: Data set -> metric -> mean, of each data set that was validated.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.metrics: dict[str, dict[str, float]] = {}

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Runs the network on RGB or Y, as ``MobileSRModel.test`` does."""
        with torch.no_grad(), uncompiled():
            return upscale_colour(self._network, image, network_channels(self._network, image))


def network_channels(network: Any, image: torch.Tensor) -> int:
    """Returns the channels that a network takes; those of the image if it does not say."""
    return getattr(network, "num_in_ch", image.shape[1])


def validate(
    model: Any,
    dataloader: Any,
    current_iter: Any,
    tb_logger: Any,
    save_img: bool,
    reference: Reference | None = None,
) -> None:
    """Does what ``SRModel.nondist_validation`` does, with the same numbers; some images go to TensorBoard.

    Each rank takes every ``world_size``-th image, and rank 0 logs the means over all of them. While the
    network runs on one image, the metrics of the one before are computed.

    Args:
        model: A model of BasicSR.
        dataloader: One image a batch.
        current_iter: For the log, and for the names of files.
        tb_logger: TensorBoard, or None.
        save_img: Whether to write the images.
        reference: Its metrics are computed too, the first time that a data set is validated.
    """
    name = dataloader.dataset.opt["name"]
    metrics = dict(model.opt["val"].get("metrics") or {})
    if metrics:
        model._initialize_best_metric_results(name)
    rank, ranks = (model.opt["rank"], model.opt["world_size"]) if model.opt["dist"] else (0, 1)
    beside = reference if metrics and reference and name not in reference.metrics else None
    count = len(dataloader.dataset)
    share = DataLoader(dataloader.dataset, sampler=range(rank, count, ranks)) if ranks > 1 else dataloader
    totals = torch.zeros((1 if beside is None else 2, len(metrics)), dtype=torch.float64)
    bar = tqdm(total=len(share), unit="image", disable=rank != 0 or not model.opt["val"].get("pbar", False))
    running: Future[list[list[float]]] | None = None
    with ThreadPoolExecutor(max_workers=1) as worker, bar:
        for index, data in enumerate(share):
            model.feed_data(data)
            model.test()
            results = [to_pixels(model.output)]
            if beside is not None:
                results.append(to_pixels(beside(model.lq)))
            truth = to_pixels(model.gt) if "gt" in data else None
            del model.lq, model.output
            if "gt" in data:
                del model.gt
            if running is not None:
                totals += torch.tensor(running.result(), dtype=torch.float64)
            image = data["lq_path"][0]
            path = _path(model, name, image, current_iter) if save_img else None
            running = worker.submit(_finish, results, truth, path, list(metrics.values()))
            if tb_logger and index < LOGGED_IMAGES:
                for ending, result in zip(("", "_float"), results, strict=False):
                    _log_image(tb_logger, f"images/{name}/{Path(image).stem}{ending}", result, current_iter)
            bar.update()
        if running is not None:
            totals += torch.tensor(running.result(), dtype=torch.float64)
    if ranks > 1:
        totals = totals.to(model.device)
        torch.distributed.all_reduce(totals)
    if metrics:
        means = [dict(zip(metrics, row, strict=True)) for row in (totals / count).tolist()]
        model.metric_results = means[0]
        if beside is not None:
            beside.metrics[name] = means[1]
        for metric, value in model.metric_results.items():
            model._update_best_metric_result(name, metric, value, current_iter)
        if rank == 0:
            model._log_validation_metric_values(current_iter, name, tb_logger)


def to_pixels(image: torch.Tensor) -> np.ndarray:
    """Returns one image as ``basicsr.utils.tensor2img`` does, rounded where the image lies.

    Args:
        image: (1, C, H, W) in [0, 1], RGB or grey.

    Returns:
        (H, W, 3), BGR, or (H, W), uint8.
    """
    codes = image.detach()[0].float().clamp(0, 1).mul_(255.0).round_().to(torch.uint8)
    pixels = np.ascontiguousarray(codes.flip(0).permute(1, 2, 0).cpu().numpy())
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _finish(
    results: list[np.ndarray], truth: np.ndarray | None, path: Path | None, metrics: list[dict[str, Any]]
) -> list[list[float]]:
    """Writes the first result, and returns the metrics of each."""
    if path is not None:
        imwrite(results[0], str(path))
    beside = {} if truth is None else {"img2": truth}
    return [[float(_metric({"img": result, **beside}, metric)) for metric in metrics] for result in results]


def _log_image(tb_logger: Any, tag: str, pixels: np.ndarray, step: Any) -> None:
    """Logs the centre of an image, (H, W, 3) BGR or (H, W)."""
    top, left = (max(0, side - LOGGED_SIDE) // 2 for side in pixels.shape[:2])
    part = pixels[top : top + LOGGED_SIDE, left : left + LOGGED_SIDE]
    if part.ndim == 3:
        tb_logger.add_image(tag, np.ascontiguousarray(part[..., ::-1]), step, dataformats="HWC")
    else:
        tb_logger.add_image(tag, part, step, dataformats="HW")


def _metric(images: dict[str, np.ndarray], metric: dict[str, Any]) -> float:
    plain = {"type": "calculate_psnr", "test_y_channel": False, "input_order": "HWC"}
    given = {"test_y_channel": False, "input_order": "HWC", **metric}
    if "img2" in images and {key: given.get(key) for key in plain} == plain:
        return psnr(images["img"], images["img2"], int(given["crop_border"]))
    return float(calculate_metric(images, metric))


def psnr(image: np.ndarray, truth: np.ndarray, border: int) -> float:
    """Returns what BasicSR's ``calculate_psnr`` does for all channels, from exact sums of integers.

    Args:
        image, truth: (H, W, C), uint8, of one shape.
        border: Pixels to leave out at each edge.
    """
    assert image.shape == truth.shape, f"Image shapes are different: {image.shape}, {truth.shape}."
    if border:
        image, truth = (side[border:-border, border:-border] for side in (image, truth))
    difference = np.subtract(image, truth, dtype=np.int16).astype(np.int32).ravel()
    squares = float(np.square(difference).sum(dtype=np.int64))
    return float("inf") if squares == 0 else float(10.0 * np.log10(255.0 * 255.0 / (squares / image.size)))


def _path(model: Any, dataset: str, image: str, current_iter: Any) -> Path:
    """Returns where BasicSR writes a result."""
    name, folder = Path(image).stem, Path(model.opt["path"]["visualization"])
    if model.opt["is_train"]:
        return folder / name / f"{name}_{current_iter}.png"
    return folder / dataset / f"{name}_{model.opt['val']['suffix'] or model.opt['name']}.png"
