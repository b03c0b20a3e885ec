"""What reading another project's checkpoint gives: our weights, and the original itself to judge them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from mobilesr_plugin.errors import CheckpointError

# (1, H, W, C) float32 in [0, 1] -> (1, H * scale, W * scale, C), computed by the original's own code.
Judge = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Original:
    """A checkpoint of another project, converted, not yet verified.

    Attributes:
        network_g: The network, as in an option file.
        params: Its weights.
        judge: Runs the original on an image, without anything of the conversion.
        judged_by: What ``judge`` is, for the user: "its serving signature".
        size: (height, width) of images that ``judge`` takes; None: any.
        notes: What the user has to know, one sentence each.
    """

    network_g: dict[str, Any]
    params: dict[str, torch.Tensor]
    judge: Judge
    judged_by: str
    size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()


class Reader(Protocol):
    """The function ``read`` of a format: from a path to the original.

    Raises:
        CheckpointError: nothing there, damaged, or of another network; the message names the variable.
        MissingExtraError: a package that reads this format is not installed.
    """

    def __call__(self, source: Any, **options: Any) -> Original: ...


def other_network(source: object, network: str, problem: str) -> CheckpointError:
    """Returns the error for variables that are not those of ``network``."""
    return CheckpointError(
        f"{source} does not hold {network}: {problem}; check the format and the path (the formats: mobilesr "
        "import --help)"
    )
