"""The vocabulary of a plain network: PyTorch's own layers and the few that PyTorch has no module for.

After :func:`mobilesr_plugin.graph.trace.trace` each node of a network calls one of these modules:
``nn.ReLU``, ``nn.LeakyReLU``, ``nn.PReLU``, ``nn.PixelShuffle`` and the classes below.
All tensors are (N, C, H, W), float32.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Conv(nn.Conv2d):
    """Convolution with an optional ReLU, which integer hardware runs as one operator."""

    relu: bool = False

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Conv:
        """Returns a convolution that shares the parameters of ``conv``."""
        made = cls.__new__(cls)
        made.__dict__.update(conv.__dict__)
        made._parameters = dict(conv._parameters)
        return made

    @classmethod
    def by_one(cls, channels: int, *, number: int, relu: bool = False) -> Conv:
        """Returns a depthwise 1x1 convolution that changes nothing, and is not trained.

        On the device it writes a value anew: on another grid, or with a ReLU. ``number`` tells it from
        others in its last bits, because a converter would share equal weights.
        """
        made = cls(channels, channels, 1, groups=channels, bias=False)
        one = torch.full_like(made.weight, 1 + number * 2.0**-23)
        made.weight = nn.Parameter(one, requires_grad=False)
        made.relu = relu
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = super().forward(x)
        return F.relu(out) if self.relu else out


class Quantize(nn.Module):
    """Base of modules that only quantize: their output is their input, on a grid of 256 values."""


class Add(nn.Module):
    """Sum of two tensors, with broadcasting over channels, and an optional ReLU."""

    relu: bool = False

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return F.relu(left + right) if self.relu else left + right


class Scale(nn.Module):
    """Every value times a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


class Shift(nn.Module):
    """A constant added to every value."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.offset


class Concat(nn.Module):
    """Concatenation along the channels."""

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        return torch.cat(parts, dim=1)


class Clamp(nn.Module):
    """Values limited to [low, high]."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x, self.low, self.high)


class RepeatChannels(nn.Module):
    """Each channel repeated ``times`` times in place: (N, C, H, W) -> (N, C * times, H, W).

    With ``times = s**2`` before a pixel shuffle of ``s`` this is nearest-neighbour upsampling.
    """

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.repeat_interleave(x, self.times, dim=1)


class UpsampleNearest(nn.Module):
    """Nearest-neighbour upsampling by an integer ``scale``."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=float(self.scale), mode="nearest")


class UpsampleBilinear(nn.Module):
    """Bilinear upsampling by an integer ``scale``, ``align_corners=False``."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=float(self.scale), mode="bilinear", align_corners=False)


SUPPORTED = (
    "Conv2d (stride 1, zero padding that keeps the size, dense or depthwise), ReLU, LeakyReLU, PReLU, add, a "
    "constant subtracted from the image, a convolution's result times a constant, concat along channels, "
    "clamp, pixel shuffle, repeat_interleave along channels, nearest and bilinear upsampling by an integer"
)
