"""SRModel for networks that go to a phone: their weights convert, luma networks take colour images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
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
from mobilesr_plugin.models.speed import Speed, averaged_towards, uncompiled
from mobilesr_plugin.models.validation import network_channels, validate
from mobilesr_plugin.options import SpeedOptions, parse_block


@MODEL_REGISTRY.register()
class MobileSRModel(SRModel):
    """SRModel, with these additions.

    * ``train: transfer_x2: true`` starts an x4 SESR from the x2 checkpoint in ``path:
      pretrain_network_g``: all blocks but the last move, and the log says which tensors.
    * In validation a network of one channel takes colour images: Y goes through the network, Cb and
      Cr through bicubic interpolation.
    * The ``speed:`` block makes training faster; see SpeedOptions. Losses stay on the device until
      BasicSR logs them, and the ranks of a distributed run share the images of a validation out.

    Raises:
        OptionError: the transfer is asked for without a checkpoint, or for a network that has none.
        CheckpointError: the weights are not those of a matching network.
    """

    @cached_property
    def speed(self) -> Speed:
        """What the ``speed:`` block asks for."""
        return Speed(parse_block(self.opt, "speed", SpeedOptions), self.device)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Moves a network to the device, in the memory order of images, and wraps it where BasicSR does."""
        return super().model_to_device(self.speed.arrange(net))

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
        if hasattr(self, "net_g_ema"):
            self.speed.arrange(self.net_g_ema)
        self._speed_up(self.get_bare_model(self.net_g))

    def _speed_up(self, *networks: nn.Module | None) -> None:
        self.speed.keep_memory()
        self.speed.compile(*networks, self.cri_pix)

    def get_optimizer(
        self, optim_type: str, params: Any, lr: float, **settings: Any
    ) -> torch.optim.Optimizer:
        """Returns Adam, as BasicSR does, or AdamW or SGD; see ``speed: fused_optimizer``."""
        made = self.speed.optimizer(optim_type, params, lr, **settings)
        return made or super().get_optimizer(optim_type, params, lr, **settings)

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Takes a batch, tensors or what CachedPairedDataset gives in their place."""
        for name in {"lq", "gt"} & data.keys():
            image = data[name].to(self.device, non_blocking=True, memory_format=self.speed.memory_format)
            setattr(self, name, image)

    def optimize_parameters(self, current_iter: int) -> None:
        """One step of training."""
        self.speed.begin_step()
        self.optimizer_g.zero_grad()
        with self.speed.autocast():
            self.output = self.net_g(self.lq)
        losses = self._losses(self.output.float(), self.gt)
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer_g.step()
        self.log_dict = self.reduce_loss_dict(losses)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _losses(self, output: torch.Tensor, truth: torch.Tensor) -> dict[str, torch.Tensor]:
        losses: dict[str, torch.Tensor | None] = {}
        if self.cri_pix:
            losses["l_pix"] = self.cri_pix(output, truth)
        if self.cri_perceptual:
            losses["l_percep"], losses["l_style"] = self.cri_perceptual(output, truth)
        return {name: loss for name, loss in losses.items() if loss is not None}

    def reduce_loss_dict(self, loss_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Keeps the losses as they are: reading them would make the processor wait for the GPU each time."""
        return {name: loss.detach() for name, loss in loss_dict.items()}

    def get_current_log(self) -> OrderedDict[str, float]:
        """Returns the losses of this iteration as numbers, on rank 0 their means over all ranks."""
        return super().reduce_loss_dict(self.log_dict) if self.log_dict else OrderedDict()

    def model_ema(self, decay: float = 0.999) -> None:
        """Moves the averaged network towards the trained one."""
        averaged_towards(self.net_g_ema, self.get_bare_model(self.net_g), decay)

    def test(self) -> None:
        """Runs the (averaged) network on ``self.lq``."""
        network = getattr(self, "net_g_ema", None) or self.get_bare_model(self.net_g)
        training = network.training
        network.eval()
        with torch.no_grad(), uncompiled():
            self.output = upscale_colour(network, self.lq, network_channels(network, self.lq))
        network.train(training)

    def nondist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """Validates on all images of ``dataloader``."""
        validate(self, dataloader, current_iter, tb_logger, save_img)

    def dist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """Validates on this rank's share of the images; rank 0 logs the result for all."""
        self.nondist_validation(dataloader, current_iter, tb_logger, save_img)
