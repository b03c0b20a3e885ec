"""Audit of an int8 file against its deploy graph: operators, then every number in it."""

from __future__ import annotations

import numpy as np

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph.int8 import quantize_bias, quantize_slopes, quantize_weight, weight_scales
from mobilesr_plugin.graph.ops import (
    Add,
    Concat,
    Conv,
    DepthToSpace,
    Graph,
    Input,
    LeakyRelu,
    Op,
    PRelu,
    QParams,
    Relu,
    Repeat,
    ResizeBilinear,
)
from mobilesr_plugin.verify.tflite_graph import TFLiteOperator, TFLiteTensor, read_operators

_KINDS = {
    Add: "ADD",
    Concat: "CONCATENATION",
    DepthToSpace: "DEPTH_TO_SPACE",
    LeakyRelu: "LEAKY_RELU",
    PRelu: "PRELU",
    Relu: "RELU",
    Repeat: "CONV_2D",
    ResizeBilinear: "RESIZE_BILINEAR",
}
_ENDS = ("QUANTIZE", "DEQUANTIZE", "SUB")  # between the file's ends and int8 codes
#: In a file for any size these compute, from the size of the image, the size to resize to.
_SIZE_ARITHMETIC = ("SHAPE", "SLICE", "STRIDED_SLICE", "PACK", "CAST", "MUL")


def expected_operators(graph: Graph, io: str = "uint8") -> list[str]:
    """Returns the operators that an int8 file of ``graph`` has, and no others, sorted by name.

    Left out is the arithmetic on sizes, by which a file for any size finds the result of a resize.
    """
    ends = {"uint8": ["QUANTIZE", "DEQUANTIZE"] * 2, "int8": [], "float32": ["QUANTIZE", "DEQUANTIZE"]}[io]
    if io == "float32" and graph.input.offset:
        ends.append("SUB")
    return sorted(ends + [_kind(op) for op in graph if not isinstance(op, Input)])


def audit(content: bytes, graph: Graph, io: str = "uint8") -> list[str]:
    """Compares an int8 TFLite file with the deploy graph it was made from.

    Returns:
        What differs, one sentence each; empty if the operators are exactly the expected ones, read what
        they should, and all scales, zero points, int8 weights and slopes and int32 biases are equal.
    """
    operators = read_operators(content)
    resizes = any(isinstance(op, ResizeBilinear) for op in graph)
    kinds = sorted(found.kind for found in operators if not (resizes and found.kind in _SIZE_ARITHMETIC))
    expected = expected_operators(graph, io)
    if kinds != expected:
        return [f"operators are {', '.join(kinds)}; expected {', '.join(expected)}"]
    problems = []
    pairs = matched(graph, operators)
    found = {op.name for op, _ in pairs}
    for op in graph:
        if not isinstance(op, Input) and op.name not in found:
            problems.append(f"{op.name}: no {_kind(op)} in the file reads {' and '.join(op.inputs)}")
    for op, operator in pairs:
        assert op.output is not None
        if not _has_qparams(operator.outputs[0], op.output):
            problems.append(f"{op.name}: the output has another scale or zero point")
        if isinstance(op, Conv):
            problems += _audit_convolution(operator, op, graph)
        if isinstance(op, Repeat) and not _same_weights(operator, op):
            problems.append(f"{op.name}: the weights are not those of copies")
        if isinstance(op, PRelu):
            problems += _audit_slopes(operator, op)
    return problems


def matched(graph: Graph, operators: list[TFLiteOperator]) -> list[tuple[Op, TFLiteOperator]]:
    """Pairs operators of the graph with the file's that are of the same kind and read the same values.

    The file's order may be another one. Of several candidates (two convolutions of one value) the one
    with the same weights is taken. An operator without a counterpart is left out.
    """
    tensor = {graph.input.name: _image_tensor(operators)}
    free = list(operators)
    pairs = []
    for op in graph:
        if isinstance(op, Input):
            continue
        sources = [tensor.get(name) for name in op.inputs]
        candidates = [
            found for found in free if found.kind == _kind(op) and _reads(found, sources, isinstance(op, Add))
        ]
        if candidates:
            chosen = max(candidates, key=lambda found: _same_weights(found, op))
            free.remove(chosen)
            tensor[op.name] = chosen.outputs[0].index
            pairs.append((op, chosen))
    return pairs


def _kind(op: Op) -> str:
    if isinstance(op, Conv):
        return "DEPTHWISE_CONV_2D" if op.groups > 1 else "CONV_2D"
    if type(op) not in _KINDS:
        raise UnsupportedNetworkError(f"{op.name} ({type(op).__name__}) has no operator of TFLite's")
    return _KINDS[type(op)]


def _image_tensor(operators: list[TFLiteOperator]) -> int:
    """Returns the first int8 tensor: the image in codes."""
    produced = {out.index: found for found in operators for out in found.outputs}
    for operator in operators:
        for source in operator.inputs:
            made_by = produced.get(source.index)
            if source.dtype == "int8" and source.values is None and (not made_by or made_by.kind in _ENDS):
                return source.index
    return -1


def _reads(operator: TFLiteOperator, sources: list[int | None], any_order: bool) -> bool:
    known = [source for source in sources if source is not None]
    if len(known) < len(sources):  # what it should read is not in the file
        return False
    read = [tensor.index for tensor in operator.inputs if tensor.dtype == "int8" and tensor.values is None]
    return sorted(read) == sorted(known) if any_order else read == known


def _same_weights(operator: TFLiteOperator, op: Op) -> bool:
    if not isinstance(op, (Conv, Repeat)):
        return False
    depthwise = isinstance(op, Conv) and op.groups > 1
    # (O, I, K, K) as TFLite keeps it: (O, K, K, I), or (1, K, K, O) for a depthwise convolution
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    return _equal(operator.inputs[1].values, quantize_weight(op.weight).transpose(order))


def _audit_convolution(operator: TFLiteOperator, op: Conv, graph: Graph) -> list[str]:
    source = graph[op.inputs[0]].output
    assert source is not None
    _, weight, bias = operator.inputs
    scales = weight_scales(op.weight)
    checks = {
        "weight scales": np.array_equal(weight.scale, scales.astype(np.float32)),
        "int8 weights": _same_weights(operator, op),
        "int32 biases": _equal(bias.values, quantize_bias(op.bias, source, scales)),
    }
    return [f"{op.name}: the {what} differ" for what, same in checks.items() if not same]


def _audit_slopes(operator: TFLiteOperator, op: PRelu) -> list[str]:
    codes, scale, zero_point = quantize_slopes(op.slope)
    slopes = operator.inputs[1]
    same = slopes.values is not None and np.array_equal(slopes.values.reshape(-1), codes)
    same = same and slopes.scale[0] == np.float32(scale) and slopes.zero_point[0] == zero_point
    return [] if same else [f"{op.name}: the slopes differ"]


def _equal(first: np.ndarray | None, second: np.ndarray) -> bool:
    return first is not None and np.array_equal(first, second)


def _has_qparams(tensor: TFLiteTensor, expected: QParams) -> bool:
    return bool(
        len(tensor.scale) == 1
        and tensor.scale[0] == np.float32(expected.scale)
        and tensor.zero_point[0] == expected.zero_point
    )
