"""Networks with seeded weights that behave like trained ones, and calibrated forms of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import fx, nn

import mobilesr_plugin
from mobilesr_plugin.options import QuantizationOptions
from mobilesr_plugin.quantization.calibrate import calibrate
from mobilesr_plugin.quantization.insert import insert_quantizers

mobilesr_plugin.register()

from mobilesr_plugin.archs.abpn_arch import ABPN  # noqa: E402  (needs BasicSR, with its repairs)
from mobilesr_plugin.archs.sesr_arch import SESR  # noqa: E402


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """Fills a network with weights whose activations neither vanish nor explode, and returns it."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            with torch.no_grad():
                module.weight.normal_(0, (1.6 / fan_in) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0, 0.05, generator=generator)
    return network.eval()


def seeded_abpn(upscale: int = 3, **arguments: object) -> ABPN:
    """An ABPN whose convolutions change the anchor by moderate amounts, as after training."""
    network = seeded(ABPN(upscale=upscale, **arguments), seed=upscale)
    with torch.no_grad():
        last = network.conv_last or network.conv_up
        last.weight.mul_(0.2)
    return network


def seeded_sesr(num_in_ch: int = 1, **arguments: object) -> SESR:
    """A SESR as it is initialised, with a seed, and slopes that are not all the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SESR(num_in_ch, **arguments)
        for module in network.modules():
            if isinstance(module, nn.PReLU):
                module.weight.data.uniform_(0, 0.4)
    return network.eval()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: soft colours with some noise."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / 7 + phase) * np.cos(columns / 5 - phase) for phase in (0, 1, 2)]
    soft = 127 + 110 * np.stack(waves, axis=-1)
    return np.clip(soft + generator.normal(0, 12, soft.shape), 0, 255).astype(np.uint8)


def tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W, C) uint8 -> (1, C, H, W) float32 in [0, 1]."""
    return torch.from_numpy(image.transpose(2, 0, 1)[None].copy()).float() / 255


def calibrated(network: nn.Module, **options: object) -> fx.GraphModule:
    """The network with quantizers, calibrated on seeded pictures."""
    quantized = insert_quantizers(network, QuantizationOptions(**options))
    channels = getattr(network, "num_in_ch", 3)
    calibrate(quantized, [tensor(noise(40, 44, seed)[:, :, :channels]) for seed in range(6)])
    return quantized
