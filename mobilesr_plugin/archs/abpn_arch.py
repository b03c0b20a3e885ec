"""ABPN, the anchor-based plain network, and the ablations of its paper.

Source: Z. Du, J. Liu, J. Tang, G. Wu, "Anchor-based Plain Net for Mobile Image Super-Resolution",
CVPR Workshops 2021, https://arxiv.org/abs/2105.09750; the authors' TensorFlow code is at
https://github.com/NJU-Jet/SR_Mobile_Quantization.

Deviations: images are in [0, 1] rather than 0..255, and pixels are shuffled in PyTorch's channel
order (colour first), not in TensorFlow's. Both are conventions; the function is the same.
"""

from __future__ import annotations

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

from mobilesr_plugin.errors import OptionError

RESIDUALS = ("anchor", "nearest", "bilinear", "feature", "none")


@ARCH_REGISTRY.register()
class ABPN(nn.Module):
    """Plain 3x3 convolutions with ReLU, and an anchor: every input pixel repeated scale^2 times.

    Args:
        num_in_ch: Channels of the input image.
        num_out_ch: Channels of the output image; equal to ``num_in_ch`` for image-space residuals.
        num_feat: Width of the hidden convolutions.
        num_block: Hidden convolutions between the first and the last ones.
        upscale: Scale factor, 2 or more.
        residual: What is added to the convolutions' result. ``anchor``: the input pixel, before the
            pixel shuffle (the paper's proposal). ``nearest``, ``bilinear``: the upsampled input,
            after it. ``feature``: the first convolution's features, after the hidden ones.
            ``none`` or None: nothing. The paper's section 3.3 compares them.
        image_space_conv: Adds the last convolution, which works on ``num_out_ch * upscale**2``
            channels (+0.11 dB in the paper).

    The default at x3 has 42,539 parameters.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        *,
        num_out_ch: int = 3,
        num_feat: int = 28,
        num_block: int = 4,
        upscale: int = 3,
        residual: str | None = "anchor",
        image_space_conv: bool = True,
    ) -> None:
        super().__init__()
        if upscale < 2:
            raise OptionError(f"ABPN: upscale is {upscale}; it must be 2 or more")
        residual = residual or "none"
        if residual not in RESIDUALS:
            raise OptionError(f"ABPN: residual is {residual!r}; it must be one of {', '.join(RESIDUALS)}")
        if residual in ("anchor", "nearest", "bilinear") and num_in_ch != num_out_ch:
            raise OptionError(
                f"ABPN: residual {residual!r} adds the input image to the output, so num_in_ch and "
                f"num_out_ch must be equal (got {num_in_ch} and {num_out_ch})"
            )
        self.upscale = upscale
        self.residual = residual
        num_shuffle_ch = num_out_ch * upscale**2

        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(num_feat, num_feat, 3, padding=1) for _ in range(num_block))
        self.conv_up = nn.Conv2d(num_feat, num_shuffle_ch, 3, padding=1)
        self.conv_last = nn.Conv2d(num_shuffle_ch, num_shuffle_ch, 3, padding=1) if image_space_conv else None

        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # the original's initialisation: Keras' glorot_normal
                nn.init.xavier_normal_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Upscale ``x`` (N, num_in_ch, H, W), float32, RGB in [0, 1], to (N, num_out_ch, H*s, W*s)."""
        feat = F.relu(self.conv_first(x))
        out = feat
        for conv in self.body:
            out = F.relu(conv(out))
        if self.residual == "feature":
            out = out + feat
        out = self.conv_up(out)
        if self.conv_last is not None:
            out = self.conv_last(F.relu(out))
        if self.residual == "anchor":
            out = out + torch.repeat_interleave(x, self.upscale**2, dim=1)
        out = F.pixel_shuffle(out, self.upscale)
        if self.residual in ("nearest", "bilinear"):
            out = out + F.interpolate(x, scale_factor=float(self.upscale), mode=self.residual)
        return torch.clamp(out, 0.0, 1.0)
