"""Rewrites of a traced network that keep its function and suit integer hardware better.

Each pass changes the graph in place. :func:`simplify` lists them in order.
"""

from __future__ import annotations

from torch import fx, nn

from mobilesr_plugin.graph.plain import Add, Clamp, Conv, RepeatChannels, UpsampleNearest


def simplify(traced: fx.GraphModule) -> fx.GraphModule:
    """Runs all passes on a traced network, in place."""
    upsampled_residual_before_shuffle(traced)
    clamp_before_shuffle(traced)
    relu_into_convolution(traced)
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
                repeat_name = f"{node.name}_anchor"
                traced.add_submodule(repeat_name, RepeatChannels(upsample.scale**2))
                with traced.graph.inserting_before(node):
                    repeated = traced.graph.call_module(repeat_name, (upsampled.args[0],))
                    added = traced.graph.call_module(node.target, (shuffled.args[0], repeated))
                    result = traced.graph.call_module(shuffled.target, (added,))
                node.replace_all_uses_with(result)
                traced.graph.erase_node(node)
                break


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


def relu_into_convolution(traced: fx.GraphModule) -> None:
    """``relu(conv(x))`` becomes one module, unless something else needs the negative values."""
    for node in list(traced.graph.nodes):
        if not isinstance(called(traced, node), nn.ReLU):
            continue
        source = node.args[0]
        conv = called(traced, source)
        if isinstance(conv, Conv) and len(source.users) == 1:
            conv.relu = True
            node.replace_all_uses_with(source)
            traced.graph.erase_node(node)


def output_of(traced: fx.GraphModule) -> fx.Node:
    """Returns the node whose value the network returns."""
    (output,) = (node for node in traced.graph.nodes if node.op == "output")
    return output.args[0]
