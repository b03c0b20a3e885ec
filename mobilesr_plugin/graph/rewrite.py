"""Rewrites of a traced network that keep its function and suit integer hardware better.

Each pass changes the graph in place. :func:`simplify` lists them in order.
"""

from __future__ import annotations

import torch
from torch import fx, nn

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph.names import unused_name
from mobilesr_plugin.graph.plain import (
    Add,
    Clamp,
    Concat,
    Conv,
    RepeatChannels,
    Scale,
    Shift,
    UpsampleNearest,
)


def simplify(traced: fx.GraphModule) -> fx.GraphModule:
    """Runs all passes on a traced network, in place."""
    factor_into_convolution(traced)
    upsampled_residual_before_shuffle(traced)
    nearest_as_shuffle(traced)
    clamp_before_shuffle(traced)
    relu_before_moves(traced)
    equal_operations_once(traced)
    relu_into_its_source(traced)
    image_offset_into_bias(traced)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.graph.lint()
    traced.recompile()
    return traced


def called(traced: fx.GraphModule, node: object) -> nn.Module | None:
    """Returns the module that ``node`` calls, or None for inputs and outputs."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return traced.get_submodule(str(node.target))
    return None


def sources_of(node: fx.Node) -> list[fx.Node]:
    """Returns the nodes whose values ``node`` reads, in order, repetitions included."""
    return [source for source in node.args if isinstance(source, fx.Node)]


def factor_into_convolution(traced: fx.GraphModule) -> None:
    """``conv(x) * c`` becomes one convolution, whose weights and bias are ``c`` times as large."""
    for node in list(traced.graph.nodes):
        factor = called(traced, node)
        if not isinstance(factor, Scale):
            continue
        (source,) = sources_of(node)
        conv = called(traced, source)
        if not isinstance(conv, Conv) or len(source.users) != 1:
            raise UnsupportedNetworkError(
                f"{node.name} multiplies by {factor.factor:g}; only the result of a convolution that "
                "nothing else reads can be"
            )
        for name in ("weight", "bias"):
            parameter = getattr(conv, name)
            if parameter is not None:
                setattr(conv, name, nn.Parameter(parameter.detach() * factor.factor))
        node.replace_all_uses_with(source)
        traced.graph.erase_node(node)


def upsampled_residual_before_shuffle(traced: fx.GraphModule) -> None:
    """``shuffle(a) + nearest(x)`` becomes ``shuffle(a + repeat(x))``: the same values, at low resolution.

    One addition on s^2 channels replaces a resize and an addition on s^2 times as many pixels.
    """
    for node in list(traced.graph.nodes):
        if not isinstance(called(traced, node), Add):
            continue
        for shuffled, upsampled in (node.args, tuple(reversed(node.args))):
            shuffle, upsample = called(traced, shuffled), called(traced, upsampled)
            if (
                isinstance(shuffle, nn.PixelShuffle)
                and isinstance(upsample, UpsampleNearest)
                and shuffle.upscale_factor == upsample.scale
                and len(shuffled.users) == 1
            ):
                repeat_name = unused_name(traced, f"{node.name}_anchor")
                traced.add_submodule(repeat_name, RepeatChannels(upsample.scale**2))
                with traced.graph.inserting_before(node):
                    repeated = traced.graph.call_module(repeat_name, (upsampled.args[0],))
                    added = traced.graph.call_module(node.target, (shuffled.args[0], repeated))
                    result = traced.graph.call_module(shuffled.target, (added,))
                node.replace_all_uses_with(result)
                traced.graph.erase_node(node)
                break


def nearest_as_shuffle(traced: fx.GraphModule) -> None:
    """Any other nearest upsampling becomes repeated channels and a pixel shuffle: the same values.

    On the device that is a concatenation and DEPTH_TO_SPACE, which need not know the image's size.
    """
    for node in list(traced.graph.nodes):
        upsample = called(traced, node)
        if isinstance(upsample, UpsampleNearest):
            repeat_name = unused_name(traced, f"{node.name}_repeat")
            traced.add_submodule(repeat_name, RepeatChannels(upsample.scale**2))
            with traced.graph.inserting_before(node):
                repeated = traced.graph.call_module(repeat_name, node.args)
            traced.set_submodule(str(node.target), nn.PixelShuffle(upsample.scale))
            node.args = (repeated,)


def clamp_before_shuffle(traced: fx.GraphModule) -> None:
    """``clamp(shuffle(x))`` becomes ``shuffle(clamp(x))``, where a quantizer can absorb the clamp."""
    for node in list(traced.graph.nodes):
        if not isinstance(called(traced, node), Clamp):
            continue
        shuffled = node.args[0]
        if isinstance(called(traced, shuffled), nn.PixelShuffle) and len(shuffled.users) == 1:
            with traced.graph.inserting_before(node):
                clamped = traced.graph.call_module(node.target, shuffled.args)
                result = traced.graph.call_module(shuffled.target, (clamped,))
            node.replace_all_uses_with(result)
            traced.graph.erase_node(node)


def relu_before_moves(traced: fx.GraphModule) -> None:
    """``relu(shuffle(x))`` becomes ``shuffle(relu(x))``, and ``relu(concat(a, b))`` likewise.

    The ReLU then stands behind the convolution or addition that can take it in.
    """
    moves = (nn.PixelShuffle, RepeatChannels, Concat)
    waiting = [node for node in traced.graph.nodes if isinstance(called(traced, node), nn.ReLU)]
    while waiting:
        node = waiting.pop()
        (moved,) = sources_of(node)
        if not isinstance(called(traced, moved), moves) or len(moved.users) > 1:
            continue
        sources = []
        for source in dict.fromkeys(sources_of(moved)):
            with traced.graph.inserting_before(moved):
                sources.append((source, traced.graph.call_module(str(node.target), (source,))))
        for source, rectified in sources:
            moved.replace_input_with(source, rectified)
            waiting.append(rectified)
        node.replace_all_uses_with(moved)
        traced.graph.erase_node(node)


def equal_operations_once(traced: fx.GraphModule) -> None:
    """Operations without weights that do the same to the same value become one.

    A converter would merge them too, and then meet two ranges for one value.
    """
    done: dict[object, fx.Node] = {}
    for node in list(traced.graph.nodes):
        module = called(traced, node)
        if module is None or list(module.parameters()):
            continue
        first = done.setdefault((type(module), _settings(module), node.args), node)
        if first is not node:
            node.replace_all_uses_with(first)
            traced.graph.erase_node(node)


def relu_into_its_source(traced: fx.GraphModule) -> None:
    """``relu(conv(x))`` and ``relu(a + b)`` become one, unless others need the negative values."""
    for node in list(traced.graph.nodes):
        if not isinstance(called(traced, node), nn.ReLU):
            continue
        (source,) = sources_of(node)
        module = called(traced, source)
        if isinstance(module, (Conv, Add)) and len(source.users) == 1:
            module.relu = True
            node.replace_all_uses_with(source)
            traced.graph.erase_node(node)


def image_offset_into_bias(traced: fx.GraphModule) -> None:
    """Lets everything read the shifted image ``x - c``, where only a part of the network did.

    ``conv(f) + x`` becomes ``(conv(f) + c) + (x - c)``: the constant goes into the convolution's bias.
    The image then enters once, shifted, which on an int8 device is nothing but another zero point.
    """
    (image,) = (node for node in traced.graph.nodes if node.op == "placeholder")
    shifts = [node for node in image.users if isinstance(called(traced, node), Shift)]
    if not shifts:
        return
    first, *others = shifts
    offset = _shift(traced, first)
    for node in others:
        if _shift(traced, node) == offset:
            node.replace_all_uses_with(first)
            traced.graph.erase_node(node)
    image.append(first)  # in front of everything that is to read it
    for reader in [node for node in image.users if node is not first]:
        repeated = isinstance(called(traced, reader), RepeatChannels)
        added = list(reader.users) if repeated else [reader]
        convolutions = [_added_convolution(traced, node, reader if repeated else image) for node in added]
        if None in convolutions:
            raise UnsupportedNetworkError(
                f"the network reads its image with {-offset:g} subtracted and, in {reader.name}, without; "
                "the plain image can only be added to a convolution's result"
            )
        for conv in convolutions:
            assert conv is not None
            shift = torch.full((conv.out_channels,), -offset)
            conv.bias = nn.Parameter(shift if conv.bias is None else conv.bias.detach() + shift)
        reader.replace_input_with(image, first)


def _settings(module: nn.Module) -> tuple[tuple[str, object], ...]:
    """Returns what a module without weights was made with."""
    ignored = ("training", "inplace")
    plain = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    return tuple(sorted((key, value) for key, value in plain.items() if key not in ignored))


def _shift(traced: fx.GraphModule, node: fx.Node) -> float:
    shift = called(traced, node)
    assert isinstance(shift, Shift)
    return shift.offset


def _added_convolution(traced: fx.GraphModule, node: fx.Node, image: fx.Node) -> Conv | None:
    """Returns the convolution whose result alone ``node`` adds to ``image``."""
    if not isinstance(called(traced, node), Add):
        return None
    others = [source for source in node.args if source is not image]
    conv = called(traced, others[0]) if len(others) == 1 else None
    if isinstance(conv, Conv) and not conv.relu and len(others[0].users) == 1:  # type: ignore[union-attr]
        return conv
    return None


def output_of(traced: fx.GraphModule) -> fx.Node:
    """Returns the node whose value the network returns."""
    (output,) = (node for node in traced.graph.nodes if node.op == "output")
    return output.args[0]
