"""Calibration: finds the first ranges by running real images through the float network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.ao.quantization import (
    disable_fake_quant,
    disable_observer,
    enable_fake_quant,
    enable_observer,
)

from mobilesr_plugin.quantization.insert import quantizers_of
from mobilesr_plugin.quantization.observers import CandidateObserver
from mobilesr_plugin.side_by_side import side_by_side

CHECKED_IMAGES = 20


def start_calibration(network: nn.Module) -> None:
    """Makes every quantizer watch, and change nothing."""
    network.apply(enable_observer)
    network.apply(disable_fake_quant)


def finish_calibration(
    network: nn.Module, images: Sequence[torch.Tensor] = (), expected: Sequence[torch.Tensor] = ()
) -> dict[str, float]:
    """Takes the observed ranges over and starts to quantize.

    Where observers offer several rules, all of them use the one whose results come closest to
    ``expected``.

    Args:
        network: Network after :func:`start_calibration` and some images.
        images: Images to choose the rule with, each (N, C, H, W) in [0, 1].
        expected: What the float network makes of them.

    Returns:
        Mean squared error of each rule; empty where there was nothing to choose.
    """
    observers = [observer for observer in network.modules() if isinstance(observer, CandidateObserver)]
    errors: dict[str, float] = {}
    start_quantizing(network)
    for rule in CandidateObserver.RULES if observers and images else ():
        _adopt(network, observers, rule)
        errors[rule] = _error(network, images, expected)
    _adopt(network, observers, min(errors, key=lambda rule: errors[rule]) if errors else "percentile")
    return errors


def _adopt(network: nn.Module, observers: Sequence[CandidateObserver], rule: str) -> None:
    for observer in observers:
        observer.rule = rule
    for quantizer in quantizers_of(network).values():
        quantizer.adopt_observed_range()


def _error(network: nn.Module, images: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Mean squared error over images, both clipped to [0, 1], as pixels are."""

    @torch.no_grad()
    def of_one(image: torch.Tensor, real: torch.Tensor) -> float:
        return torch.mean((network(image) - real.clamp(0, 1)) ** 2).item()

    if all(image.device.type == "cpu" for image in images):
        with side_by_side() as pool:
            errors = list(pool.map(of_one, images, expected))
    else:
        errors = list(map(of_one, images, expected))
    return sum(errors) / len(errors)


def start_quantizing(network: nn.Module) -> None:
    """Quantizes with the ranges as they are."""
    network.apply(disable_observer)
    network.apply(enable_fake_quant)


def is_calibrated(network: nn.Module) -> bool:
    """Whether all ranges are known."""
    return all(bool(quantizer.calibrated) for quantizer in quantizers_of(network).values())


@torch.no_grad()
def calibrate(network: nn.Module, images: Iterable[torch.Tensor]) -> dict[str, float]:
    """Post-training quantization: finds all ranges on ``images``, each (N, C, H, W) in [0, 1].

    Returns:
        See :func:`finish_calibration`; the rule is chosen on the first CHECKED_IMAGES.
    """
    start_calibration(network)
    checked: list[torch.Tensor] = []
    expected: list[torch.Tensor] = []
    for image in images:
        result = network(image)
        if len(checked) < CHECKED_IMAGES:
            checked.append(image)
            expected.append(result)
    return finish_calibration(network, checked, expected)
