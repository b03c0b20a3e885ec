"""Operators that look at one code, or at a neighbourhood of codes: what both kernel sets share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from mobilesr_plugin.graph.int8 import QMAX, QMIN
from mobilesr_plugin.graph.ops import QParams

CODES = QMAX - QMIN + 1

BLOCK = 2**16  # values; 512 KiB as 64-bit integers


def limits(output: QParams, relu: bool) -> tuple[int, int]:
    """Returns the smallest and the largest centred code; a ReLU's smallest is 0."""
    return 0 if relu else QMIN - output.zero_point, QMAX - output.zero_point


def all_codes(source: QParams) -> torch.Tensor:
    """Returns every centred code of a quantization in order, (256, 1), int64."""
    return (torch.arange(QMIN, QMAX + 1) - source.zero_point).reshape(CODES, 1)


def in_blocks(step: Callable[..., torch.Tensor], *inputs: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Writes ``step(*inputs)`` to ``out``, some pixels at a time, so that they stay in the cache.

    Args:
        step: Takes and returns (pixels, C).
        inputs: (N, C, H, W); those with a single channel are given to ``step`` as (pixels, 1).
        out: (N, C, H, W), channels-last; may be one of the inputs.

    Returns:
        ``out``.
    """
    rows = [tensor.permute(0, 2, 3, 1).reshape(-1, tensor.shape[1]) for tensor in inputs]
    target = out.permute(0, 2, 3, 1).view(-1, out.shape[1])
    size = max(1, BLOCK // out.shape[1])
    for begin in range(0, len(target), size):
        block = target[begin : begin + size]
        made = step(*(row[begin : begin + size] for row in rows))
        if made.data_ptr() != block.data_ptr():  # else it was made in place
            block.copy_(made)
    return out


def like(x: torch.Tensor) -> torch.Tensor:
    """Returns an empty float32 tensor of the shape of ``x``, channels-last."""
    return torch.empty(x.shape, device=x.device, memory_format=torch.channels_last)


class Lookup(nn.Module):
    """An operator of one code is a table of 256.

    Args:
        source: Quantization of the input.
        output: That of the result; what lies beyond its codes saturates.
        results: Centred results for :func:`all_codes`, (256, C) or (256, 1).
    """

    table: torch.Tensor
    first: torch.Tensor

    def __init__(self, source: QParams, output: QParams, results: torch.Tensor) -> None:
        super().__init__()
        table = results.clamp(*limits(output, relu=False)).float().T.reshape(-1)
        start = torch.arange(0, len(table), CODES) + source.zero_point - QMIN
        self.register_buffer("table", table)
        self.register_buffer("first", start.float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return in_blocks(self._look_up, x, out=like(x))

    def _look_up(self, x: torch.Tensor) -> torch.Tensor:
        return look_up(self.table, x + self.first)


def look_up(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """``table[index]``, for an index in float32."""
    return torch.index_select(table, 0, index.to(torch.int32).reshape(-1)).reshape(index.shape)


Axis = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def blend(x: torch.Tensor, vertical: Axis, horizontal: Axis, one: int) -> torch.Tensor:
    """Weighs four neighbours each: (N, C, H, W) -> (N, C, H', W'), int32.

    Args:
        x: Codes.
        vertical, horizontal: For each output row and column: index of the first and of the second
            neighbour, and the weight of the second.
        one: Sum of two weights.
    """
    first, second, weight = horizontal
    x = x.to(torch.int32)
    x = x.index_select(3, first) * (one - weight) + x.index_select(3, second) * weight
    first, second, weight = vertical
    weight = weight.reshape(-1, 1)
    return x.index_select(2, first) * (one - weight) + x.index_select(2, second) * weight
