"""The receptive field of a TFLite file, read from its operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from mobilesr_plugin.errors import MissingExtraError
from mobilesr_plugin.runtimes import TFLiteRunner
from mobilesr_plugin.upscaling.reach import Field, Memory, NotTileableError, Reach, larger, union

_PROBE = 24  # side of the image that tells the shapes of values in a file for any size

# fmt: off
_POINTWISE = frozenset((
    "QUANTIZE", "DEQUANTIZE", "CAST", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU",
    "PRELU", "ELU", "HARD_SWISH", "GELU", "LOGISTIC", "TANH", "ABS", "NEG", "ADD", "ADD_N", "SUB",
    "MUL", "DIV", "MINIMUM", "MAXIMUM", "CONCATENATION", "SQUARE", "SQRT", "RSQRT", "EXP", "POW",
))
# fmt: on
# Operators of files for any size that compute shapes, not pixels.
_OF_SHAPES = frozenset(
    ("SHAPE", "STRIDED_SLICE", "PACK", "CONCATENATION", "CAST", "MUL", "SLICE", "GATHER", "RESHAPE")
)
_SAME = 0  # the schema's Padding.SAME
_CHANNELS = 3  # axis


def field_of_tflite(content: bytes) -> Field:
    """Returns the receptive field of the first graph of a TFLite file.

    Raises:
        NotTileableError: an operator is not known to look at a fixed neighbourhood only.
        MissingExtraError: ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise MissingExtraError("ai-edge-litert", "export") from error
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    file = _File(model, kinds, *_shapes(content))
    return larger(file.field(0), file.field(1))


def _shapes(content: bytes) -> tuple[list[tuple[int, ...]], bool]:
    """Shape of every tensor when the file runs, on a small image if it takes any size, and whether so."""
    runner = TFLiteRunner(content, threads=1, kernels="tflite_builtin")
    if runner.fixed_size is None:
        runner(np.zeros((1, _PROBE, _PROBE, runner.channels), np.uint8))
    return runner.shapes(), runner.fixed_size is None


class _File:
    def __init__(
        self, model: Any, kinds: dict[int, str], shapes: list[tuple[int, ...]], any_size: bool
    ) -> None:
        self.model, self.graph, self.kinds, self.shapes = model, model.subgraphs[0], kinds, shapes
        self.any_size = any_size
        self.memory = Memory()
        self.computed: set[int] = set()  # tensors that are no pictures, but come from the image or its size

    def field(self, axis: int) -> Field:
        """Along ``axis``: 0 for height, 1 for width."""
        (image,) = self.graph.inputs
        self.memory, self.computed = Memory(), set()
        reach: dict[int, Reach] = {int(image): Reach()}
        for operator in self.graph.operators:
            read = [int(tensor) for tensor in operator.inputs if tensor in reach]
            if not read:
                if self.computed & {int(tensor) for tensor in operator.inputs}:
                    self.computed.update(int(tensor) for tensor in operator.outputs)
                continue  # else constants only
            made = self._reach(operator, [reach[tensor] for tensor in read], read, axis)
            if made is None:
                self.computed.update(int(tensor) for tensor in operator.outputs)
            else:
                reach.update({int(tensor): made for tensor in operator.outputs})
        output = int(self.graph.outputs[0])
        if output not in reach:
            raise NotTileableError("the output does not depend on the image")
        return reach[output].field(self.memory)

    def _reach(self, operator: Any, sources: list[Reach], read: list[int], axis: int) -> Reach | None:
        """Reach of an operator's result; None for one that is no picture."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        kind = self.kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
        options = operator.builtinOptions
        side = 1 + axis
        if any(len(self.shapes[int(tensor)]) != 4 for tensor in operator.outputs):
            if kind in _OF_SHAPES:
                return None
            raise NotTileableError(f"{kind} makes what is no picture")
        resize = kind in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
        if not resize and self.computed & {int(tensor) for tensor in operator.inputs}:
            raise NotTileableError(
                f"{kind} reads what is computed from the image's size or all of its pixels"
            )
        match kind:
            case "CONV_2D" | "DEPTHWISE_CONV_2D":
                stride = options.strideH if axis == 0 else options.strideW
                dilation = options.dilationHFactor if axis == 0 else options.dilationWFactor
                if stride != 1 or len(read) != 1:
                    raise NotTileableError(f"{kind} with stride {stride}")
                outputs, *kernels, inputs = self.shapes[int(operator.inputs[1])]
                self.memory.convolution((outputs, inputs, *kernels), sources[0].factor)
                return sources[0].convolution(
                    kernels[axis], dilation, None if options.padding == _SAME else 0
                )
            case "DEPTH_TO_SPACE":
                return sources[0].repeated(options.blockSize)
            case "PAD" | "PADV2" if len(read) == 1:
                return sources[0].moved(int(self._constant(operator.inputs[1]).reshape(4, 2)[side, 0]))
            case "RESIZE_BILINEAR" | "RESIZE_NEAREST_NEIGHBOR":
                if self.any_size and int(operator.inputs[1]) not in self.computed:
                    raise NotTileableError(f"{kind} to one size, whatever that of the image is")
                factor = self._factor(int(operator.inputs[0]), int(operator.outputs[0]), side)
                if options.alignCorners or not options.halfPixelCenters:
                    raise NotTileableError(f"{kind} whose pixel centres depend on the image's size")
                resized = sources[0].resized(factor, 1)
                return resized if kind == "RESIZE_BILINEAR" else sources[0].repeated(factor)
            case "CONCATENATION" if options.axis not in (_CHANNELS, -1):
                raise NotTileableError("pictures are joined side by side")
            case _ if kind in _POINTWISE and self._broadcasts_channels_only(operator, read):
                return union(sources)
        raise NotTileableError(f"{kind} is not known to look at a fixed neighbourhood only")

    def _broadcasts_channels_only(self, operator: Any, read: list[int]) -> bool:
        """Whether the operator's constants are the same at every place."""
        constants = [int(tensor) for tensor in operator.inputs if tensor >= 0 and int(tensor) not in read]
        shapes = [self.shapes[tensor] for tensor in constants]
        return all(all(size == 1 for size in shape[:-1]) for shape in shapes)

    def _factor(self, source: int, result: int, side: int) -> int:
        before, after = self.shapes[source][side], self.shapes[result][side]
        if after % before:
            raise NotTileableError("a picture is resized by a fraction")
        return after // before

    def _constant(self, tensor: int) -> np.ndarray:
        described = self.graph.tensors[tensor]
        data = self.model.buffers[described.buffer].data
        if data is None:
            raise NotTileableError("a padding is computed")
        return np.frombuffer(bytes(data), np.int64 if described.type == 4 else np.int32)
