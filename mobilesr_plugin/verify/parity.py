"""Parity: do two ways to run a network give the same pixels, and if not, where does it begin?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from mobilesr_plugin.errors import VerificationError
from mobilesr_plugin.graph.ops import Graph
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import TFLiteRunner, to_uint8
from mobilesr_plugin.verify.audit import matched
from mobilesr_plugin.verify.tflite_graph import read_operators, with_all_outputs

Runner = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Parity:
    """Result of a comparison over some images.

    Attributes:
        pixels: Values compared (all channels).
        mismatched: How many differ.
        max_abs_diff: The largest difference, in steps of 1/255.
    """

    pixels: int
    mismatched: int
    max_abs_diff: int


@dataclass(frozen=True)
class LayerDifference:
    """The first operator whose int8 codes differ between validation and the device."""

    layer: str
    mismatched: int
    values: int
    max_abs_diff: int

    def __str__(self) -> str:
        return (
            f"the first difference is in {self.layer}: {self.mismatched} of {self.values} values, "
            f"by up to {self.max_abs_diff}"
        )


def network_runner(network: torch.nn.Module) -> Runner:
    """Returns a function from (N, H, W, C) uint8 to (N, H * s, W * s, C) uint8 that runs ``network``."""

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            result = network(to_tensor(pixels))
        return to_uint8(result.permute(0, 2, 3, 1).numpy())

    return run


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(N, H, W, C) uint8 -> (N, C, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255


def compare(reference: Runner, candidate: Runner, images: Iterable[np.ndarray]) -> Parity:
    """Runs both on every (H, W, C) uint8 image and compares all values of their results.

    Raises:
        VerificationError: the results are not of one shape, or there is no image to compare them on.
    """
    pixels = mismatched = largest = 0
    for image in images:
        expected, got = (run(image[None]) for run in (reference, candidate))
        if expected.shape != got.shape:
            raise VerificationError(
                f"an image of {_sides(image)} becomes one of {_sides(got[0])}; the reference makes "
                f"{_sides(expected[0])} of it"
            )
        difference = np.abs(expected.astype(np.int16) - got)
        pixels += difference.size
        mismatched += int(np.count_nonzero(difference))
        largest = max(largest, int(difference.max()))
    if not pixels:
        raise VerificationError("there is no image to compare results on, so nothing is verified")
    return Parity(pixels, mismatched, largest)


def _sides(image: np.ndarray) -> str:
    return "x".join(map(str, image.shape))


def first_difference(graph: Graph, content: bytes, image: np.ndarray, kernels: str) -> LayerDifference | None:
    """Finds the first layer whose codes differ between integer validation and an int8 TFLite file.

    Args:
        graph: The deploy graph of the file.
        content: The file; its operators must be those of the graph (see ``audit``).
        image: (H, W, C) uint8.
        kernels: ``xnnpack`` or ``tflite_builtin``.

    Returns:
        The first difference; None if all layers are equal.
    """
    exposed, results = with_all_outputs(content)
    runner = TFLiteRunner(exposed, kernels=kernels)
    device = dict(zip((tensor.index for tensor in results), runner.outputs(image[None])[1:], strict=True))
    network = IntegerNetwork(graph, kernels, fixed_size=runner.fixed_size is not None)
    expected = network.codes(to_tensor(image[None]))
    for op, operator in matched(graph, read_operators(content)):
        codes = device.get(operator.outputs[0].index)
        if codes is None:
            continue  # the file's own output, which has no codes left to compare
        difference = np.abs(expected[op.name].permute(0, 2, 3, 1).numpy() - codes.astype(np.float32))
        if difference.any():
            layer, wrong = op.name, int(np.count_nonzero(difference))
            return LayerDifference(layer, wrong, difference.size, int(difference.max()))
    return None
