"""Changes depth-to-space from PyTorch's channel order to TFLite's, without a transpose.

PyTorch's pixel shuffle reads channel ``c * s^2 + k`` as colour ``c`` of sub-pixel ``k``; TFLite's
DEPTH_TO_SPACE reads ``k * C + c``. The order of the channels in front of it is ours to choose: the
weights of the last convolution are permuted once, here, and an anchor (each colour repeated s^2
times) becomes s^2 copies of the whole image.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph.ops import (
    Add,
    Clamp,
    Conv,
    DepthToSpace,
    Graph,
    LeakyRelu,
    Op,
    PRelu,
    Relu,
    Repeat,
    ResizeBilinear,
    TakeChannels,
)


def to_block_major(graph: Graph) -> Graph:
    """Returns the same function with every depth-to-space in block-major (DCR) order.

    Raises:
        UnsupportedNetworkError: a value in front of a depth-to-space is needed in both orders.
    """
    ops = {op.name: op for op in graph}
    channels = graph.channels()
    for op in graph:
        if isinstance(op, DepthToSpace) and op.colour_major:
            colours = channels[op.name]
            order = np.arange(colours * op.block**2).reshape(colours, op.block**2).T.reshape(-1)
            _permute(ops, channels, op.inputs[0], order, reader=op.name)
            ops[op.name] = replace(op, colour_major=False)
    return _with_repeats(ops, channels)


def _permute(ops: dict[str, Op], channels: dict[str, int], name: str, order: np.ndarray, reader: str) -> None:
    """Makes the value ``name`` come out with its channels in ``order``; recurses towards the input."""
    readers = {op.name for op in ops.values() if name in op.inputs}
    op = ops[name]
    if readers != {reader}:
        others = ", ".join(sorted(readers - {reader}))
        raise UnsupportedNetworkError(
            f"{name} is read both in front of a pixel shuffle and by {others}, so "
            "its channels cannot be reordered for the device"
        )
    match op:
        case Conv():
            ops[name] = replace(op, weight=op.weight[order], bias=op.bias[order])
            if op.groups > 1:  # depthwise: its input has the same channels
                _permute(ops, channels, op.inputs[0], order, name)
        case TakeChannels():
            ops[name] = replace(op, index=tuple(op.index[i] for i in order))
        case Add() | Clamp() | Relu() | LeakyRelu() | ResizeBilinear():
            for source in op.inputs:
                if channels[source] > 1:  # a single channel is broadcast, in any order
                    _permute(ops, channels, source, order, name)
        case PRelu():
            ops[name] = replace(op, slope=op.slope[order])
            _permute(ops, channels, op.inputs[0], order, name)
        case _:
            raise UnsupportedNetworkError(
                f"{name} ({type(op).__name__}) stands in front of a pixel shuffle, and its channels cannot "
                "be reordered for the device"
            )


def _with_repeats(ops: dict[str, Op], channels: dict[str, int]) -> Graph:
    """Writes copies of channels as :class:`Repeat`: anchors, and the image that is added to all channels."""
    made: dict[str, Op] = {}
    copies: dict[tuple[str, int], Repeat] = {}
    weights = [op.weight for op in ops.values() if isinstance(op, Conv)]

    def repeat(name: str, source: str, times: int) -> Repeat:
        if (source, times) not in copies:
            first = Repeat(
                name=name,
                inputs=(source,),
                output=made[source].output,
                times=times,
                channels=channels[source],
                number=len(copies),
            )
            own = _distinct(first, weights)
            copies[source, times] = made[name] = own
            weights.append(own.weight)
        return copies[source, times]

    value: dict[str, str] = {}  # where a copy serves for two
    for op in ops.values():
        inputs = [value.get(name, name) for name in op.inputs]
        if isinstance(op, TakeChannels):
            value[op.name] = repeat(op.name, inputs[0], _copies(op, channels[inputs[0]])).name
            continue
        if isinstance(op, Add):
            widest = max(channels[name] for name in op.inputs)
            for index, name in enumerate(op.inputs):
                if channels[name] < widest:
                    inputs[index] = repeat(f"{op.name}_{name}", inputs[index], widest).name
        made[op.name] = replace(op, inputs=tuple(inputs))
    return Graph(tuple(made.values()))


def _distinct(repeat: Repeat, weights: list[np.ndarray]) -> Repeat:
    """Returns ``repeat`` with the next number that gives it weights of its own."""
    while any(np.array_equal(repeat.weight, other) for other in weights):
        repeat = replace(repeat, number=repeat.number + 1)
    return repeat


def _copies(op: TakeChannels, channels: int) -> int:
    copies, rest = divmod(len(op.index), channels)
    if rest or op.index != tuple(range(channels)) * copies:
        raise UnsupportedNetworkError(f"{op.name} repeats channels other than in front of a pixel shuffle")
    return copies
