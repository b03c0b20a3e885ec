"""Convolutions by 1, of which no two in a network have equal weights."""

from __future__ import annotations

import torch
from torch import fx

from mobilesr_plugin.graph import plain


def add_by_one(
    traced: fx.GraphModule, name: str, channels: int, *, number: int, relu: bool = False
) -> plain.Conv:
    """Puts a depthwise 1x1 convolution that changes nothing into ``traced``, and returns it.

    A converter would share weights that are equal, and then leave a convolution in float. So these are told
    apart by their last bits, from each other and from the network's own.

    Args:
        traced: Traced network; a module that has the name already is replaced.
        name: Of the new module.
        channels: Of its input.
        number: The first one to try; see ``plain.Conv.by_one``.
        relu: Whether the convolution has a ReLU.
    """
    others = [
        module.weight
        for own, module in traced.named_modules()
        if isinstance(module, plain.Conv) and own != name and module.weight.shape == (channels, 1, 1, 1)
    ]
    while True:
        made = plain.Conv.by_one(channels, number=number, relu=relu)
        if not any(torch.equal(made.weight, other.to(made.weight)) for other in others):
            break
        number += 1
    if not traced.add_submodule(name, made):
        traced.set_submodule(name, made)
    return made
