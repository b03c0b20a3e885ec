"""Audit of an int8 file against its deploy graph: operators, then every number in it."""

from __future__ import annotations

import numpy as np

from mobilesr_plugin.graph.int8 import quantize_bias, quantize_weight, weight_scales
from mobilesr_plugin.graph.ops import Add, Concat, Conv, DepthToSpace, Graph, Input, Op, QParams
from mobilesr_plugin.verify.tflite_graph import TFLiteOperator, TFLiteTensor, read_operators

_KINDS = {Concat: "CONCATENATION", Conv: "CONV_2D", Add: "ADD", DepthToSpace: "DEPTH_TO_SPACE"}


def expected_operators(graph: Graph, io: str = "uint8") -> list[str]:
    """Returns the operators that an int8 file of ``graph`` has, and no others, sorted by name."""
    ends = {"uint8": ["QUANTIZE", "QUANTIZE"], "int8": [], "float32": ["QUANTIZE", "DEQUANTIZE"]}[io]
    if io == "float32" and graph.input.offset:
        ends.append("SUB")
    return sorted(ends + [_KINDS[type(op)] for op in graph if not isinstance(op, Input)])


def audit(content: bytes, graph: Graph, io: str = "uint8") -> list[str]:
    """Compares an int8 TFLite file with the deploy graph it was made from.

    Returns:
        What differs, one sentence each; empty if the operators are exactly the expected ones and all
        scales, zero points, int8 weights and int32 biases are equal.
    """
    operators = read_operators(content)
    kinds = sorted(operator.kind for operator in operators)
    expected = expected_operators(graph, io)
    if kinds != expected:
        return [f"operators are {', '.join(kinds)}; expected {', '.join(expected)}"]
    problems = []
    for op, operator in matched(graph, operators):
        assert op.output is not None
        if not _has_qparams(operator.outputs[0], op.output):
            problems.append(f"{op.name}: the output has another scale or zero point")
        if isinstance(op, Conv):
            problems += _audit_convolution(operator, op, graph)
    return problems


def matched(graph: Graph, operators: list[TFLiteOperator]) -> list[tuple[Op, TFLiteOperator]]:
    """Pairs each operator of the graph with the file's: the n-th of a kind with the n-th of that kind."""
    of_kind = {kind: iter([found for found in operators if found.kind == kind]) for kind in _KINDS.values()}
    return [(op, next(of_kind[_KINDS[type(op)]])) for op in graph if not isinstance(op, Input)]


def _audit_convolution(operator: TFLiteOperator, op: Conv, graph: Graph) -> list[str]:
    source = graph[op.inputs[0]].output
    assert source is not None
    _, weight, bias = operator.inputs
    scales = weight_scales(op.weight)
    checks = {
        "weight scales": np.array_equal(weight.scale, scales.astype(np.float32)),
        "int8 weights": _equal(weight.values, quantize_weight(op.weight).transpose(0, 2, 3, 1)),
        "int32 biases": _equal(bias.values, quantize_bias(op.bias, source, scales)),
    }
    return [f"{op.name}: the {what} differ" for what, same in checks.items() if not same]


def _equal(first: np.ndarray | None, second: np.ndarray) -> bool:
    return first is not None and np.array_equal(first, second)


def _has_qparams(tensor: TFLiteTensor, expected: QParams) -> bool:
    return bool(
        len(tensor.scale) == 1
        and tensor.scale[0] == np.float32(expected.scale)
        and tensor.zero_point[0] == expected.zero_point
    )
