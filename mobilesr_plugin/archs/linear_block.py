"""The collapsible linear block: trained wide, deployed as one small convolution.

Source: K. Bhardwaj et al., "Collapsible Linear Blocks for Super-Efficient Super Resolution", MLSys
2022, section 3 and algorithms 1 and 2, https://arxiv.org/abs/2103.09404; the authors' TensorFlow code
is at https://github.com/ARM-software/sesr (``models/model_utils.py``).

Deviations:

* No bias in the expansion. The original's layers have them. In its expanded form they amount to one bias for
  each output channel, at image borders too, because only the first convolution pads; that is ``bias`` here.
  Its collapsed form adds them to the kernel's taps instead, so that the two differ. Here both forms are the
  same function.
* The short residual is asked for, not derived from equal widths: the original's collapsed form also
  adds it to the last block of an x4 network, where widths happen to be equal, its expanded form does not.
* The two kernels are multiplied as matrices. The original runs the block on an image of an identity
  matrix. Same kernel; for the seven blocks of SESR-M5, forward and backward, the product takes 0.5 ms
  and the image of an identity 2.8 ms (float32, 2 x86 cores, medians of alternating runs).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mobilesr_plugin.errors import OptionError

MODES = ("collapsed", "expanded")


class LinearBlock(nn.Module):
    """A k x k convolution to ``num_expand`` channels, then 1x1 to ``out_channels``: one linear function.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd size of the kernel; zero padding keeps the image's size.
        num_expand: Channels between the two convolutions, ``out_channels`` or more: with fewer not
            every kernel could be expressed.
        residual: Adds the input to the output; needs equal channels.
        bias: One bias for each output channel.
        mode: ``collapsed`` multiplies the two kernels at each call and convolves once, which trains the
            same parameters at a fraction of the cost; ``expanded`` convolves twice. The result and all
            gradients are the same.

    Attributes:
        expand: (num_expand, in_channels, kernel_size, kernel_size).
        project: (out_channels, num_expand, 1, 1).
        bias: (out_channels,) or None.

    Both kernels start as in the original, by Keras' default: glorot uniform; the bias at zero.

    Raises:
        OptionError: arguments that make no sense.
    """

    identity: torch.Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        num_expand: int = 256,
        residual: bool = False,
        bias: bool = False,
        mode: str = "collapsed",
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise OptionError(f"linear block: mode is {mode!r}; it must be one of {', '.join(MODES)}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise OptionError(f"linear block: kernel_size is {kernel_size}; it must be odd")
        if num_expand < out_channels:
            raise OptionError(
                f"linear block: num_expand is {num_expand}; it must be at least out_channels, {out_channels}"
            )
        if residual and in_channels != out_channels:
            raise OptionError(
                f"linear block: a residual needs equal channels (got {in_channels} and {out_channels})"
            )
        self.mode = mode
        self.expand = nn.Parameter(torch.empty(num_expand, in_channels, kernel_size, kernel_size))
        self.project = nn.Parameter(torch.empty(out_channels, num_expand, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.xavier_uniform_(self.expand)
        nn.init.xavier_uniform_(self.project)
        identity = identity_kernel(self.expand, out_channels) if residual else None
        self.register_buffer("identity", identity, persistent=False)

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.identity is not None

    def collapsed(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns the kernel (out, in, k, k) and the bias of the one convolution, differentiably."""
        return collapse_kernels(self.expand, self.project, self.identity), self.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolves ``x`` (N, in_channels, H, W) to (N, out_channels, H, W)."""
        padding = self.expand.shape[-1] // 2
        if self.mode == "collapsed":
            kernel, bias = self.collapsed()
            return F.conv2d(x, kernel, bias, padding=padding)
        out = F.conv2d(F.conv2d(x, self.expand, padding=padding), self.project, self.bias)
        return out + x if self.residual else out

    @torch.no_grad()
    def to_conv2d(self) -> nn.Conv2d:
        """Returns the equivalent plain convolution, with weights of its own."""
        kernel, bias = self.collapsed()
        out_channels, in_channels, size, _ = kernel.shape
        conv = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=bias is not None)
        conv.weight = nn.Parameter(kernel.clone())
        if bias is not None:
            conv.bias = nn.Parameter(bias.clone())
        return conv.train(self.training)

    def extra_repr(self) -> str:
        out_channels, num_expand = self.project.shape[:2]
        _, in_channels, size, _ = self.expand.shape
        return (
            f"{in_channels}, {out_channels}, kernel_size={size}, num_expand={num_expand}, "
            f"residual={self.residual}, bias={self.bias is not None}, mode={self.mode!r}"
        )


def identity_kernel(like: torch.Tensor, channels: int) -> torch.Tensor:
    """Returns the kernel (channels, channels, k, k) of the identity, of the size and type of ``like``."""
    size = like.shape[-1]
    kernel = torch.zeros(channels, channels, size, size, dtype=like.dtype, device=like.device)
    return nn.init.dirac_(kernel)


def collapse_kernels(
    expand: torch.Tensor, project: torch.Tensor, identity: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns the kernel (out, in, k, k) of a linear block; arguments as its attributes."""
    kernel = (project.flatten(1) @ expand.flatten(1)).view(project.shape[0], *expand.shape[1:])
    return kernel if identity is None else kernel + identity


@torch.no_grad()
def expand_kernel(
    kernel: torch.Tensor, num_expand: int, identity: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns an ``expand`` and a ``project`` that collapse to ``kernel``, up to float32 rounding.

    Of the many such pairs this one has orthogonal rows in ``project`` (P P^T = g^2 I, drawn with a fixed
    seed) and ``expand`` = P^T K / g^2, computed in float64. All expanded channels take part, and g gives
    both kernels the same norm, so that training goes on as from any other weights. The same kernel always
    gives the same pair.

    Args:
        kernel: (out, in, k, k).
        num_expand: Expanded width, ``out`` or more.
        identity: Subtracted first, for a block with a residual.
    """
    wanted = kernel.to("cpu", torch.float64)
    if identity is not None:
        wanted = wanted - identity.to("cpu", torch.float64)
    out_channels = len(wanted)
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(num_expand, out_channels, generator=generator, dtype=torch.float64)
    rows = torch.linalg.qr(normal).Q.T
    norm = float(wanted.norm())
    gain = norm / out_channels**0.5 if norm > 0 else 1.0  # g^2
    expand = (rows.T @ wanted.flatten(1)) * gain**-0.5
    project = rows * gain**0.5
    return (
        expand.view(num_expand, *wanted.shape[1:]).to(kernel),
        project.view(out_channels, num_expand, 1, 1).to(kernel),
    )
