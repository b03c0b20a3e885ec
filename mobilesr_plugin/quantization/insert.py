"""Puts quantizers into a network, exactly where the device rounds.

A value is rounded once, where an operator writes it: a convolution or an addition (with its ReLU),
another activation, a bilinear resize. Pixel shuffle, concatenation and channel repetition
move codes. See :mod:`mobilesr_plugin.quantization.grids` for what shares a range.
"""

from __future__ import annotations

from collections import Counter

from torch import fx, nn

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph import plain
from mobilesr_plugin.graph.channels import channels_of
from mobilesr_plugin.graph.names import unused_name
from mobilesr_plugin.graph.rewrite import called, simplify, sources_of
from mobilesr_plugin.graph.trace import trace
from mobilesr_plugin.options import QuantizationOptions
from mobilesr_plugin.quantization.by_one import add_by_one
from mobilesr_plugin.quantization.fake_quant import ActivationQuantizer
from mobilesr_plugin.quantization.grids import IMAGE_RANGE, KEEPING, ROUNDING, Grids, Range
from mobilesr_plugin.quantization.modules import QuantConv, QuantInput, quantized_form
from mobilesr_plugin.quantization.observers import make_observer


def insert_quantizers(network: nn.Module, options: QuantizationOptions) -> fx.GraphModule:
    """Returns a quantized copy of ``network``; the names of its parameters stay.

    Args:
        network: Float network; (N, C, H, W) in [0, 1] in and out.
        options: The ``quantization:`` block.

    Raises:
        UnsupportedNetworkError: see :func:`mobilesr_plugin.graph.trace.trace` and Grids; also a layer
            that is called twice, because its two results have two ranges.
    """
    name = type(network).__name__
    traced = simplify(trace(network))
    image, image_range = _image(traced)
    _check(name, traced, image)
    _write_lone_relus(traced)
    grids = Grids(name, traced, image, image_range)
    quantizers: dict[fx.Node, ActivationQuantizer] = {}

    def quantizer_of(node: fx.Node) -> ActivationQuantizer:
        group = grids.group(node)
        if group not in quantizers:
            quantizers[group] = _make_quantizer(options, grids.fixed(node))
        return quantizers[group]

    for node in list(traced.graph.nodes):
        module = called(traced, node)
        if isinstance(module, plain.Conv):
            quantized = QuantConv.of_conv(module, quantizer_of(sources_of(node)[0]), quantizer_of(node))
            traced.set_submodule(str(node.target), quantized)
        elif isinstance(module, ROUNDING):
            traced.set_submodule(str(node.target), quantized_form(module, quantizer_of(node)))
        elif module is not None and not isinstance(module, (*KEEPING, plain.Concat, plain.Shift)):
            raise UnsupportedNetworkError(
                f"{name}: {node.name} ({type(module).__name__}) is not known to keep int8 values as they are"
            )
    _insert_input_quantizer(traced, image, quantizer_of(image))
    traced.recompile()
    return traced


def quantizers_of(network: nn.Module) -> dict[str, ActivationQuantizer]:
    """Returns all quantizers of a network by the name of the (first) module whose result they round."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, ActivationQuantizer):
            found[name.removesuffix(".output_quantizer")] = module
    return found


def _image(traced: fx.GraphModule) -> tuple[fx.Node, Range]:
    """Returns the node of the image, shifted where the network does so, and its range."""
    (image,) = (node for node in traced.graph.nodes if node.op == "placeholder")
    low, high = IMAGE_RANGE
    for node in image.users:
        shift = called(traced, node)
        if isinstance(shift, plain.Shift):
            return node, (low + shift.offset, high + shift.offset)
    return image, IMAGE_RANGE


def _make_quantizer(options: QuantizationOptions, fixed: Range | None) -> ActivationQuantizer:
    if fixed is not None:
        return ActivationQuantizer(None, fixed=fixed)
    return ActivationQuantizer(make_observer(options.observer, options.percentile))


def _check(name: str, traced: fx.GraphModule, image: fx.Node) -> None:
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
        if isinstance(module, plain.Shift) and node is not image:
            raise UnsupportedNetworkError(
                f"{name}: {node.name} adds a constant, which can be added to the image only; give it to the "
                "bias of a convolution"
            )


def _write_lone_relus(traced: fx.GraphModule) -> None:
    """Gives each ReLU that nothing could take in a convolution by 1 to belong to.

    TFLite's converter leaves a RELU of its own in float.
    """
    for number, node in enumerate(traced.graph.nodes):
        if isinstance(called(traced, node), nn.ReLU):
            channels = channels_of(traced, node.args[0])
            add_by_one(traced, str(node.target), channels, number=number, relu=True)


def _insert_input_quantizer(traced: fx.GraphModule, image: fx.Node, quantizer: ActivationQuantizer) -> None:
    name = unused_name(traced, "input")
    traced.add_submodule(name, QuantInput(quantizer))
    with traced.graph.inserting_after(image):
        rounded = traced.graph.call_module(name, (image,))
    image.replace_all_uses_with(rounded, delete_user_cb=lambda user: user is not rounded)
