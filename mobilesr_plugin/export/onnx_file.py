"""The deploy graph as ONNX. The only module that imports onnx.

Height and width are dynamic, and padding is written as ``auto_pad=SAME_UPPER``: for stride 1 and odd
kernels it is the same as explicit pads, and converters make no separate PAD operator of it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilesr_plugin.errors import ExportError, MissingExtraError, UnsupportedNetworkError
from mobilesr_plugin.graph.int8 import quantize_bias, quantize_weight, weight_scales
from mobilesr_plugin.graph.ops import (
    Add,
    Clamp,
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

if TYPE_CHECKING:
    import onnx

OPSET = 17
INPUT, OUTPUT = "input", "output"


def write_onnx(
    graph: Graph, path: Path, *, integer_weights: bool = True, shifted_image: bool = False
) -> None:
    """Writes ``graph`` to ``path``: float32 (N, C, H, W) in [0, 1] in and out.

    Args:
        graph: Deploy graph. Where it is quantized, every value passes a QuantizeLinear and
            DequantizeLinear pair with the scale and zero point that the device uses.
        path: File to write.
        integer_weights: Of a quantized graph, write int8 weights and int32 biases with their
            DequantizeLinear; else the float weights that they come from.
        shifted_image: The image comes with the graph's offset subtracted, as int8 codes do by their
            zero point; else the file subtracts it.

    Raises:
        MissingExtraError: onnx is not installed.
        ExportError: the file cannot be written.
        UnsupportedNetworkError: an operator has no counterpart in ONNX.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "export") from error
    model = _Builder(graph, integer_weights, shifted_image).build()
    onnx.checker.check_model(model, full_check=True)
    try:
        path.write_bytes(model.SerializeToString())
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror}") from error


