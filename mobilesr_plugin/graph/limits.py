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

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph.int8 import WEIGHT_QMAX, qparams_of_range, weight_scales
from mobilesr_plugin.graph.ops import MOVING, Add, Conv, Graph, Op

_MARGIN = 1.01
_LARGEST_CONVOLUTION_RATIO = 256.0
_SMALLEST_ADDITION_RATIO = 2.0**-10


def widen_ranges(graph: Graph, fixed: Collection[str] = ()) -> Graph:
    """Returns the graph with every range wide enough; the same graph where nothing is to be done.

    Operators that move values, or mix values of one range, keep the quantization of their input: all values
    that they connect are widened together.

    Args:
        graph: Deploy graph.
        fixed: Operators whose range is given, because a clamp is part of it. The image and the result are,
            too.

    Raises:
        UnsupportedNetworkError: the weights of a convolution are too large for a range that is given, or no
            ranges are wide enough for all; also values of one group with different quantization.
    """
    if not graph.quantized:
        return graph
    groups = _Groups(graph, fixed)
    ops = {op.name: op for op in graph}
    for _ in range(len(ops) ** 2):  # a wider range can ask for another one in front of it, or behind
        narrow = _first_too_narrow(ops, groups)
        if narrow is None:
            return Graph(tuple(ops.values()))
        name, scale = narrow
        output = ops[name].output
        assert output is not None
        wider = qparams_of_range(*replace(output, scale=scale * _MARGIN).range)
        for member in groups.members(name):
            ops[member] = replace(ops[member], output=wider)
    raise UnsupportedNetworkError(
        "no ranges of its values keep this network within what XNNPACK computes: its weights grow from layer "
        "to layer; train it again, with a lower learning rate"
    )


class _Groups:
    """Values that must share one quantization, because operators move them unchanged."""

    def __init__(self, graph: Graph, fixed: Collection[str]) -> None:
        self._group = {op.name: {op.name} for op in graph}
        for op in graph:
            if isinstance(op, MOVING):
                for source in op.inputs:
                    self._check(graph[source], op)
                    self._join(source, op.name)
        given = {graph.input.name, graph.output.name, *fixed}
        self._fixed = {name for name, group in self._group.items() if group & given}

    def _join(self, first: str, second: str) -> None:
        joined = self._group[first] | self._group[second]
        self._group.update(dict.fromkeys(joined, joined))

    @staticmethod
    def _check(source: Op, op: Op) -> None:
        if source.output != op.output:
            raise UnsupportedNetworkError(
                f"{op.name} ({type(op).__name__}) moves values of one quantization, but that of "
                f"{source.name} is another one than its own"
            )

    def members(self, name: str) -> set[str]:
        return self._group[name]

    def fixed(self, name: str) -> bool:
        return name in self._fixed


def _first_too_narrow(ops: dict[str, Op], groups: _Groups) -> tuple[str, float] | None:
    """Returns the first value whose scale is too small, and the least scale for it."""
    for op in ops.values():
        if isinstance(op, Conv):
            largest = float(weight_scales(op.weight).max())
            least = _scale(ops, op.inputs[0]) * largest / _LARGEST_CONVOLUTION_RATIO
            if _scale(ops, op.name) <= least:
                if groups.fixed(op.name):
                    raise UnsupportedNetworkError(
                        f"{op.name}: its weights, up to {largest * WEIGHT_QMAX:g}, are too large for the "
                        "range of its result, which is given; the network has diverged, train it again"
                    )
                return op.name, least
        if isinstance(op, Add):
            least = _scale(ops, op.name) * _SMALLEST_ADDITION_RATIO
            for source in op.inputs:
                # A given range stays: then TFLite's own kernel adds, which integer validation knows.
                if _scale(ops, source) < least and not groups.fixed(source):
                    return source, least
    return None


def _scale(ops: dict[str, Op], name: str) -> float:
    qparams = ops[name].output
    assert qparams is not None
    return float(np.float32(qparams.scale))
