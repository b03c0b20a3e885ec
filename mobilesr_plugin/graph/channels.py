"""How many channels the values of a traced network have."""

from __future__ import annotations

from torch import fx, nn

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph import plain
from mobilesr_plugin.graph.rewrite import called, sources_of


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


#: Modules whose result has the channels of what they read.
_KEEPING = (
    plain.Quantize,
    plain.Shift,
    plain.Scale,
    plain.Clamp,
    plain.UpsampleNearest,
    plain.UpsampleBilinear,
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
)


def channels_of(traced: fx.GraphModule, node: fx.Node) -> int:
    """Returns the channels of the value that ``node`` computes.

    Raises:
        UnsupportedNetworkError: the module that ``node`` calls is not known here.
    """
    if node.op == "placeholder":
        return image_channels(traced)
    module = called(traced, node)
    sources = sources_of(node)
    match module:
        case plain.Conv():
            return module.out_channels
        case nn.PixelShuffle():
            return channels_of(traced, sources[0]) // module.upscale_factor**2
        case plain.RepeatChannels():
            return channels_of(traced, sources[0]) * module.times
        case plain.Concat():
            return sum(channels_of(traced, part) for part in sources)
        case plain.Add():
            return max(channels_of(traced, part) for part in sources)
        case _ if isinstance(module, _KEEPING):
            return channels_of(traced, sources[0])
    raise UnsupportedNetworkError(
        f"{node.name} ({type(module).__name__}): the number of channels of its result is not known"
    )
