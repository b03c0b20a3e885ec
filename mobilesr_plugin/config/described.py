"""Networks as checkpoints and option files describe them, who may say anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mobilesr_plugin.config.network import build, check_arguments
from mobilesr_plugin.errors import CheckpointError, OptionError
from mobilesr_plugin.registered import is_registered


def described_network(loaded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns ``network_g`` as a loaded file describes it; empty where it does not."""
    network_g = description(loaded).get("network_g")
    return network_g if isinstance(network_g, Mapping) else {}


def description(loaded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns what a loaded file says of itself; empty where it says nothing."""
    described = loaded.get("mobilesr")
    return described if isinstance(described, Mapping) else {}


def network_of(described: Mapping[str, Any], described_by: Path) -> Mapping[str, Any]:
    """Returns ``network_g`` of a description, which may be of any content.

    Args:
        described: Content of a checkpoint's entry ``mobilesr``, or of an option file.
        described_by: That file, for messages.

    Raises:
        CheckpointError: it is no description, or the network does not have such arguments.
    """
    network_g, scale = described.get("network_g"), described.get("scale")
    if not isinstance(network_g, Mapping):
        raise CheckpointError(f"{described_by}: network_g is {network_g!r}; it must be a block of keys")
    if scale is not None and (not isinstance(scale, int) or scale < 1):
        raise CheckpointError(f"{described_by}: scale is {scale!r}; it must be an integer of at least 1")
    try:
        check_arguments(network_g, scale=scale)
    except OptionError as error:
        raise CheckpointError(f"{described_by}: {error}") from error
    return network_g


def build_described(network_g: Mapping[str, Any], described_by: Path) -> nn.Module:
    """Returns the network that a description asks for, in evaluation mode.

    Raises:
        CheckpointError: it is not known here, or does not take the arguments.
    """
    from basicsr.utils.registry import ARCH_REGISTRY

    kind = network_g.get("type")
    if not is_registered(ARCH_REGISTRY, kind):
        raise CheckpointError(
            f"{described_by} is of the network {kind}, which is not known here; give the option file that it "
            "was trained with (--opt), and name the network's Python file there: `import: my_arch.py`"
        )
    try:
        check_arguments(network_g)
        return build(network_g).eval()
    except OptionError as error:
        raise CheckpointError(f"{described_by}: {error}") from error
