"""The result of an accuracy comparison, as numbers, as JSON and as Markdown tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mobilesr_plugin.versions import versions

if TYPE_CHECKING:
    from mobilesr_plugin.bench.candidates import Candidate


@dataclass(frozen=True)
class ImageSet:
    """A folder of HR images.

    Attributes:
        name: The folder's name; its parent's if it is called ``HR`` or ``GTmod12``.
        images: File names, in order.
    """

    name: str
    images: tuple[str, ...]


@dataclass(frozen=True)
class Scores:
    """One model on one set under one protocol.

    Attributes:
        psnr: dB for each image; infinite where nothing differs.
        ssim: For each image; None if it was not asked for.
    """

    psnr: tuple[float, ...]
    ssim: tuple[float, ...] | None

    @property
    def mean_psnr(self) -> float:
        """Mean over the images."""
        return math.fsum(self.psnr) / len(self.psnr)

    @property
    def mean_ssim(self) -> float | None:
        """Mean over the images."""
        return None if self.ssim is None else math.fsum(self.ssim) / len(self.ssim)


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        name: What the table calls it.
        candidate: The model.
        scores: By protocol, one for each set.
    """

    name: str
    candidate: Candidate
    scores: dict[str, tuple[Scores, ...]]

    def mean_psnr(self, protocol: str) -> float:
        """Mean over the sets, in dB."""
        own = self.scores[protocol]
        return math.fsum(scores.mean_psnr for scores in own) / len(own)

    def mean_ssim(self, protocol: str) -> float | None:
        """Mean over the sets; None if it was not asked for."""
        values = [scores.mean_ssim for scores in self.scores[protocol]]
        known = [value for value in values if value is not None]
        return math.fsum(known) / len(known) if known else None


@dataclass(frozen=True)
class Accuracy:
    """Result of a comparison.

    Attributes:
        scale: Upscaling factor of all models.
        protocols: Their names.
        sets: The folders.
        rows: bicubic, then the models in the order given.
    """

    scale: int
    protocols: tuple[str, ...]
    sets: tuple[ImageSet, ...]
    rows: tuple[Row, ...]

    def loss(self, row: Row, protocol: str) -> float | None:
        """Returns what int8 costs: PSNR of the float network minus ``row``'s, means over the sets, in dB.

        None if ``row`` is not int8, or the float network of its checkpoint is not among the rows. The
        checkpoint of an exported file is known from the report.json beside it.
        """
        made_from = row.candidate.checkpoint
        if row.candidate.kind != "int8" or made_from is None:
            return None
        for other in self.rows:
            if other.candidate.kernels == "torch" and other.candidate.checkpoint == made_from:
                return other.mean_psnr(protocol) - row.mean_psnr(protocol)
        return None


def to_json(accuracy: Accuracy) -> dict[str, Any]:
    """Returns the content of a JSON file; an infinite PSNR (nothing differs) is null there."""
    return {
        "scale": accuracy.scale,
        "protocols": list(accuracy.protocols),
        "sets": [
            {"name": own.name, "count": len(own.images), "images": list(own.images)} for own in accuracy.sets
        ],
        "models": [
            {
                "name": row.name,
                "file": row.candidate.path.name if row.candidate.path else None,
                "sha256": row.candidate.sha256,
                "kind": row.candidate.kind,
                "kernels": row.candidate.kernels,
                "results": {protocol: _results(accuracy, row, protocol) for protocol in accuracy.protocols},
            }
            for row in accuracy.rows
        ],
        "versions": versions(),
    }


def _results(accuracy: Accuracy, row: Row, protocol: str) -> dict[str, Any]:
    return {
        "psnr": _finite(row.mean_psnr(protocol)),
        "ssim": row.mean_ssim(protocol),
        "loss": _finite(accuracy.loss(row, protocol)),
        "sets": {
            own.name: {
                "psnr": _finite(scores.mean_psnr),
                "ssim": scores.mean_ssim,
                "psnr_of_images": [_finite(value) for value in scores.psnr],
                "ssim_of_images": None if scores.ssim is None else list(scores.ssim),
            }
            for own, scores in zip(accuracy.sets, row.scores[protocol], strict=True)
        },
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def markdown(content: dict[str, Any]) -> str:
    """Returns a table for each protocol.

    Args:
        content: What :func:`to_json` returned, or the same read from a file.

    Returns:
        A line that names what is shown, an empty line, the table; tables are separated by an empty line.
    """
    return "\n".join(_table(content, protocol) for protocol in content["protocols"])


def _table(content: dict[str, Any], protocol: str) -> str:
    sets = [own["name"] for own in content["sets"]]
    results = [model["results"][protocol] for model in content["models"]]
    with_mean = len(sets) > 1
    with_loss = any(result["loss"] is not None for result in results)
    with_ssim = any(result["ssim"] is not None for result in results)
    head = ["model", *sets, *["mean"] * with_mean, *["loss"] * with_loss]
    what = "PSNR in dB / SSIM" if with_ssim else "PSNR in dB"
    lines = [
        f"`{protocol}`, x{content['scale']}, {what}:",
        "",
        f"| {' | '.join(head)} |",
        "|---|" + "---:|" * (len(head) - 1),
    ]
    for model, result in zip(content["models"], results, strict=True):
        cells = [_cell(result["sets"][name]) for name in sets] + [_cell(result)] * with_mean
        loss = "" if result["loss"] is None else f"{result['loss']:.3f}"
        lines.append(f"| {' | '.join([model['name'], *cells, *[loss] * with_loss])} |")
    return "\n".join(lines) + "\n"


def _cell(scores: dict[str, Any]) -> str:
    text = "inf" if scores["psnr"] is None else f"{scores['psnr']:.3f}"
    return text if scores["ssim"] is None else f"{text} / {scores['ssim']:.4f}"
