"""Calibration: finds the first ranges by running real images through the float network."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.ao.quantization import (
    disable_fake_quant,
    disable_observer,
    enable_fake_quant,
    enable_observer,
)

from mobilesr_plugin.quantization.insert import quantizers_of


def start_calibration(network: nn.Module) -> None:
    """Makes every quantizer watch, and change nothing."""
    network.apply(enable_observer)
    network.apply(disable_fake_quant)


def finish_calibration(network: nn.Module) -> None:
    """Takes the observed ranges over and starts to quantize."""
    for quantizer in quantizers_of(network).values():
        quantizer.adopt_observed_range()
    start_quantizing(network)


def start_quantizing(network: nn.Module) -> None:
    """Quantizes with the ranges as they are."""
    network.apply(disable_observer)
    network.apply(enable_fake_quant)


def is_calibrated(network: nn.Module) -> bool:
    """Whether all ranges are known."""
    return all(bool(quantizer.calibrated) for quantizer in quantizers_of(network).values())


@torch.no_grad()
def calibrate(network: nn.Module, images: Iterable[torch.Tensor]) -> None:
    """Post-training quantization: finds all ranges on ``images``, each (N, C, H, W) in [0, 1]."""
    start_calibration(network)
    for image in images:
        network(image)
    finish_calibration(network)
