"""Accuracy of checkpoints and exported files, side by side on folders of HR images."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from mobilesr_plugin import register
from mobilesr_plugin.bench.accuracy_result import Accuracy, ImageSet, Row, Scores
from mobilesr_plugin.bench.candidates import Candidate, bicubic_candidate, open_candidates
from mobilesr_plugin.bench.metrics import PROTOCOLS, SSIM_WINDOW, psnr, ssim
from mobilesr_plugin.data.bicubic import downscale, mod_crop
from mobilesr_plugin.data.images import image_size, list_images, read_image
from mobilesr_plugin.errors import DataError, OptionError

AHEAD = 2  # images read and shrunk while the networks run on another

_HELPERS = 2  # threads that prepare images and compute metrics
_NOT_A_SET = ("HR", "GTmod12")  # folders of these names are called as their parent

Values = dict[str, tuple[float, float | None]]  # PSNR and SSIM of one image, by protocol


def evaluate(
    models: Sequence[Path],
    folders: Sequence[Path],
    protocols: Sequence[str] = ("rgb_crop1",),
    *,
    scale: int | None = None,
    kernels: str = "xnnpack",
    threads: int = 2,
    with_ssim: bool = False,
    opt_path: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Accuracy:
    """Runs all models on all images.

    LR images are made on the fly: HR cropped to a multiple of the scale, MATLAB's antialiased bicubic,
    rounded to uint8. A luma network gets Y, and Cb and Cr are interpolated. Results are rounded to uint8.

    Args:
        models: .pth, .onnx and .tflite files; see ``candidates.open_candidates``.
        folders: Folders of HR images.
        protocols: Names in PROTOCOLS.
        scale: Upscaling factor. Default: that of the models.
        kernels: Of int8 checkpoints and .tflite files: ``xnnpack`` or ``tflite_builtin``.
        threads: Processor threads of the networks.
        with_ssim: Compute SSIM too.
        opt_path: Option file of checkpoints that do not describe their network.
        progress: Called with the number of images done and of all.

    Raises:
        OptionError: unknown protocol, nothing to compare, models of different scales, a folder given twice.
        DataError: a folder or an image cannot be used, or a model does not take it.
        CheckpointError, MissingExtraError: see ``open_candidates``.
    """
    chosen = _checked_protocols(protocols)
    if not folders:
        raise OptionError("no folder of HR images was given")
    _refuse_twice([*models, *folders])
    paths = [list_images(folder) for folder in folders]
    names = _set_names(folders)
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        register()
        opened = [
            candidate
            for model in models
            for candidate in open_candidates(model, kernels=kernels, threads=threads, opt_path=opt_path)
        ]
        scale = _common_scale(opened, scale)
        candidates = [bicubic_candidate(scale), *opened]
        flat = [path for own in paths for path in own]
        _check_sizes(flat, candidates, scale, chosen, with_ssim)
        scores = []  # of each image, for each candidate
        for done, values in enumerate(_scores(flat, candidates, scale, chosen, with_ssim), start=1):
            scores.append(values)
            progress(done, len(flat))
    finally:
        torch.set_num_threads(threads_before)
    sets = tuple(
        ImageSet(name, tuple(path.name for path in own)) for name, own in zip(names, paths, strict=True)
    )
    rows = tuple(
        Row(name, candidate, _by_protocol([values[index] for values in scores], sets, chosen))
        for index, (name, candidate) in enumerate(zip(_row_names(candidates), candidates, strict=True))
    )
    return Accuracy(scale, chosen, sets, rows)


def _scores(
    paths: list[Path], candidates: list[Candidate], scale: int, protocols: tuple[str, ...], with_ssim: bool
) -> Iterator[list[Values]]:
    """Yields, for each image, the values of every candidate; few images are in memory at a time."""
    with ThreadPoolExecutor(_HELPERS) as helpers:
        try:
            for path, truth, low in _prepared(paths, scale, helpers):
                running = []
                for candidate in candidates:
                    result = candidate.upscale(low)
                    if result.shape != truth.shape:
                        got, expected = ("x".join(map(str, each.shape[:2])) for each in (result, truth))
                        raise DataError(
                            f"{candidate.path} makes {got} pixels of {path}, expected {expected}; "
                            f"its scale is not {scale}"
                        )
                    running.append(helpers.submit(_compare, result, truth, scale, protocols, with_ssim))
                yield [task.result() for task in running]
        finally:
            helpers.shutdown(wait=False, cancel_futures=True)


def _prepared(
    paths: list[Path], scale: int, helpers: ThreadPoolExecutor
) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
    """Yields path, HR and LR of each image."""
    waiting: deque[tuple[Path, Future[tuple[np.ndarray, np.ndarray]]]] = deque()
    for path in paths:
        waiting.append((path, helpers.submit(_read_pair, path, scale)))
        if len(waiting) > AHEAD:
            first, pair = waiting.popleft()
            yield first, *pair.result()
    for path, pair in waiting:
        yield path, *pair.result()


def _read_pair(path: Path, scale: int) -> tuple[np.ndarray, np.ndarray]:
    truth = mod_crop(read_image(path), scale)
    return truth, downscale(truth, scale)


def _compare(
    result: np.ndarray, truth: np.ndarray, scale: int, protocols: tuple[str, ...], with_ssim: bool
) -> Values:
    return {
        name: (
            psnr(result, truth, PROTOCOLS[name], scale),
            ssim(result, truth, PROTOCOLS[name], scale) if with_ssim else None,
        )
        for name in protocols
    }


def _by_protocol(
    values: list[Values], sets: tuple[ImageSet, ...], protocols: tuple[str, ...]
) -> dict[str, tuple[Scores, ...]]:
    """Sorts one model's values, which are in the order of all images, by protocol and set."""
    found: dict[str, tuple[Scores, ...]] = {}
    for protocol in protocols:
        rest = iter([value[protocol] for value in values])
        own = []
        for images in sets:
            pairs = [next(rest) for _ in images.images]
            similar = tuple(second for _, second in pairs if second is not None)
            own.append(Scores(tuple(first for first, _ in pairs), similar or None))
        found[protocol] = tuple(own)
    return found


