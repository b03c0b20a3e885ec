"""Small plain networks with seeded weights: BasicSR's own, and one of every supported layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from networks import seeded, seeded_abpn, seeded_sesr
from torch import nn
from torch.nn import functional as F

# networks.py has registered the plugin, which repairs BasicSR's imports.
from basicsr.archs.ecbsr_arch import ECBSR  # isort: skip
from basicsr.archs.srresnet_arch import MSRResNet  # isort: skip
from basicsr.archs.srvgg_arch import SRVGGNetCompact  # isort: skip


class EveryLayer(nn.Module):
    """Every supported layer, in places where each needs care.

    A value with two readers, one of them behind a ReLU; an activation that serves twice; parts of
    different ranges concatenated, one of them the image; a clamp in the middle; a bilinear resize of
    features; a result that is multiplied.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.leaky = nn.LeakyReLU(0.2)
        self.slopes = nn.PReLU(8)
        self.mixed = nn.Conv2d(19, 12, (3, 5), padding="same")
        self.nearest = nn.Upsample(scale_factor=2)
        self.last = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.leaky(self.first(x))
        second = self.leaky(self.pointwise(F.relu(self.depthwise(first)) * 1))
        limited = torch.clamp(second + first, -1, 1)
        mixed = self.mixed(torch.cat([x, second, self.slopes(limited)], dim=1))
        up = self.nearest(mixed) + F.interpolate(
            F.relu(mixed), scale_factor=2, mode="bilinear", align_corners=False
        )
        return self.last(up) * 0.5 + F.interpolate(x, scale_factor=2, mode="bilinear")


def every_layer() -> nn.Module:
    network = seeded(EveryLayer())
    with torch.no_grad():
        network.slopes.weight.copy_(torch.linspace(-0.3, 0.5, 8))
    return network


PLAIN_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{f"ABPN x{scale}": lambda scale=scale: seeded_abpn(scale) for scale in (2, 3, 4)},
    **{f"ABPN {kind}": lambda kind=kind: seeded_abpn(2, residual=kind) for kind in ("bilinear", "feature")},
    **{
        f"SESR {variant} x{scale}": lambda variant=variant, scale=scale: seeded_sesr(
            variant=variant, upscale=scale, activation="relu"
        )
        for variant in ("M5", "XL")
        for scale in (2, 4)
    },
    "SESR M3 prelu": lambda: seeded_sesr(3, variant="M3", upscale=2, activation="prelu"),
    **{
        f"SRVGGNetCompact {act}": lambda act=act: seeded(
            SRVGGNetCompact(num_feat=16, num_conv=3, upscale=4, act_type=act)
        )
        for act in ("relu", "leakyrelu", "prelu")
    },
    "ECBSR luma": lambda: seeded(ECBSR(1, 1, 3, 8, True, "prelu", 2)),
    "ECBSR colour": lambda: seeded(ECBSR(3, 3, 2, 8, False, "relu", 3)),
    **{
        f"MSRResNet x{scale}": lambda scale=scale: seeded(MSRResNet(num_feat=16, num_block=2, upscale=scale))
        for scale in (2, 3, 4)
    },
    "every layer": every_layer,
}

# What `make test` converts; `make test-slow` converts the others.
QUICK = {
    "ABPN x3",
    "ABPN bilinear",
    "SESR M5 x2",
    "SRVGGNetCompact prelu",
    "ECBSR luma",
    "MSRResNet x4",
    "every layer",
}
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PLAIN_NETWORKS]
