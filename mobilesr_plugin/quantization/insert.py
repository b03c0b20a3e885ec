"""Puts quantizers into a network, exactly where the device rounds.

A value is rounded once, where a convolution (with its ReLU) or an addition writes it. Pixel shuffle,
concatenation and channel repetition move values and keep their quantization. The image and the
result are fixed to 1/255: saturation at the last quantizer is the final clamp.
"""

from __future__ import annotations

from collections import Counter

from torch import fx, nn

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph import plain
from mobilesr_plugin.graph.rewrite import called, output_of, simplify
from mobilesr_plugin.graph.trace import trace
from mobilesr_plugin.options import QuantizationOptions
from mobilesr_plugin.quantization.fake_quant import ActivationQuantizer
from mobilesr_plugin.quantization.modules import QuantAdd, QuantConv, QuantInput
from mobilesr_plugin.quantization.observers import make_observer

IMAGE_RANGE = (0.0, 1.0)


def insert_quantizers(network: nn.Module, options: QuantizationOptions) -> fx.GraphModule:
    """Returns a quantized copy of ``network``; the names of its parameters stay.

    Args:
        network: Float network; (N, C, H, W) in [0, 1] in and out.
        options: The ``quantization:`` block.

    Raises:
        UnsupportedNetworkError: see :func:`mobilesr_plugin.graph.trace.trace`; also a module that is
            called twice (its two results have two ranges), or a clamp in the middle.
    """
    name = type(network).__name__
    traced = simplify(trace(network))
    _remove_output_clamp(traced)
    last = _writer(traced, output_of(traced))
    image, image_quantizer = _image(traced)
    _check(name, traced, image, last)
    quantizers: dict[fx.Node, ActivationQuantizer] = {image: image_quantizer}
    for node in list(traced.graph.nodes):
        module = called(traced, node)
        if module is None or node is image:
            continue
        target = str(node.target)
        if isinstance(module, (plain.Conv, plain.Add)):
            quantizer = _make_quantizer(options, fixed=node is last)
            if isinstance(module, plain.Conv):
                source = quantizers[node.args[0]]
                traced.set_submodule(target, QuantConv.of_conv(module, source, quantizer))
            else:
                traced.set_submodule(target, QuantAdd(quantizer))
            quantizers[node] = quantizer
        else:
            sources = [quantizers[source] for source in node.args]
            if any(source is not sources[0] for source in sources):
                raise UnsupportedNetworkError(
                    f"{name}: {node.name} concatenates values of different ranges, which would need a second "
                    "rounding on the device; only copies of one value can be concatenated"
                )
            quantizers[node] = sources[0]
    _insert_input_quantizer(traced, image, image_quantizer)
    traced.recompile()
    return traced


def quantizers_of(network: nn.Module) -> dict[str, ActivationQuantizer]:
    """Returns all quantizers of a network by the name of the module whose result they round."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, ActivationQuantizer):
            found[name.removesuffix(".output_quantizer")] = module
    return found


def _image(traced: fx.GraphModule) -> tuple[fx.Node, ActivationQuantizer]:
    """Returns the node of the image, shifted where the network does so, and its quantizer."""
    (image,) = (node for node in traced.graph.nodes if node.op == "placeholder")
    low, high = IMAGE_RANGE
    for node in image.users:
        shift = called(traced, node)
        if isinstance(shift, plain.Shift):
            return node, ActivationQuantizer(None, fixed=(low + shift.offset, high + shift.offset))
    return image, ActivationQuantizer(None, fixed=IMAGE_RANGE)


def _make_quantizer(options: QuantizationOptions, *, fixed: bool) -> ActivationQuantizer:
    if fixed:
        return ActivationQuantizer(None, fixed=IMAGE_RANGE)
    return ActivationQuantizer(make_observer(options.observer, options.percentile))


def _writer(traced: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Follows operations that only move values back to the one that wrote them."""
    while isinstance(called(traced, node), (nn.PixelShuffle, plain.RepeatChannels, plain.UpsampleNearest)):
        source = node.args[0]
        assert isinstance(source, fx.Node)
        node = source
    return node


def _remove_output_clamp(traced: fx.GraphModule) -> None:
    node = _writer(traced, output_of(traced))
    clamp = called(traced, node)
    if isinstance(clamp, plain.Clamp) and (clamp.low, clamp.high) == IMAGE_RANGE:
        assert isinstance(node.args[0], fx.Node)
        node.replace_all_uses_with(node.args[0])
        traced.graph.erase_node(node)


def _check(name: str, traced: fx.GraphModule, image: fx.Node, last: fx.Node) -> None:
    calls = Counter(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    for node in traced.graph.nodes:
        module = called(traced, node)
        if module is None:
            continue
        count = calls[str(node.target)]
        if count > 1 and not isinstance(module, nn.PixelShuffle):
            raise UnsupportedNetworkError(
                f"{name}: {node.target} is called {count} times; each call has a range of its own "
                "on the device, so use a module for each"
            )
        shifted = isinstance(module, plain.Shift) and node is not image
        if shifted or isinstance(module, (plain.Clamp, nn.ReLU, nn.PReLU, plain.UpsampleNearest)):
            raise UnsupportedNetworkError(
                f"{name}: {node.name} ({type(module).__name__}) cannot be quantized here; a ReLU must follow "
                "a convolution (make a PReLU one), a constant can be added to the image only, a clamp to "
                "[0, 1] must be last, nearest upsampling must be added to a pixel shuffle"
            )
    if not isinstance(called(traced, last), (plain.Conv, plain.Add)):
        raise UnsupportedNetworkError(f"{name}: the output must come from a convolution or an addition")


def _insert_input_quantizer(traced: fx.GraphModule, image: fx.Node, quantizer: ActivationQuantizer) -> None:
    traced.add_submodule("input", QuantInput(quantizer))
    with traced.graph.inserting_after(image):
        rounded = traced.graph.call_module("input", (image,))
    image.replace_all_uses_with(rounded, delete_user_cb=lambda user: user is not rounded)
