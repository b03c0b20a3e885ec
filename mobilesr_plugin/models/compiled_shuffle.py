"""A backend of torch.compile in which pixel shuffle stays a kernel of its own on the processor.

torch.compile writes the shuffle and all that follows as one loop over single numbers, because neighbours in
the result are none in the source. PyTorch's own kernel moves whole pixels of channels-last tensors, and what
follows is then computed in vectors: a seventh of the step of a compiled ABPN.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx


@torch.library.custom_op("mobilesr::pixel_shuffle", mutates_args=())
def pixel_shuffle(image: torch.Tensor, factor: int) -> torch.Tensor:
    """Returns ``F.pixel_shuffle(image, factor)`` of (N, C, H, W), in channels-last order."""
    return F.pixel_shuffle(image.contiguous(memory_format=torch.channels_last), factor)


@torch.library.custom_op("mobilesr::pixel_unshuffle", mutates_args=())
def pixel_unshuffle(image: torch.Tensor, factor: int) -> torch.Tensor:
    """Returns ``F.pixel_unshuffle(image, factor)`` of (N, C, H, W), in channels-last order."""
    return F.pixel_unshuffle(image.contiguous(memory_format=torch.channels_last), factor)


@pixel_shuffle.register_fake
def _(image: torch.Tensor, factor: int) -> torch.Tensor:
    count, channels, height, width = image.shape
    shape = (count, channels // factor**2, height * factor, width * factor)
    return image.new_empty(shape).to(memory_format=torch.channels_last)


@pixel_unshuffle.register_fake
def _(image: torch.Tensor, factor: int) -> torch.Tensor:
    count, channels, height, width = image.shape
    shape = (count, channels * factor**2, height // factor, width // factor)
    return image.new_empty(shape).to(memory_format=torch.channels_last)


def _keep_factor(ctx: Any, inputs: tuple[torch.Tensor, int], output: torch.Tensor) -> None:
    _, ctx.factor = inputs


def _derivative(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
    return pixel_unshuffle(gradient, ctx.factor), None


pixel_shuffle.register_autograd(_derivative, setup_context=_keep_factor)


def backend(graph: fx.GraphModule, inputs: list[Any]) -> Any:
    """Compiles a graph as torch.compile does, but for its pixel shuffles."""
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target in (F.pixel_shuffle, torch.pixel_shuffle):
            node.target = torch.ops.mobilesr.pixel_shuffle.default
    graph.recompile()
    return torch._inductor.compile(graph, inputs)
