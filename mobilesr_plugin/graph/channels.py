"""How many channels the values of a traced network have."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph import plain
from mobilesr_plugin.graph.rewrite import called


def image_channels(traced: fx.GraphModule) -> int:
    """Returns the channels of the image: what the first convolution that reads it takes.

    Raises:
        UnsupportedNetworkError: no convolution does.
    """
    pending = [node for node in traced.graph.nodes if node.op == "placeholder"]
    while pending:
        for user in pending.pop(0).users:
            module = called(traced, user)
            if isinstance(module, plain.Conv):
                return module.in_channels
            if isinstance(module, (plain.Quantize, plain.Shift)):
                pending.append(user)
    raise UnsupportedNetworkError("no convolution reads the network's input")


def channels_of(traced: fx.GraphModule, node: Any) -> int:
    """Returns the channels of the value that ``node`` computes."""
    match called(traced, node):
        case None:
            return image_channels(traced)
        case plain.Conv() as conv:
            return conv.out_channels
        case nn.PixelShuffle() as shuffle:
            return channels_of(traced, node.args[0]) // shuffle.upscale_factor**2
        case plain.RepeatChannels() as repeat:
            return channels_of(traced, node.args[0]) * repeat.times
        case plain.Concat():
            return sum(channels_of(traced, part) for part in node.args)
        case plain.Add():
            return max(channels_of(traced, part) for part in node.args)
    return channels_of(traced, node.args[0])
