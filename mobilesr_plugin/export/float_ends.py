"""uint8 ends that XNNPACK runs.

TFLite's converter puts a QUANTIZE between uint8 and int8, for which XNNPACK has no kernel: it would run on
one thread, and take a fifth of the time of ABPN. The same codes come out of a DEQUANTIZE to float32 and a
QUANTIZE from there, which XNNPACK runs on all threads: (q - z) * s and back again is q on any kernel,
because what is rounded lies within 1e-4 of a whole number.
"""

from __future__ import annotations

import copy
from typing import Any

from mobilesr_plugin.tflite_model import TFLiteModel

_DEQUANTIZE_OF_INT8 = 2  # the version of the operator that knows it
_NO_BUFFER = 0  # the schema's name for a tensor that is computed


def through_float(content: bytes) -> bytes:
    """Returns an int8 file whose QUANTIZE from and to uint8 ends go through float32.

    Args:
        content: A TFLite file.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = TFLiteModel(content)
    graph = model.graph
    ends = {*map(int, graph.inputs), *map(int, graph.outputs)}
    operators: list[Any] = []
    for operator, kind in zip(graph.operators, model.kinds, strict=True):
        source, target = int(operator.inputs[0]), int(operator.outputs[0])
        if kind == "QUANTIZE" and {source, target} & ends:
            between = copy.copy(graph.tensors[source])
            between.name += b"_float32"
            between.type, between.buffer = schema.TensorType.FLOAT32, _NO_BUFFER
            between.quantization = None
            graph.tensors.append(between)
            dequantize = schema.OperatorT()
            dequantize.opcodeIndex = model.operator_code("DEQUANTIZE", _DEQUANTIZE_OF_INT8)
            dequantize.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
            dequantize.builtinOptions = schema.DequantizeOptionsT()
            dequantize.inputs, dequantize.outputs = [source], [len(graph.tensors) - 1]
            operator.inputs = dequantize.outputs
            operators.append(dequantize)
        operators.append(operator)
    graph.operators = operators
    return model.packed(signatures=True)
