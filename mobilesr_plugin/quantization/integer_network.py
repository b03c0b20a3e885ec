"""Runs a quantized deploy graph in integers, to the same bytes as the device."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph.int8 import quantize_bias, quantize_weight, weight_scales
from mobilesr_plugin.graph.ops import (
    Add,
    Concat,
    Conv,
    DepthToSpace,
    Graph,
    Input,
    LeakyRelu,
    Op,
    PRelu,
    QParams,
    Relu,
    Repeat,
    ResizeBilinear,
)
from mobilesr_plugin.quantization.kernels import kernel_set
from mobilesr_plugin.quantization.kernels.elementwise import limits

_EXACT_IN_FLOAT32 = 2**24


class IntegerNetwork(nn.Module):
    """The int8 network as the device computes it. Not trainable.

    Between its layers travel centred codes, ``code - zero_point``, in float32 and channels-last.

    Args:
        graph: A quantized deploy graph.
        kernels: ``xnnpack``, or ``tflite_builtin`` for TFLite's own kernels.
        fixed_size: Whether it stands for a file for one size. Only a bilinear resize on XNNPACK differs.

    Raises:
        UnsupportedNetworkError: an operator has no integer counterpart, or is not quantized.
        OptionError: there is no such set of kernels.
    """

    def __init__(self, graph: Graph, kernels: str = "xnnpack", *, fixed_size: bool = False) -> None:
        super().__init__()
        self.graph = graph
        make = _Maker(graph, kernel_set(kernels), fixed_size)
        self.layers = nn.ModuleList(make.layer(op) for op in graph)
        last_use = {name: op.name for op in graph for name in op.inputs}
        self._done = {op.name: [name for name in op.inputs if last_use[name] == op.name] for op in graph}

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Runs (N, C, H, W) images in [0, 1]; returns (N, C, H * s, W * s), multiples of 1/255."""
        (result,) = (value for op, value in self._run(x) if op is self.graph.output)
        return result.contiguous() / 255.0

    @torch.no_grad()
    def codes(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns the int8 codes of every operator, as float32, by its name."""
        return {op.name: value + _qparams(op).zero_point for op, value in self._run(x)}

    def _run(self, image: torch.Tensor) -> Iterator[tuple[Op, torch.Tensor]]:
        """Yields operators and their centred codes, and keeps no value longer than it is needed."""
        values: dict[str, torch.Tensor] = {}
        for op, layer in zip(self.graph, self.layers, strict=True):
            inputs = [values[name] for name in op.inputs] or [image]
            values[op.name] = layer(*inputs)
            del inputs
            for name in self._done[op.name]:
                values.pop(name, None)
            yield op, values[op.name]


class _Maker:
    """Prepares the layer of each operator, on one set of kernels."""

    def __init__(self, graph: Graph, kernels: ModuleType, fixed_size: bool) -> None:
        self.graph, self.kernels, self.fixed_size = graph, kernels, fixed_size

    def layer(self, op: Op) -> nn.Module:
        if op.output is None:
            raise UnsupportedNetworkError(f"{op.name} ({type(op).__name__}) is not quantized")
        sources = [_qparams(self.graph[name]) for name in op.inputs]
        match op:
            case Input():
                return _Input(op)
            case Conv():
                return _Convolution(op, sources[0], self.kernels)
            case Add():
                return self.kernels.addition(*sources, op.output, relu=op.relu)
            case Relu():
                return self.kernels.relu(sources[0], op.output)
            case LeakyRelu():
                return self.kernels.leaky_relu(sources[0], op.output, op.slope)
            case PRelu():
                return self.kernels.prelu(sources[0], op.output, op.slope)
            case ResizeBilinear():
                return self.kernels.resize_bilinear(sources[0], op.factor, fixed_size=self.fixed_size)
            case Concat():
                return _Concat()
            case Repeat():
                return _Repeat(op.times)
            case DepthToSpace():
                return _DepthToSpace(op.block)
        raise UnsupportedNetworkError(f"{op.name} ({type(op).__name__}) cannot run in integers")


class _Input(nn.Module):
    def __init__(self, op: Input) -> None:
        super().__init__()
        self.offset, self.scale = op.offset, _qparams(op).scale
        self.limits = limits(_qparams(op), relu=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        centred = image.sub(self.offset).div_(self.scale).round_().clamp_(*self.limits)
        return centred.contiguous(memory_format=torch.channels_last)


class _Convolution(nn.Module):
    """Exact sums, then the kernels' requantization.

    Inputs have 9 bits and weights 8, so no precision that PyTorch can be set to touches them; sums stay
    below 2^24, which float32 holds, or run in float64.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, op: Conv, source: QParams, kernels: ModuleType) -> None:
        super().__init__()
        channels = len(op.weight)
        if op.groups not in (1, channels):
            raise UnsupportedNetworkError(
                f"{op.name} has {op.groups} groups for {channels} channels; a convolution can have one group "
                "or as many as it has channels (depthwise)"
            )
        self.groups = op.groups
        scales = weight_scales(op.weight)
        weight = quantize_weight(op.weight).astype(np.float64)
        bias = quantize_bias(op.bias, source, scales).astype(np.float64)
        largest_input = max(127 - source.zero_point, source.zero_point + 128)
        bound = (np.abs(weight).reshape(channels, -1).sum(axis=1) * largest_input + np.abs(bias)).max()
        self.dtype = torch.float32 if bound < _EXACT_IN_FLOAT32 else torch.float64
        shaped = torch.from_numpy(weight).to(self.dtype).contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", shaped)
        self.register_buffer("bias", torch.from_numpy(bias).to(self.dtype))
        self.padding = tuple(size // 2 for size in weight.shape[2:])
        self.requantize = kernels.requantization(
            source, scales, _qparams(op), relu=op.relu, depthwise=op.groups > 1, bound=float(bound)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # PyTorch's own kernels on a GPU: cuDNN may choose Winograd, whose sums are not exact.
        with torch.backends.cudnn.flags(enabled=False):
            sums = F.conv2d(
                x.to(self.dtype), self.weight, self.bias, padding=self.padding, groups=self.groups
            )
        return self.requantize(sums)


class _Concat(nn.Module):
    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        return torch.cat(parts, dim=1)


class _Repeat(nn.Module):
    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x] * self.times, dim=1)


class _DepthToSpace(nn.Module):
    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return depth_to_space(x, self.block)


def depth_to_space(x: torch.Tensor, block: int) -> torch.Tensor:
    """(N, block^2 * C, H, W), block-major -> (N, C, H * block, W * block); TFLite's DEPTH_TO_SPACE."""
    n, channels, height, width = x.shape
    colours = channels // block**2
    split = x.reshape(n, block, block, colours, height, width)
    return split.permute(0, 3, 4, 1, 5, 2).reshape(n, colours, height * block, width * block)


def _qparams(op: Op) -> QParams:
    assert op.output is not None
    return op.output
