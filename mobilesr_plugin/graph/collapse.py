"""The plain form of networks that train with more than they compute."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


def collapsed(network: nn.Module) -> nn.Module:
    """Returns a copy of ``network`` in plain layers: the same function.

    A network may have a method ``collapse()`` that does it. BasicSR's ECBSR (X. Zhang et al.,
    "Edge-oriented Convolution Block for Real-time Super Resolution on Mobile Devices", ACM MM 2021,
    https://github.com/xindongzhang/ECBSR) is known here: the parallel branches of each block become one
    3x3 convolution ``conv``, followed by the block's activation ``act``.
    """
    own = getattr(network, "collapse", None)
    if own is not None:
        plain: nn.Module = own()
        return plain
    made = copy.deepcopy(network)
    from basicsr.archs.ecbsr_arch import ECB

    for name, block in list(made.named_modules()):
        if isinstance(block, ECB):
            made.set_submodule(name, _single_convolution(block))
    return made


def _single_convolution(block: Any) -> nn.Module:
    with torch.no_grad():
        weight, bias = block.rep_params()
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    conv.weight, conv.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach().clone())
    single = nn.Sequential()
    single.add_module("conv", conv)
    if hasattr(block, "act"):
        single.add_module("act", block.act)
    return single
