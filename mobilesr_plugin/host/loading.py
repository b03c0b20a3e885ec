"""Repair of how BasicSR loads a network's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobilesr_plugin.errors import CheckpointError
from mobilesr_plugin.host.replacing import mentions


def repair_load_network() -> None:
    """Load plain weights only, and say in one line what does not fit.

    Fault: ``BaseModel.load_network`` unpickles whatever the file holds (which can run code), and ends with
    a page of traceback for a truncated file or another network's weights. To see it: set
    ``path: pretrain_network_g`` to a text file.
    """
    from basicsr.models.base_model import BaseModel

    if mentions(BaseModel.load_network, "deepcopy"):
        BaseModel.load_network = load_network


def load_network(
    self: Any, net: Any, load_path: str, strict: bool = True, param_key: str | None = "params"
) -> None:
    """Load weights into a network; the replacement of ``BaseModel.load_network``.

    Args:
        self: The BasicSR model.
        net: The network, possibly inside a parallel wrapper.
        load_path: A .pth file.
        strict: Whether names and shapes must agree exactly. Otherwise whatever fits is loaded.
        param_key: The entry of the file; ``params`` where it is missing; None for the file's root.

    Raises:
        CheckpointError: The file is missing, damaged, unsafe, or holds another network's weights.
    """
    from basicsr.utils import get_root_logger

    from mobilesr_plugin import checkpoint

    net = self.get_bare_model(net)
    weights = checkpoint.load_params(Path(load_path), param_key)
    get_root_logger().info(
        f"Loading {net.__class__.__name__} model from {load_path}, with param key: [{param_key}]."
    )
    if not strict:
        self._print_different_keys_loading(net, weights, strict)
    try:
        net.load_state_dict(weights, strict=strict)  # first, because modules may adapt older weights
    except RuntimeError as error:
        checkpoint.load_into(net, weights, Path(load_path))  # raises, and says what differs
        raise CheckpointError(
            f"{load_path} does not fit the network: {str(error).splitlines()[0]}"
        ) from error
