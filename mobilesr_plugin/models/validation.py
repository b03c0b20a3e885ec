"""Validation as BasicSR does it, with the images shared out among the ranks of a distributed run."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import imwrite
from torch.utils.data import DataLoader
from tqdm import tqdm


def validate(model: Any, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
    """Does what ``SRModel.nondist_validation`` does, with the same numbers.

    Each rank takes every ``world_size``-th image, and rank 0 logs the means over all of them. While the
    network runs on one image, the metrics of the one before are computed.

    Args:
        model: A model of BasicSR.
        dataloader: One image a batch.
        current_iter: For the log, and for the names of files.
        tb_logger: TensorBoard, or None.
        save_img: Whether to write the images.
    """
    name = dataloader.dataset.opt["name"]
    metrics = dict(model.opt["val"].get("metrics") or {})
    if metrics:
        model._initialize_best_metric_results(name)
    rank, ranks = (model.opt["rank"], model.opt["world_size"]) if model.opt["dist"] else (0, 1)
    count = len(dataloader.dataset)
    share = DataLoader(dataloader.dataset, sampler=range(rank, count, ranks)) if ranks > 1 else dataloader
    totals = torch.zeros(len(metrics), dtype=torch.float64)
    bar = tqdm(total=len(share), unit="image", disable=rank != 0 or not model.opt["val"].get("pbar", False))
    running: Future[list[float]] | None = None
    with ThreadPoolExecutor(max_workers=1) as beside, bar:
        for data in share:
            model.feed_data(data)
            model.test()
            result = to_pixels(model.output)
            truth = to_pixels(model.gt) if "gt" in data else None
            del model.lq, model.output
            if "gt" in data:
                del model.gt
            if running is not None:
                totals += torch.tensor(running.result(), dtype=torch.float64)
            path = _path(model, name, data["lq_path"][0], current_iter) if save_img else None
            running = beside.submit(_finish, result, truth, path, list(metrics.values()))
            bar.update()
        if running is not None:
            totals += torch.tensor(running.result(), dtype=torch.float64)
    if ranks > 1:
        totals = totals.to(model.device)
        torch.distributed.all_reduce(totals)
    if metrics:
        model.metric_results = dict(zip(metrics, (totals / count).tolist(), strict=True))
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
    result: np.ndarray, truth: np.ndarray | None, path: Path | None, metrics: list[dict[str, Any]]
) -> list[float]:
    if path is not None:
        imwrite(result, str(path))
    images = {"img": result} if truth is None else {"img": result, "img2": truth}
    return [float(_metric(images, metric)) for metric in metrics]


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
