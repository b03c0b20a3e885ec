"""An import from another project's checkpoint to a verified .pth, step by step."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilesr_plugin import checkpoint, register
from mobilesr_plugin.colour import rgb_to_ycbcr
from mobilesr_plugin.data.samples import sample_images
from mobilesr_plugin.errors import CheckpointError, OptionError, VerificationError
from mobilesr_plugin.importers.formats import format_named, reader
from mobilesr_plugin.importers.original import Original

ALLOWED_STEPS = 1.0  # of 1/255: rounding in float32 stays far below, anything forgotten far above
_SAMPLES = ("chelsea_odd", "noise")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Imported:
    """Result of an import.

    Attributes:
        path: The .pth that was written.
        network_g: Its network, as in an option file.
        num_weights: Numbers in it.
        steps: Largest difference to the original on the sample images, in steps of 1/255.
        psnr: Of the two results, in dB, not rounded and not cropped; infinite if they are equal.
        judged_by: What the original was run with.
        notes: What the user has to know, one sentence each.
    """

    path: Path
    network_g: dict[str, Any]
    num_weights: int
    steps: float
    psnr: float
    judged_by: str
    notes: tuple[str, ...]


def import_checkpoint(
    format: str,
    source: Path,
    out: Path,
    *,
    act_type: str | None = None,
    progress: Progress = lambda stage: None,
) -> Imported:
    """Imports a checkpoint, and writes it only if it computes what the original computes.

    Args:
        format: A name in ``formats.FORMATS``.
        source: The checkpoint.
        out: The .pth to write; one that is there is replaced.
        act_type: For ``srvgg``, where the file does not tell it.
        progress: Called with the name of each stage.

    Raises:
        OptionError: no such format, or options that make no sense.
        CheckpointError: the source is missing, damaged, or of another network; ``out`` cannot be written.
        MissingExtraError: tensorflow is not installed.
        VerificationError: the result differs from the original; nothing is written.
    """
    given = {"act_type": act_type} if act_type is not None else {}
    for name in given:
        if name not in format_named(format).options:
            raise OptionError(f"{format} takes no --{name.replace('_', '-')}; leave it out")
    read = reader(format)
    source, out = Path(source), Path(out)
    _check_out(source, out)
    register()
    progress(f"reading {source.name}")
    with _quiet():
        original = read(source, **given)
    entries = {
        "params": original.params,
        "mobilesr": checkpoint.describe(
            {"network_g": original.network_g, "scale": original.network_g["upscale"]}
        ),
    }
    progress("comparing with the original")
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / out.name
        checkpoint.save(staged, entries)
        network = checkpoint.restore(staged).float_network
    assert network is not None
    steps, psnr = _differences(original, network)
    if not steps <= ALLOWED_STEPS:  # so that not-a-number fails
        raise VerificationError(
            f"the network imported from {source} differs from {original.judged_by} by up to {steps:.3g} "
            f"steps of 1/255 ({ALLOWED_STEPS:g} is allowed); {out} was not written"
        )
    checkpoint.save(out, entries)
    num_weights = sum(value.numel() for value in original.params.values())
    return Imported(out, original.network_g, num_weights, steps, psnr, original.judged_by, original.notes)


def _quiet() -> contextlib.AbstractContextManager[object]:
    """BasicSR prints that it found SRVGGNetCompact under another name."""
    return contextlib.redirect_stdout(io.StringIO())


def _check_out(source: Path, out: Path) -> None:
    """Fails before the work, not after it."""
    if out.is_dir():
        raise CheckpointError(f"{out} is a folder; give the path of a .pth file to write")
    if not out.absolute().parent.is_dir():
        raise CheckpointError(f"{out} cannot be written: there is no folder {out.absolute().parent}")
    if out.exists() and source.exists() and out.samefile(source):
        raise OptionError(f"{out} is the file to import; choose another --out")


def _differences(original: Original, network: torch.nn.Module) -> tuple[float, float]:
    """Returns the largest difference in steps of 1/255, and the PSNR in dB, over the sample images."""
    largest, squares, count = [], 0.0, 0
    for image in _images(original):
        expected = original.judge(image.permute(0, 2, 3, 1).contiguous().numpy())
        with torch.no_grad():
            got = network(image).permute(0, 2, 3, 1).numpy()
        if expected.shape != got.shape:
            raise VerificationError(
                f"the imported network makes {got.shape[1:]} of {tuple(image.shape[2:])} pixels, "
                f"{original.judged_by} makes {expected.shape[1:]}; nothing was written"
            )
        difference = got.astype(np.float64) - expected
        largest.append(np.abs(difference).max() * 255)
        squares, count = squares + float((difference**2).sum()), count + difference.size
    return float(np.max(largest)), math.inf if squares == 0 else -10 * math.log10(squares / count)


def _images(original: Original) -> Iterator[torch.Tensor]:
    """Sample images as (1, C, H, W) float32 in [0, 1], of the network's channels and the original's size."""
    samples = sample_images()
    for name in _SAMPLES:
        pixels = samples[name]
        if original.size is not None:
            missing = [max(0, wanted - had) for wanted, had in zip(original.size, pixels.shape, strict=False)]
            pixels = np.pad(pixels, [*((0, extra) for extra in missing), (0, 0)], mode="reflect")
            pixels = pixels[: original.size[0], : original.size[1]]
        image = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).float() / 255
        yield rgb_to_ycbcr(image)[:, :1] if original.network_g["num_in_ch"] == 1 else image
