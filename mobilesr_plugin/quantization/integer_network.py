"""Runs a quantized deploy graph in integers, to the same bytes as the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph.int8 import quantize_bias, quantize_weight, weight_scales
from mobilesr_plugin.graph.ops import Add, Concat, Conv, DepthToSpace, Graph, Input, Op, QParams
from mobilesr_plugin.quantization import kernels

_EXACT_IN_FLOAT32 = 2**24


class IntegerNetwork(nn.Module):
    """The int8 network as the device computes it. Not trainable.

    Integers are kept in float32 tensors, which hold them exactly below 2^24; a convolution whose sums
    could grow beyond that runs in float64.

    Args:
        graph: A quantized deploy graph.

    Raises:
        UnsupportedNetworkError: an operator has no integer counterpart, or is not quantized.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.convolutions = nn.ModuleDict()
        for op in graph:
            if op.output is None or not isinstance(op, (Input, Conv, Add, Concat, DepthToSpace)):
                raise UnsupportedNetworkError(f"{op.name} ({type(op).__name__}) cannot run in integers")
            if isinstance(op, Conv):
                self.convolutions[_key(op.name)] = _IntegerConv(op, _qparams(graph[op.inputs[0]]))

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Runs (N, C, H, W) images in [0, 1]; returns (N, C, H * s, W * s), multiples of 1/255."""
        return self._real(self.codes(x)[self.graph.output.name])

    @torch.no_grad()
    def codes(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns the int8 codes of every operator, as float32, by its name."""
        values: dict[str, torch.Tensor] = {}
        for op in self.graph:
            values[op.name] = self._run(op, [values[name] for name in op.inputs], x)
        return values

    def _run(self, op: Op, inputs: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        sources = [_qparams(self.graph[name]) for name in op.inputs]
        match op:
            case Input():
                q = _qparams(op)
                return torch.clamp(torch.round((image - op.offset) / q.scale) + q.zero_point, -128, 127)
            case Conv():
                return self.convolutions[_key(op.name)](inputs[0])
            case Add():
                return kernels.add(inputs[0], inputs[1], sources[0], sources[1], _qparams(op))
            case Concat():
                return torch.cat(inputs, dim=1)
            case DepthToSpace():
                return depth_to_space(inputs[0], op.block)
        raise AssertionError(op)

    def _real(self, codes: torch.Tensor) -> torch.Tensor:
        q = _qparams(self.graph.output)
        return (codes - q.zero_point) / 255.0


class _IntegerConv(nn.Module):
    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, op: Conv, source: QParams) -> None:
        super().__init__()
        assert op.output is not None
        self.op, self.source, self.output = op, source, op.output
        self.scales = weight_scales(op.weight)
        weight = quantize_weight(op.weight).astype(np.float64)
        bias = quantize_bias(op.bias, source, self.scales).astype(np.float64)
        largest_input = max(127 - source.zero_point, source.zero_point + 128)
        bound = (np.abs(weight).reshape(len(weight), -1).sum(axis=1) * largest_input + np.abs(bias)).max()
        self.dtype = torch.float32 if bound < _EXACT_IN_FLOAT32 else torch.float64
        self.register_buffer("weight", torch.from_numpy(weight).to(self.dtype))
        self.register_buffer("bias", torch.from_numpy(bias).to(self.dtype))
        self.padding = tuple(size // 2 for size in weight.shape[2:])

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        centred = codes.to(self.dtype) - self.source.zero_point  # 0 is what the padding stands for
        # PyTorch's own kernels on a GPU: cuDNN may choose TF32 or Winograd, whose sums are not exact.
        with torch.backends.cudnn.flags(enabled=False):
            sums = F.conv2d(centred, self.weight, self.bias, padding=self.padding, groups=self.op.groups)
        return kernels.requantize(sums, self.source.scale, self.scales, self.output, self.op.relu)


def depth_to_space(x: torch.Tensor, block: int) -> torch.Tensor:
    """(N, block^2 * C, H, W), block-major -> (N, C, H * block, W * block); TFLite's DEPTH_TO_SPACE."""
    n, channels, height, width = x.shape
    colours = channels // block**2
    split = x.reshape(n, block, block, colours, height, width)
    return split.permute(0, 3, 4, 1, 5, 2).reshape(n, colours, height * block, width * block)


def _qparams(op: Op) -> QParams:
    assert op.output is not None
    return op.output


def _key(name: str) -> str:
    return name.replace(".", "_")  # ModuleDict takes no dots
