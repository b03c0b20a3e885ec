"""Lowers a traced network, float or quantized, to the deploy graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph import ops, plain
from mobilesr_plugin.graph.channel_order import to_block_major
from mobilesr_plugin.graph.channels import image_channels
from mobilesr_plugin.graph.limits import widen_ranges
from mobilesr_plugin.graph.names import unused_name
from mobilesr_plugin.graph.rewrite import output_of


def lower(traced: fx.GraphModule) -> ops.Graph:
    """Returns the deploy graph of a traced and simplified network.

    Args:
        traced: Result of ``simplify(trace(network))`` or of ``insert_quantizers(network)``. A module
            with a method ``output_qparams()`` says how its output is quantized, and by
            ``has_given_range()`` whether that must stay so; modules that move values pass the
            quantization of their input on.

    Raises:
        UnsupportedNetworkError: the channel order of a depth-to-space cannot be changed to TFLite's; a
            quantized value passes a module that would round it; see also ``Graph`` and ``widen_ranges``.
    """
    lowered: dict[str, ops.Op] = {}
    value: dict[fx.Node, str] = {}  # the operator that computes each traced value
    channels: dict[str, int] = {}
    fixed: set[str] = set()

    for node in traced.graph.nodes:
        if node.op == "output":
            break
        if node.op == "placeholder":
            name = unused_name(traced, node.name)  # a module may be called as the argument is
            op: ops.Op = ops.Input(name=name, channels=image_channels(traced))
        else:
            module = traced.get_submodule(str(node.target))
            sources = [lowered[value[source]] for source in node.args]
            qparams = _output_qparams(module, sources[0], node.name)
            if isinstance(module, plain.Quantize):
                op = replace(sources[0], output=qparams)
            elif isinstance(module, plain.Shift):
                op = _shifted(sources[0], module, node.name)
            else:
                op = _lower_module(module, str(node.target), sources, channels)
                op = replace(op, output=qparams)
            if qparams is not None and getattr(module, "has_given_range", bool)():
                fixed.add(op.name)
        lowered[op.name] = op
        value[node] = op.name
        channels = ops.Graph(tuple(lowered.values())).channels()
    if value[output_of(traced)] != list(lowered)[-1]:
        raise UnsupportedNetworkError("the network's output is not its last operation")
    return widen_ranges(to_block_major(ops.Graph(tuple(lowered.values()))), fixed)


#: Modules whose result has the quantization of what they read.
_PASSING = (plain.Quantize, plain.Shift, plain.Concat, plain.RepeatChannels, nn.PixelShuffle)


def _output_qparams(module: nn.Module, source: ops.Op, name: str) -> ops.QParams | None:
    own: Any = getattr(module, "output_qparams", None)
    if own is not None:
        qparams: ops.QParams = own()
        return qparams
    if source.output is not None and not isinstance(module, _PASSING):
        raise UnsupportedNetworkError(
            f"{name} ({type(module).__name__}) reads quantized values, but its own result has no quantizer"
        )
    return source.output


def _lower_module(module: nn.Module, name: str, sources: list[ops.Op], channels: dict[str, int]) -> ops.Op:
    inputs = tuple(source.name for source in sources)
    match module:
        case plain.Conv():
            weight = _array(module.weight)
            bias = (
                np.zeros(len(weight), np.float32) if module.bias is None else _distinct(_array(module.bias))
            )
            groups = module.groups
            return ops.Conv(
                name=name, inputs=inputs, weight=weight, bias=bias, groups=groups, relu=module.relu
            )
        case plain.Add():
            return ops.Add(name=name, inputs=inputs, relu=module.relu)
        case plain.Concat():
            return ops.Concat(name=name, inputs=inputs)
        case plain.Clamp():
            return ops.Clamp(name=name, inputs=inputs, low=module.low, high=module.high)
        case plain.RepeatChannels():
            index = np.repeat(np.arange(channels[inputs[0]]), module.times)
            return ops.TakeChannels(name=name, inputs=inputs, index=tuple(index.tolist()))
        case nn.PixelShuffle():
            return ops.DepthToSpace(name=name, inputs=inputs, block=module.upscale_factor, colour_major=True)
        case plain.UpsampleBilinear():
            return ops.ResizeBilinear(name=name, inputs=inputs, factor=module.scale)
        case nn.ReLU():
            return ops.Relu(name=name, inputs=inputs)
        case nn.LeakyReLU():
            return ops.LeakyRelu(name=name, inputs=inputs, slope=module.negative_slope)
        case nn.PReLU():
            slope = np.broadcast_to(_array(module.weight), (channels[inputs[0]],)).copy()
            return ops.PRelu(name=name, inputs=inputs, slope=slope)
    raise UnsupportedNetworkError(f"{name} is {type(module).__name__}; supported: {plain.SUPPORTED}")


def _shifted(source: ops.Op, shift: plain.Shift, name: str) -> ops.Op:
    if not isinstance(source, ops.Input) or source.offset:
        raise UnsupportedNetworkError(
            f"{name}: a constant can be added to, or subtracted from, the image only"
        )
    return replace(source, offset=-shift.offset)


def _distinct(bias: np.ndarray) -> np.ndarray:
    """Keeps a bias from being constant, by a difference far below the smallest step of a pixel.

    TensorFlow's converter stores a constant bias once, and then quantizes it with the first channel's
    scale for all channels.
    """
    if len(bias) > 1 and bias[0] != 0 and (bias == bias[0]).all():
        return bias + np.float32(1e-6) * (np.arange(len(bias), dtype=np.float32) % 2)
    return bias


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float32, copy=True)
