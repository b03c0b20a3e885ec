"""The operators of an int8 file as rows of a table, and the ranges of its values as bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilesr_plugin.verify.tflite_graph import TFLiteOperator, TFLiteTensor, read_operators

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclass(frozen=True)
class OperatorRow:
    """One operator.

    Attributes:
        number: From 1, in order of execution.
        kind: TFLite's name.
        shape: Of its result, such as ``1 x 360 x 640 x 28``.
        dtype: Of its result.
        scale, zero_point: Of its result; None if it is not quantized.
        weights: Shape of its weights; empty if it has none.
        weight_scales: Smallest and largest scale of its weights, of which each output channel has one.
        parameters: Weights and biases.
    """

    number: int
    kind: str
    shape: str
    dtype: str
    scale: float | None
    zero_point: int | None
    weights: str
    weight_scales: str
    parameters: int


@dataclass(frozen=True)
class RangeBar:
    """Range of the int8 codes of a result: real ends, and where it lies on the common axis, in percent."""

    label: str
    low: float
    high: float
    left: float
    width: float


def operator_rows(content: bytes) -> list[OperatorRow]:
    """Returns a row for each operator of a TFLite file."""
    return [_row(number, operator) for number, operator in enumerate(read_operators(content), start=1)]


def range_bars(rows: Sequence[OperatorRow]) -> tuple[list[RangeBar], float]:
    """Returns the ranges of int8 results, and where 0 lies on their common axis, in percent."""
    found = [
        (f"{row.number} {row.kind}", (-128 - row.zero_point) * row.scale, (127 - row.zero_point) * row.scale)
        for row in rows
        if row.dtype == "int8" and row.scale is not None and row.zero_point is not None
    ]
    if not found:
        return [], 0.0
    lowest = min(0.0, *(low for _, low, _ in found))
    highest = max(0.0, *(high for _, _, high in found))
    whole = highest - lowest
    bars = [
        RangeBar(name, low, high, 100 * (low - lowest) / whole, 100 * (high - low) / whole)
        for name, low, high in found
    ]
    return bars, -100 * lowest / whole


def _row(number: int, operator: TFLiteOperator) -> OperatorRow:
    result = operator.outputs[0]
    constants = [tensor for tensor in operator.inputs if tensor.values is not None]
    weight = constants[0] if operator.kind in _CONVOLUTIONS and constants else None
    quantized = len(result.scale) == 1
    return OperatorRow(
        number,
        operator.kind,
        shape_text(result),
        result.dtype,
        float(result.scale[0]) if quantized else None,
        int(result.zero_point[0]) if quantized else None,
        shape_text(weight) if weight else "",
        _scales(weight.scale) if weight else "",
        sum(tensor.values.size for tensor in constants if tensor.values is not None) if weight else 0,
    )


def shape_text(tensor: TFLiteTensor) -> str:
    """Returns a shape with letters for what may vary."""
    names = dict(zip(range(4), "NHWC", strict=True))
    return " x ".join(
        names.get(axis, "?") if side < 0 else str(side) for axis, side in enumerate(tensor.shape)
    )


def _scales(scales: np.ndarray) -> str:
    if not len(scales):
        return ""
    return f"{scales.min():.2g} to {scales.max():.2g}" if scales.min() < scales.max() else f"{scales[0]:.2g}"
