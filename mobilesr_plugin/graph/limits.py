"""Keeps a quantized graph within what XNNPACK's kernels accept.

XNNPACK leaves an operator to slower kernels, or refuses the file, where scales differ too much: a
convolution needs ``input scale * weight scale / output scale < 256``, an addition
``2^-10 <= input scale / output scale < 2^8``. Trained networks get there with layers that are dead or
nearly so. Widening the range of such a layer costs nothing that could be seen: its whole content is
smaller than a step of its neighbours.

Source: https://github.com/google/XNNPACK, src/operators/convolution-nhwc.c and
src/operators/binary-elementwise-nd.c.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mobilesr_plugin.graph.int8 import qparams_of_range, weight_scales
from mobilesr_plugin.graph.ops import MOVING, Add, Conv, Graph, Input, Op, QParams

_MARGIN = 1.01
_LARGEST_CONVOLUTION_RATIO = 256.0
_SMALLEST_ADDITION_RATIO = 2.0**-10


def widen_ranges(graph: Graph) -> Graph:
    """Returns the graph with every range wide enough; the same graph where nothing is to be done."""
    if not graph.quantized:
        return graph
    ops = {op.name: op for op in graph}
    for _ in graph:  # a wider range can ask for another one behind it; each pass settles one more
        narrow = _first_too_narrow(ops)
        if narrow is None:
            break
        name, scale = narrow
        _widen(ops, name, scale)
    return Graph(tuple(ops.values()))


def _first_too_narrow(ops: dict[str, Op]) -> tuple[str, float] | None:
    """Returns the writer of the first value whose scale is too small, and the least scale for it."""
    for op in ops.values():
        if isinstance(op, Conv):
            least = _scale(ops, op.inputs[0]) * float(weight_scales(op.weight).max())
            least /= _LARGEST_CONVOLUTION_RATIO
            if _scale(ops, op.name) <= least:
                return op.name, least
        if isinstance(op, Add):
            for source in op.inputs:
                least = _scale(ops, op.name) * _SMALLEST_ADDITION_RATIO
                writer = _writer(ops, source)
                if _scale(ops, source) < least and not isinstance(ops[writer], Input):
                    return writer, least
    return None


def _widen(ops: dict[str, Op], name: str, scale: float) -> None:
    op = ops[name]
    assert op.output is not None
    low, high = replace(op.output, scale=scale * _MARGIN).range
    _set(ops, name, qparams_of_range(low, high))


def _set(ops: dict[str, Op], name: str, qparams: QParams) -> None:
    ops[name] = replace(ops[name], output=qparams)
    for op in list(ops.values()):
        if isinstance(op, MOVING) and name in op.inputs:
            _set(ops, op.name, qparams)


def _writer(ops: dict[str, Op], name: str) -> str:
    """Follows operators that only move values back to the one that wrote them."""
    while isinstance(ops[name], MOVING):
        name = ops[name].inputs[0]
    return name


def _scale(ops: dict[str, Op], name: str) -> float:
    qparams = ops[name].output
    assert qparams is not None
    return float(np.float32(qparams.scale))