class _Builder:
    def __init__(self, graph: Graph, integer_weights: bool, shifted_image: bool) -> None:
        self.graph = _with_free_names(graph)
        self.shifted_image = shifted_image
        self.integer_weights = integer_weights and graph.quantized
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.value: dict[str, str] = {}  # operator name -> name of its result

    def build(self) -> onnx.ModelProto:
        from onnx import TensorProto, helper

        for op in self.graph:
            written = self._write(op)
            moves_only = isinstance(op, (Concat, DepthToSpace))
            rounded = op.output is not None and not moves_only
            self.value[op.name] = self._round(written, op.name, op.output) if rounded else written
        self._node("Identity", [self.value[self.graph.output.name]], OUTPUT)
        channels, scale = self.graph.channels(), self.graph.scale
        out_shape: list[str | int | None] = [
            "n",
            channels[self.graph.output.name],
            f"{scale}*h",
            f"{scale}*w",
        ]
        image = helper.make_tensor_value_info(
            INPUT, TensorProto.FLOAT, ["n", self.graph.input.channels, "h", "w"]
        )
        result = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, out_shape)
        made = helper.make_graph(self.nodes, "mobilesr", [image], [result], self.initializers)
        model = helper.make_model(
            made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="mobilesr-plugin"
        )
        model.ir_version = 8
        return model

    def _write(self, op: Op) -> str:
        inputs = [self.value[name] for name in op.inputs]
        match op:
            case Input():
                if self.shifted_image or not op.offset:
                    return INPUT
                offset = self._constant(f"{op.name}.offset", np.float32(op.offset))
                return self._node("Sub", [INPUT, offset], op.name)
            case Conv():
                return self._conv(op, inputs[0])
            case Add():
                added = self._node("Add", inputs, f"{op.name}.sum" if op.relu else op.name)
                return self._node("Relu", [added], op.name) if op.relu else added
            case Concat():
                return self._node("Concat", inputs, op.name, axis=1)
            case Repeat():
                return self._repeat(op, inputs[0])
            case DepthToSpace():
                return self._node("DepthToSpace", inputs, op.name, blocksize=op.block, mode="DCR")
            case ResizeBilinear():
                factors = np.array([1, 1, op.factor, op.factor], np.float32)
                constant = self._constant(f"{op.name}.factors", factors)
                return self._node(
                    "Resize",
                    [inputs[0], "", constant],
                    op.name,
                    mode="linear",
                    coordinate_transformation_mode="half_pixel",
                )
            case Relu():
                return self._node("Relu", inputs, op.name)
            case LeakyRelu():
                return self._node("LeakyRelu", inputs, op.name, alpha=op.slope)
            case PRelu():
                return self._node(
                    "PRelu", [*inputs, self._constant(f"{op.name}.slope", op.slope[:, None, None])], op.name
                )
            case Clamp():
                bounds = [
                    self._constant(f"{op.name}.{end}", np.float32(value))
                    for end, value in (("low", op.low), ("high", op.high))
                ]
                return self._node("Clip", [*inputs, *bounds], op.name)
        raise UnsupportedNetworkError(f"{op.name} ({type(op).__name__}) cannot be written to an ONNX file")

    def _conv(self, op: Conv, source: str) -> str:
        if self.integer_weights:
            input_q = self.graph[op.inputs[0]].output
            assert input_q is not None
            scales = weight_scales(op.weight)
            bias = quantize_bias(op.bias, input_q, scales)
            weight_name = self._dequantized(f"{op.name}.weight", quantize_weight(op.weight), scales)
            bias_name = self._dequantized(f"{op.name}.bias", bias, input_q.scale * scales)
        else:
            weight_name = self._constant(f"{op.name}.weight", op.weight)
            bias_name = self._constant(f"{op.name}.bias", op.bias)
        written = self._node(
            "Conv",
            [source, weight_name, bias_name],
            f"{op.name}.sum" if op.relu else op.name,
            auto_pad="SAME_UPPER",
            group=op.groups,
            kernel_shape=list(op.weight.shape[2:]),
            strides=[1, 1],
        )
        return self._node("Relu", [written], op.name) if op.relu else written

    def _repeat(self, op: Repeat, source: str) -> str:
        if self.integer_weights:
            codes, scales = quantize_weight(op.weight), weight_scales(op.weight)
            weight_name = self._dequantized(f"{op.name}.weight", codes, scales)
        else:
            weight_name = self._constant(f"{op.name}.weight", op.weight)
        return self._node("Conv", [source, weight_name], op.name, kernel_shape=[1, 1], strides=[1, 1])

    def _round(self, source: str, name: str, q: QParams | None) -> str:
        assert q is not None
        parameters = [
            self._constant(f"{name}.scale", np.float32(q.scale)),
            self._constant(f"{name}.zero_point", np.int8(q.zero_point)),
        ]
        codes = self._node("QuantizeLinear", [source, *parameters], f"{name}.int8")
        return self._node("DequantizeLinear", [codes, *parameters], f"{name}.real")

    def _dequantized(self, name: str, codes: np.ndarray, scales: np.ndarray) -> str:
        inputs = [
            self._constant(f"{name}.codes", codes),
            self._constant(f"{name}.scale", scales.astype(np.float32)),
            self._constant(f"{name}.zero_point", np.zeros(len(scales), codes.dtype)),
        ]
        return self._node("DequantizeLinear", inputs, name, axis=0)

    def _constant(self, name: str, value: np.ndarray | np.generic) -> str:
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}:{output}", **attributes))
        return output


def _with_free_names(graph: Graph) -> Graph:
    """Leaves ``input`` and ``output`` to the file: a network may have convolutions of these names."""
    own = {INPUT: f"{INPUT}.own", OUTPUT: f"{OUTPUT}.own"}
    ops = [
        replace(
            op,
            name=own.get(op.name, op.name),
            inputs=tuple(own.get(source, source) for source in op.inputs),
        )
        for op in graph
    ]
    return Graph(tuple(ops))
