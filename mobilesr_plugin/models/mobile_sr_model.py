"""SRModel for networks that go to a phone: their weights convert, luma networks take colour images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from torch import nn

from mobilesr_plugin import checkpoint
from mobilesr_plugin.archs.sesr_arch import SESR
from mobilesr_plugin.archs.sesr_weights import transfer_x2
from mobilesr_plugin.colour import upscale_colour
from mobilesr_plugin.errors import OptionError


@MODEL_REGISTRY.register()
class MobileSRModel(SRModel):
    """SRModel, with these additions.

    * ``train: transfer_x2: true`` starts an x4 SESR from the x2 checkpoint in ``path:
      pretrain_network_g``: all blocks but the last move, and the log says which tensors.
    * In validation a network of one channel takes colour images: Y goes through the network, Cb and
      Cr through bicubic interpolation.

    Raises:
        OptionError: the transfer is asked for without a checkpoint, or for a network that has none.
        CheckpointError: the weights are not those of a matching network.
    """

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Loads weights; those of an x2 network where the transfer is asked for."""
        wanted = self.is_train and self.opt["train"].get("transfer_x2", False)
        if not wanted or self.opt["path"].get("resume_state"):
            super().load_network(net, load_path, strict, param_key)
            return
        bare = self.get_bare_model(net)
        if not isinstance(bare, SESR):
            raise OptionError(f"train: transfer_x2 is for SESR networks, not for {type(bare).__name__}")
        state, moved, kept = transfer_x2(checkpoint.load_params(Path(load_path), param_key), bare)
        checkpoint.load_into(bare, state, Path(load_path))
        logger = get_root_logger()
        logger.info(f"Transferred from the x2 network in {load_path}: {', '.join(moved)}.")
        logger.info(f"Left as initialised: {', '.join(kept)}.")

    def init_training_settings(self) -> None:
        if self.opt["train"].get("transfer_x2") and not self.opt["path"].get("pretrain_network_g"):
            raise OptionError("train: transfer_x2 needs an x2 checkpoint in path: pretrain_network_g")
        super().init_training_settings()

    def test(self) -> None:
        """Runs the (averaged) network on ``self.lq``."""
        network = getattr(self, "net_g_ema", None) or self.get_bare_model(self.net_g)
        training = network.training
        network.eval()
        with torch.no_grad():
            self.output = upscale_colour(network, self.lq, network_channels(network, self.lq))
        network.train(training)


def network_channels(network: Any, image: torch.Tensor) -> int:
    """Returns the channels that a network takes; those of the image if it does not say."""
    return getattr(network, "num_in_ch", image.shape[1])
