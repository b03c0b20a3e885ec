"""Traces a network into calls of the plain modules of :mod:`mobilesr_plugin.graph.plain`."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph.collapse import collapsed
from mobilesr_plugin.graph.faithful import check_function, refuse_overwritten_values
from mobilesr_plugin.graph.names import unused_name
from mobilesr_plugin.graph.plain import (
    SUPPORTED,
    Add,
    Clamp,
    Concat,
    Conv,
    RepeatChannels,
    Scale,
    Shift,
    UpsampleBilinear,
    UpsampleNearest,
)

Rewrite = tuple[nn.Module, tuple[fx.Node, ...]]


def trace(network: nn.Module) -> fx.GraphModule:
    """Returns a copy of ``network`` as a graph in which every node calls a plain module.

    Parameter names stay those of the network, so that its checkpoints load; of a network that trains
    with more than it computes, the collapsed form is traced, see
    :func:`mobilesr_plugin.graph.collapse.collapsed`.

    Raises:
        UnsupportedNetworkError: the network branches on its input, changes a value in place that it reads
            again, or holds an operation outside the plain vocabulary; the message names it and lists what
            is supported.
    """
    name = type(network).__name__
    try:
        plain = collapsed(network)
        traced = fx.symbolic_trace(plain)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnsupportedNetworkError(
            f"{name} cannot be traced ({reason}); its forward must not depend on the values of its input"
        ) from error
    refuse_overwritten_values(name, traced)
    called: set[str] = set()
    for node in list(traced.graph.nodes):
        if node.op in ("placeholder", "output"):
            continue
        if node.op == "call_module":
            module = _plain_module(name, node, traced.get_submodule(node.target))
            if node.target in called and not list(module.parameters()):
                # One ReLU may serve many layers, but each place has a range of its own.
                node.target = unused_name(traced, node.name)
                module = copy.deepcopy(module)
                traced.add_submodule(node.target, module)
            called.add(node.target)
            traced.set_submodule(node.target, module)
            continue
        module, inputs = _plain_equivalent(name, node)
        target = unused_name(traced, node.name)
        traced.add_submodule(target, module)
        with traced.graph.inserting_before(node):
            call = traced.graph.call_module(target, inputs)
        node.replace_all_uses_with(call)
        traced.graph.erase_node(node)
    _drop_identities(traced)
    traced.recompile()
    check_function(name, plain, traced)
    return traced


def _plain_module(network: str, node: fx.Node, module: nn.Module) -> nn.Module:
    """Returns ``module`` itself, or the plain module that stands for it."""
    match module:
        case Conv():
            return module
        case nn.Conv2d():
            same = tuple(size // 2 for size in module.kernel_size)
            odd = all(size % 2 for size in module.kernel_size)
            padded = module.padding == "same" or module.padding == same
            unit = set(module.stride) == {1} and set(module.dilation) == {1}
            depthwise = module.groups == module.in_channels == module.out_channels
            if not {"weight", "bias"} <= module._parameters.keys():
                raise _unsupported(
                    network,
                    f"{node.target} computes its weights at each call (weight normalization or the like; "
                    "make them fixed first, as by torch.nn.utils.remove_weight_norm)",
                )
            if not (odd and padded and unit and module.padding_mode == "zeros"):
                raise _unsupported(network, f"{node.target} is {module}")
            if module.groups != 1 and not depthwise:
                raise _unsupported(network, f"{node.target} is {module}")
            return Conv.of(module)
        case nn.ReLU():
            return nn.ReLU()  # never in place: what it reads may be needed, for gradients or for others
        case nn.LeakyReLU():
            return nn.LeakyReLU(module.negative_slope)
        case nn.PReLU() | nn.PixelShuffle() | nn.Identity():
            return module
        case nn.Upsample():
            try:
                return _upsample(module.size, module.scale_factor, module.mode, module.align_corners)
            except ValueError as error:
                raise _unsupported(network, f"{node.target}: {error}") from error
    raise _unsupported(network, f"{node.target} is {type(module).__name__}")


def _plain_equivalent(network: str, node: fx.Node) -> Rewrite:
    if node.op == "get_attr":
        raise _unsupported(network, f"{node.target} is a parameter or constant outside a layer")
    handler = _HANDLERS.get(node.target)
    if handler is None:
        described = (
            node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target)
        )
        raise _unsupported(network, f"{node.name} calls {described}")
    try:
        return handler(*node.args, **node.kwargs)
    except (TypeError, ValueError) as error:
        raise _unsupported(network, f"{node.name}: {error}") from error


def _unsupported(network: str, what: str) -> UnsupportedNetworkError:
    return UnsupportedNetworkError(
        f"{network}: {what}, which has no int8 counterpart here; supported: {SUPPORTED}"
    )


def _drop_identities(traced: fx.GraphModule) -> None:
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and isinstance(traced.get_submodule(node.target), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)


# One handler for each function: same arguments as the function, returns the module and its inputs.


def _relu(x: fx.Node, inplace: bool = False) -> Rewrite:
    return nn.ReLU(), (x,)


def _leaky_relu(x: fx.Node, negative_slope: float = 0.01, inplace: bool = False) -> Rewrite:
    return nn.LeakyReLU(negative_slope), (x,)


def _multiply(left: Any, right: Any) -> Rewrite:
    tensor, constant = (left, right) if isinstance(left, fx.Node) else (right, left)
    if not isinstance(constant, (int, float)):
        raise ValueError("a tensor can be multiplied by a number only")
    return nn.Identity() if constant == 1 else Scale(float(constant)), (tensor,)


def _add(left: Any, right: Any) -> Rewrite:
    if isinstance(left, fx.Node) and isinstance(right, fx.Node):
        return Add(), (left, right)
    tensor, constant = (left, right) if isinstance(left, fx.Node) else (right, left)
    if not isinstance(constant, (int, float)):
        raise ValueError(f"only tensors and numbers can be added, not {type(constant).__name__}")
    return Shift(float(constant)), (tensor,)


def _subtract(left: Any, right: Any) -> Rewrite:
    if not isinstance(right, (int, float)):
        raise ValueError("only a number can be subtracted from a tensor")
    return Shift(-float(right)), (left,)


def _concat(parts: Any, dim: int = 0) -> Rewrite:
    if dim not in (1, -3):
        raise ValueError(f"concat along dimension {dim}; only channels (1) can be")
    return Concat(), tuple(parts)


def _clamp(x: fx.Node, min: float | None = None, max: float | None = None) -> Rewrite:
    if min is None or max is None:
        raise ValueError("clamp needs both bounds")
    return Clamp(float(min), float(max)), (x,)


def _pixel_shuffle(x: fx.Node, upscale_factor: int) -> Rewrite:
    return nn.PixelShuffle(upscale_factor), (x,)


def _repeat_interleave(x: fx.Node, repeats: int, dim: int | None = None) -> Rewrite:
    if dim not in (1, -3) or not isinstance(repeats, int):
        raise ValueError("only channels (dimension 1) can be repeated, an integer number of times")
    return RepeatChannels(repeats), (x,)


def _interpolate(
    x: fx.Node,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,  # of a whole number nothing is left to compute
    antialias: bool = False,  # makes a difference only where images get smaller
) -> Rewrite:
    return _upsample(size, scale_factor, mode, align_corners), (x,)


def _upsample(size: Any, scale_factor: Any, mode: str, align_corners: bool | None) -> nn.Module:
    if isinstance(scale_factor, tuple) and len(set(scale_factor)) == 1:
        scale_factor = scale_factor[0]
    known = mode in ("nearest", "bilinear") and not align_corners
    if not known or size is not None or not isinstance(scale_factor, (int, float)) or scale_factor % 1:
        raise ValueError(
            f"upsampling with mode {mode!r}, scale_factor {scale_factor}, align_corners {align_corners}; it "
            "must be nearest, or bilinear without align_corners, by an integer scale_factor"
        )
    return (UpsampleNearest if mode == "nearest" else UpsampleBilinear)(int(scale_factor))


_HANDLERS: dict[Any, Callable[..., Rewrite]] = {
    F.relu: _relu,
    torch.relu: _relu,
    "relu": _relu,
    F.leaky_relu: _leaky_relu,
    operator.mul: _multiply,
    operator.imul: _multiply,
    torch.mul: _multiply,
    "mul": _multiply,
    operator.add: _add,
    operator.iadd: _add,
    torch.add: _add,
    "add": _add,
    operator.sub: _subtract,
    torch.sub: _subtract,
    "sub": _subtract,
    torch.cat: _concat,
    torch.concat: _concat,
    torch.clamp: _clamp,
    torch.clip: _clamp,
    "clamp": _clamp,
    F.pixel_shuffle: _pixel_shuffle,
    torch.pixel_shuffle: _pixel_shuffle,
    torch.repeat_interleave: _repeat_interleave,
    "repeat_interleave": _repeat_interleave,
    F.interpolate: _interpolate,
}