def _checked_protocols(names: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in PROTOCOLS]
    if unknown or not names:
        got = ", ".join(map(repr, unknown)) or "missing"
        raise OptionError(f"protocol is {got}; it must be one of {', '.join(PROTOCOLS)}")
    return tuple(dict.fromkeys(names))


def _refuse_twice(paths: Sequence[Path]) -> None:
    for path, count in Counter(path.resolve() for path in paths).items():
        if count > 1:
            raise OptionError(f"{path} was given {count} times; give it once")


def _set_names(folders: Sequence[Path]) -> list[str]:
    """Names a set as its folder; two that would be called the same, by their paths."""
    absolute = [folder.resolve() for folder in folders]
    names = [folder.parent.name if folder.name in _NOT_A_SET else folder.name for folder in absolute]
    return _distinct(names, list(map(str, folders)))


def _row_names(candidates: list[Candidate]) -> list[str]:
    files = [candidate.path.name if candidate.path else "bicubic" for candidate in candidates]
    paths = [str(candidate.path) for candidate in candidates]
    parts = [f" ({candidate.part})" if candidate.part else "" for candidate in candidates]
    short = [file + part for file, part in zip(files, parts, strict=True)]
    return _distinct(short, [path + part for path, part in zip(paths, parts, strict=True)])


def _distinct(short: list[str], long: list[str]) -> list[str]:
    count = Counter(short)
    return [brief if count[brief] == 1 else full for brief, full in zip(short, long, strict=True)]


def _common_scale(candidates: list[Candidate], wanted: int | None) -> int:
    scales = {candidate.scale for candidate in candidates}
    if wanted is None and len(scales) == 1:
        return scales.pop()
    if not candidates and wanted is None:
        raise OptionError("no model was given; give one, or --scale for bicubic alone")
    if wanted is not None and scales <= {wanted}:
        return wanted
    shown = ", ".join(dict.fromkeys(f"{each.path} is x{each.scale}" for each in candidates))
    rule = "all must have one scale" if wanted is None else f"--scale is {wanted}"
    raise OptionError(f"{shown}; {rule}: compare models of another scale in a run of their own")


def _check_sizes(
    paths: list[Path], candidates: list[Candidate], scale: int, protocols: tuple[str, ...], with_ssim: bool
) -> None:
    """Looks at all sizes first: a long run must not end at its last image."""
    border = max(PROTOCOLS[name].border(scale) for name in protocols)
    least = max(2 * scale, 2 * border + (SSIM_WINDOW if with_ssim else 1))
    fixed = [(each.path, each.fixed_size) for each in candidates if each.fixed_size]
    for path in paths:
        height, width = (side // scale for side in image_size(path))
        if min(height, width) * scale < least:
            raise DataError(f"{path} is too small: both sides must be at least {least} pixels at x{scale}")
        for file, size in fixed:
            if size != (height, width):
                raise DataError(
                    f"{file} takes images of {size[0]}x{size[1]} only, but the LR image of {path} is "
                    f"{height}x{width}; use the file without a size in its name"
                )
