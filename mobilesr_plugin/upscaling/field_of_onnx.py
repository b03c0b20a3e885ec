"""The receptive field of an ONNX file, read from its operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from mobilesr_plugin.errors import MissingExtraError
from mobilesr_plugin.upscaling.reach import Field, Memory, NotTileableError, Reach, larger, union

# fmt: off
_POINTWISE = frozenset((
    "QuantizeLinear", "DequantizeLinear", "Identity", "Cast", "Relu", "LeakyRelu", "PRelu", "Elu",
    "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Gelu", "Abs", "Neg", "Exp", "Sqrt", "Pow",
    "Add", "Sum", "Sub", "Mul", "Div", "Min", "Max", "Concat",
))
# fmt: on
_NEIGHBOURS = {"linear": 1, "cubic": 2}


def field_of_onnx(content: bytes) -> Field:
    """Returns the receptive field of an ONNX file.

    Raises:
        NotTileableError: an operator is not known to look at a fixed neighbourhood only.
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "export") from error
    graph = onnx.load_from_string(content).graph
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    nodes = []
    for node in graph.node:
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "Constant" and "value" in attributes:
            constants[node.output[0]] = onnx.numpy_helper.to_array(attributes["value"])
        elif set(node.input) <= constants.keys() and node.op_type == "DequantizeLinear":
            constants[node.output[0]] = constants[node.input[0]]  # the shape is all that is asked for
        else:
            nodes.append((node, attributes))
    image = next(each.name for each in graph.input if each.name not in constants)
    fields = []
    for axis in (0, 1):
        reach, memory = {image: Reach()}, Memory()
        for node, attributes in nodes:
            made = _reach(node, attributes, reach, constants, axis)
            if node.op_type == "Conv":
                memory.convolution(constants[node.input[1]].shape, made.factor)
            reach.update(dict.fromkeys(node.output, made))
        fields.append(reach[graph.output[0].name].field(memory))
    return larger(*fields)


def _reach(
    node: Any,
    attributes: dict[str, Any],
    reach: dict[str, Reach],
    constants: dict[str, np.ndarray],
    axis: int,
) -> Reach:
    kind, side = node.op_type, 2 + axis
    fixed = [name for name in node.input if name and name not in reach]
    sources = [reach[name] for name in node.input if name in reach]
    if not sources or not all(name in constants for name in fixed):
        raise NotTileableError(f"{kind} reads what is computed from shapes")
    match kind:
        case "Conv":
            shape = constants[node.input[1]].shape if node.input[1] in constants else ()
            strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
            if len(shape) != 4 or strides[axis] != 1:
                raise NotTileableError(f"{kind} with strides {strides}")
            automatic = attributes.get("auto_pad", b"NOTSET")
            same = automatic == b"SAME_UPPER"
            if not same and automatic != b"NOTSET":
                raise NotTileableError(f"{kind} with auto_pad {automatic!r}")
            padding = None if same else attributes.get("pads", [0, 0, 0, 0])[axis]
            return sources[0].convolution(shape[side], dilations[axis], padding)
        case "DepthToSpace":
            return sources[0].repeated(attributes["blocksize"])
        case "Pad" if len(node.input) > 1 and node.input[1] in constants:
            return sources[0].moved(int(constants[node.input[1]][side]))
        case "Resize":
            return _resized(node, attributes, sources[0], constants, side)
        case "Concat" if attributes["axis"] not in (1, -3):
            raise NotTileableError("pictures are joined side by side")
        case _ if kind in _POINTWISE and all(_same_everywhere(constants[name]) for name in fixed):
            return union(sources)
    raise NotTileableError(f"{kind} is not known to look at a fixed neighbourhood only")


def _resized(
    node: Any, attributes: dict[str, Any], source: Reach, constants: dict[str, np.ndarray], side: int
) -> Reach:
    scales = constants.get(node.input[2]) if len(node.input) > 2 else None
    if scales is None or scales.size != 4 or scales[side] % 1:
        raise NotTileableError("Resize to a computed size, or by a fraction")
    mode = attributes.get("mode", b"nearest").decode()
    centres = attributes.get("coordinate_transformation_mode", b"half_pixel")
    if mode == "nearest" and centres in (b"half_pixel", b"asymmetric"):
        return source.resized(int(scales[side]), neighbours=1)  # whichever way ties are rounded
    if mode in _NEIGHBOURS and centres in (b"half_pixel", b"pytorch_half_pixel"):
        return source.resized(int(scales[side]), _NEIGHBOURS[mode])
    raise NotTileableError(f"Resize with mode {mode} and {centres!r}")


def _same_everywhere(constant: np.ndarray) -> bool:
    return all(size == 1 for size in constant.shape[-2:]) or constant.ndim < 2
