"""SESR, super-efficient super resolution: a short plain network of collapsible linear blocks.

Source: K. Bhardwaj et al., "Collapsible Linear Blocks for Super-Efficient Super Resolution", MLSys
2022, https://arxiv.org/abs/2103.09404; the authors' TensorFlow code is at
https://github.com/ARM-software/sesr (``models/sesr.py``), which this follows where the paper is silent:
no activation after the first block, so the long residual starts from its plain output; kernels start
glorot uniform and PReLU's slopes at zero (Keras' defaults).

Deviations, besides those of :mod:`mobilesr_plugin.archs.linear_block`:

* 128/255 instead of 0.5 is subtracted from the input: on an int8 device that is zero point 0, and
  costs no operator.
* Pixels are shuffled in PyTorch's channel order, and x4 in one shuffle of 4 instead of two of 2;
  :func:`original_channel_order` converts.
* Three colours are possible, each with its own image-space residual; the original has Y only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

from mobilesr_plugin.archs.linear_block import MODES, LinearBlock
from mobilesr_plugin.errors import OptionError

INPUT_OFFSET = 128 / 255
LINEAR_BLOCKS = (*MODES, "plain")
ACTIVATIONS = ("prelu", "relu")


@dataclass(frozen=True)
class Variant:
    """The sizes of a network: 3x3 blocks, their width, and the width they are expanded to."""

    num_block: int
    num_feat: int
    num_expand: int


VARIANTS = {
    "M3": Variant(num_block=3, num_feat=16, num_expand=256),
    "M5": Variant(num_block=5, num_feat=16, num_expand=256),
    "M7": Variant(num_block=7, num_feat=16, num_expand=256),
    "M11": Variant(num_block=11, num_feat=16, num_expand=64),
    "XL": Variant(num_block=11, num_feat=32, num_expand=64),
}


@ARCH_REGISTRY.register()
class SESR(nn.Module):
    """Linear blocks: 5x5, then ``num_block`` of 3x3 with an activation each, then 5x5.

    Args:
        num_in_ch: Channels of the input image: 1 (Y, as in the paper) or 3 (RGB).
        num_out_ch: Channels of the output image; equal to ``num_in_ch``, which is the default.
        variant: Name of the sizes, ``M3``, ``M5``, ``M7``, ``M11`` or ``XL``.
        num_feat: Width of the 3x3 blocks, instead of the variant's.
        num_block: Number of 3x3 blocks, instead of the variant's.
        num_expand: Width inside the blocks while training, instead of the variant's.
        upscale: Scale factor, 2 or 4.
        linear_block: ``collapsed``: blocks train their expanded parameters and convolve with the
            product. ``expanded``: the same function of the same parameters, convolved in the expanded
            space, much slower. ``plain``: the blocks are ``nn.Conv2d``, as after training
            (:meth:`collapse`).
        activation: ``prelu``, one slope for each channel, or ``relu``.
        bias: Whether the collapsed convolutions have a bias; the paper's do not.

    Collapsed, M5 has 13,520 weights at x2 and 18,320 at x4 with one channel, besides PReLU's slopes.

    Raises:
        OptionError: arguments that make no sense; the message lists what is allowed.
    """

    def __init__(
        self,
        num_in_ch: int = 1,
        *,
        num_out_ch: int | None = None,
        variant: str = "M5",
        num_feat: int | None = None,
        num_block: int | None = None,
        num_expand: int | None = None,
        upscale: int = 2,
        linear_block: str = "collapsed",
        activation: str = "prelu",
        bias: bool = False,
    ) -> None:
        super().__init__()
        num_out_ch = num_in_ch if num_out_ch is None else num_out_ch
        _check_choice("num_in_ch", num_in_ch, (1, 3))
        _check_choice("variant", variant, tuple(VARIANTS))
        _check_choice("upscale", upscale, (2, 4))
        _check_choice("linear_block", linear_block, LINEAR_BLOCKS)
        _check_choice("activation", activation, ACTIVATIONS)
        if num_out_ch != num_in_ch:
            raise OptionError(
                "SESR adds the input image to the output, so num_in_ch and num_out_ch must be equal "
                f"(got {num_in_ch} and {num_out_ch})"
            )
        sizes = VARIANTS[variant]
        num_feat = sizes.num_feat if num_feat is None else num_feat
        num_block = sizes.num_block if num_block is None else num_block
        num_expand = sizes.num_expand if num_expand is None else num_expand
        for name, value in (("num_feat", num_feat), ("num_block", num_block), ("num_expand", num_expand)):
            if value < 1:
                raise OptionError(f"SESR: {name} is {value}; it must be 1 or more")
        num_shuffle_ch = num_out_ch * upscale**2
        if num_expand < max(num_feat, num_shuffle_ch):
            raise OptionError(
                f"SESR: num_expand is {num_expand}; it must be at least {max(num_feat, num_shuffle_ch)}, the "
                f"larger of num_feat ({num_feat}) and num_out_ch * upscale^2 ({num_shuffle_ch})"
            )
        self.num_in_ch = num_in_ch
        self.upscale = upscale
        self.linear_block = linear_block

        def block(in_ch: int, out_ch: int, size: int, residual: bool) -> nn.Module:
            made = LinearBlock(
                in_ch, out_ch, kernel_size=size, num_expand=num_expand, residual=residual, bias=bias
            )
            if linear_block == "plain":
                return made.to_conv2d()
            made.mode = linear_block
            return made

        self.conv_first = block(num_in_ch, num_feat, 5, False)
        self.body = nn.ModuleList(block(num_feat, num_feat, 3, True) for _ in range(num_block))
        self.activations = nn.ModuleList(
            nn.PReLU(num_feat, init=0.0) if activation == "prelu" else nn.ReLU() for _ in range(num_block)
        )
        self.conv_last = block(num_feat, num_shuffle_ch, 5, False)
        self.register_load_state_dict_pre_hook(_adapt_in_place)

    def adapt_state(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Returns weights of any form of SESR in the form of this network; see ``convert_state``.

        ``load_state_dict`` does this by itself.
        """
        from mobilesr_plugin.archs.sesr_weights import convert_state  # which needs this class

        return convert_state(state, self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Upscale ``x`` (N, num_in_ch, H, W), float32, Y or RGB in [0, 1], to (N, num_out_ch, H*s, W*s)."""
        first = self.conv_first(x - INPUT_OFFSET)
        out = first
        for block, activation in zip(self.body, self.activations, strict=True):
            out = activation(block(out))
        out = self.conv_last(out + first)
        if self.num_in_ch > 1:  # one channel is added to all by broadcasting
            x = torch.repeat_interleave(x, self.upscale**2, dim=1)
        return torch.clamp(F.pixel_shuffle(out + x, self.upscale), 0.0, 1.0)

    def blocks(self) -> Iterator[tuple[str, nn.Module, bool]]:
        """Yields name, module (``LinearBlock`` or ``nn.Conv2d``) and short residual of each block."""
        yield "conv_first", self.conv_first, False
        for index, block in enumerate(self.body):
            yield f"body.{index}", block, True
        yield "conv_last", self.conv_last, False

    def collapse(self) -> SESR:
        """Returns the same function with an ``nn.Conv2d`` in place of each block; this one is kept.

        Weights are then called ``body.0.weight`` instead of ``body.0.expand`` and ``body.0.project``.
        """
        plain = copy.deepcopy(self)
        for name, block, _ in list(plain.blocks()):
            if isinstance(block, LinearBlock):
                plain.set_submodule(name, block.to_conv2d())
        plain.linear_block = "plain"
        return plain


def _adapt_in_place(network: SESR, state: dict[str, torch.Tensor], prefix: str, *_unused: object) -> None:
    """Hook of ``load_state_dict``: brings the network's entries in ``state`` into its own form."""
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    adapted = network.adapt_state(own)
    for name in own:
        del state[prefix + name]
    state.update({prefix + name: value for name, value in adapted.items()})


def original_channel_order(upscale: int) -> list[int]:
    """Returns which of the original's output channels each of ours is, for one colour.

    The original shuffles x4 twice by 2, in TensorFlow's order, so channel ``4a + b`` is sub-pixel b of
    sub-pixel a; ours is ``4 * row + column`` within the block of 4x4. At x2 the orders are the same.
    ``kernel_original[order]`` (channels first) gives our last kernel.
    """
    _check_choice("upscale", upscale, (2, 4))
    if upscale == 2:
        return [0, 1, 2, 3]
    pixels = [(row, column) for row in range(4) for column in range(4)]
    return [4 * (row // 2 * 2 + column // 2) + row % 2 * 2 + column % 2 for row, column in pixels]


def _check_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise OptionError(f"SESR: {name} is {value!r}; it must be one of {', '.join(map(str, allowed))}")
