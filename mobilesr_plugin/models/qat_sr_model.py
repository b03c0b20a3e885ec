"""Quantization-aware training as a BasicSR model."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from basicsr.utils.registry import MODEL_REGISTRY
from torch import nn

from mobilesr_plugin import checkpoint
from mobilesr_plugin.colour import upscale_colour
from mobilesr_plugin.errors import CheckpointError, OptionError
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.models.mobile_sr_model import MobileSRModel
from mobilesr_plugin.models.speed import uncompiled
from mobilesr_plugin.models.validation import Reference, validate
from mobilesr_plugin.options import QuantizationOptions, parse_block
from mobilesr_plugin.quantization import calibrate
from mobilesr_plugin.quantization.fake_quant import ActivationQuantizer
from mobilesr_plugin.quantization.insert import insert_quantizers, quantizers_of
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.quantization.ranks import gathered


@MODEL_REGISTRY.register()
class QATSRModel(MobileSRModel):
    """MobileSRModel whose network is trained with fake quantization and validated in integers.

    ``path: pretrain_network_g`` takes a float checkpoint, whose ranges are calibrated on the first
    training batches, or one that this model wrote. See QuantizationOptions for ``quantization:``.

    Raises:
        OptionError: distillation without a float network to learn from.
        CheckpointError: unreadable weights, or, in a test, a float checkpoint (it has no ranges).
        UnsupportedNetworkError: a module has no exact int8 counterpart.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        BaseModel.__init__(self, opt)
        self.quantization = parse_block(opt, "quantization", QuantizationOptions)
        self._calibration: list[tuple[torch.Tensor, torch.Tensor]] = []  # images and float results
        self._integer_network: IntegerNetwork | None = None
        self._observing = False
        # What training started from: the teacher, the measure of validation, and a part of the checkpoint.
        self._float_network: nn.Module | None = None
        self._reference: Reference | None = None
        self._float_description: Mapping[str, Any] | None = None  # its network_g
        network = self._build_and_load()
        self._calibrated = calibrate.is_calibrated(network)
        self._schedule_waits = not self._calibrated
        if self._calibrated:
            calibrate.start_quantizing(network)
        else:
            calibrate.start_calibration(network)
        for quantizer in quantizers_of(network).values():
            quantizer.across_ranks = opt["dist"]
        if self.is_train and self.quantization.ranges == "learned":
            # Before DistributedDataParallel, which averages the gradients of what learns when it is made.
            for quantizer in quantizers_of(network).values():
                quantizer.learn_range()
        self.net_g = self.model_to_device(network)
        self.print_network(self.net_g)
        if not self.is_train:
            self._float_network = None
        elif self._float_network is not None:
            teacher = self._float_network.to(self.device).eval().requires_grad_(False)
            self._float_network = self.speed.arrange(teacher)
            self._reference = Reference(self._float_network)
        if self.is_train:
            self.init_training_settings()
        elif not self._calibrated:
            path = opt["path"].get("pretrain_network_g")
            if path is None:
                raise OptionError("path: pretrain_network_g is empty; give the checkpoint to test")
            raise CheckpointError(
                f"{path} is a float checkpoint, which has no int8 ranges; train it with model_type "
                "QATSRModel first, or export it with mobilesr-export --calib"
            )

    def _build_and_load(self) -> nn.Module:
        network = build_network(self.opt["network_g"])
        path = self.opt["path"].get("pretrain_network_g")
        if path is None:
            return insert_quantizers(network, self.quantization)
        path = Path(path)
        loaded = checkpoint.load(path)
        default_key = "params" if self.is_train else "params_ema"  # test what validation saw
        params = checkpoint.params_of(loaded, path, self.opt["path"].get("param_key_g", default_key))
        quantized = checkpoint.is_quantized(params)
        if not quantized or "params_float" in loaded:
            self._float_network, self._float_description = checkpoint.load_float_network(
                loaded, path, self.opt["network_g"]
            )
            if dict(self._float_description) != dict(self.opt["network_g"]):
                get_root_logger().info(
                    f"The float network was trained as {dict(self._float_description)}; it is quantized as "
                    f"{dict(self.opt['network_g'])}. What does not fit, such as slopes of PReLU, is dropped."
                )
        if quantized:
            network = insert_quantizers(network, self.quantization)
        checkpoint.load_into(network, params, path)
        return network if quantized else insert_quantizers(network, self.quantization)

    def init_training_settings(self) -> None:
        if self.quantization.distillation and self._float_network is None:
            raise OptionError(
                "quantization: distillation is true, but there is no float network to learn from; set path: "
                "pretrain_network_g to a float checkpoint, or distillation to false"
            )
        train_opt = self.opt["train"]
        self.net_g.train()
        self.cri_pix, self.cri_perceptual = (
            build_loss(train_opt[name]).to(self.device) if train_opt.get(name) else None
            for name in ("pixel_opt", "perceptual_opt")
        )
        if self.cri_pix is None and self.cri_perceptual is None:
            raise OptionError(
                "train: neither pixel_opt nor perceptual_opt is given; there is nothing to learn"
            )
        self.ema_decay = train_opt.get("ema_decay", 0)
        if self.ema_decay > 0:
            self._init_averaged_network()
        self.setup_optimizers()
        self.setup_schedulers()
        teacher = self._float_network if self.quantization.distillation else None
        self._speed_up(self.get_bare_model(self.net_g), teacher)

    def _init_averaged_network(self) -> None:
        """Copies the network, quantizers and all; when resuming, the averaged weights are loaded."""
        self.net_g_ema = copy.deepcopy(self.get_bare_model(self.net_g)).eval().requires_grad_(False)
        path = self.opt["path"].get("pretrain_network_g")
        if path is not None and self._calibrated:
            checkpoint.load_into(self.net_g_ema, checkpoint.load_params(Path(path), "params_ema"), Path(path))

    def setup_optimizers(self) -> None:
        """Sets up ``optim_g`` with two groups: weights, and the ends of the learned ranges."""
        ends = []
        if self.quantization.ranges == "learned":
            for quantizer in self._quantizers().values():
                ends += [] if quantizer.fixed else [quantizer.low, quantizer.high]
        known = {id(end) for end in ends}
        weights = [
            parameter
            for parameter in self.net_g.parameters()
            if parameter.requires_grad and id(parameter) not in known
        ]
        settings = dict(self.opt["train"]["optim_g"])
        groups: list[dict[str, Any]] = [{"params": weights}]
        if ends:
            groups.append({"params": ends, "lr": settings["lr"] * self.quantization.range_lr})
        self.optimizer_g = self.get_optimizer(settings.pop("type"), groups, **settings)
        self.optimizers.append(self.optimizer_g)

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Steps the schedule, which waits for the first step after calibration; frozen ranges get rate 0."""
        if self._schedule_waits:
            return
        super().update_learning_rate(current_iter, warmup_iter)
        frozen_at = self.quantization.freeze_ranges_at
        if frozen_at is not None and current_iter > frozen_at and len(self.optimizer_g.param_groups) > 1:
            # A rate of 0, not a missing gradient: DistributedDataParallel wants one for each parameter.
            self.optimizer_g.param_groups[1]["lr"] = 0.0

    def optimize_parameters(self, current_iter: int) -> None:
        """Calibrates on the first batches; then one step of quantization-aware training."""
        self._integer_network = None
        if not self._calibrated:
            self._calibrate_on_batch()
            return
        observing = current_iter <= self.quantization.observe_iters
        self._observe(observing)
        with uncompiled() if observing else contextlib.nullcontext():
            if self.quantization.distillation:
                assert self._float_network is not None
                with torch.no_grad():
                    self.gt = self._float_network(self.lq)
            super().optimize_parameters(current_iter)
        self._schedule_waits = False

    def _observe(self, enabled: bool) -> None:
        if enabled != self._observing:
            self._observing = enabled
            for quantizer in self._quantizers().values():
                quantizer.enable_observer(enabled)

    def _calibrate_on_batch(self) -> None:
        with torch.no_grad(), uncompiled():
            images, results = self.lq, self.net_g(self.lq)
        if self.opt["dist"]:
            images, results = gathered(images), gathered(results)
        self._calibration.append((images, results))
        self.log_dict: dict[str, torch.Tensor] = {}
        if self._calibrated_images() >= self.quantization.calibration_images:
            self._finish_calibration()

    def _calibrated_images(self) -> int:
        return sum(len(images) for images, _ in self._calibration)

    def _finish_calibration(self) -> None:
        network = self.get_bare_model(self.net_g)
        images, results = zip(*self._calibration, strict=True)
        with uncompiled():
            errors = calibrate.finish_calibration(network, images, results)
        self._calibrated = True
        if hasattr(self, "net_g_ema"):
            self.net_g_ema.load_state_dict(network.state_dict())
            calibrate.start_quantizing(self.net_g_ema)
        chosen = f", rule {min(errors, key=lambda rule: errors[rule])}" if errors else ""
        get_root_logger().info(
            f"Calibrated the int8 ranges on {self._calibrated_images()} training images{chosen}."
        )
        self._calibration.clear()

    def test(self) -> None:
        """Runs the network in integers, as the device does."""
        if self._integer_network is None:
            network = getattr(self, "net_g_ema", None) or self.get_bare_model(self.net_g)
            if not self._calibrated:
                raise OptionError(
                    "val: val_freq asks for a validation before calibration has ended; lower quantization: "
                    "calibration_images or raise val_freq"
                )
            graph = lower(network)
            self._integer_network = IntegerNetwork(graph, self.quantization.kernels).to(self.device)
        channels = self._integer_network.graph.input.channels
        self.output = upscale_colour(self._integer_network, self.lq, channels)

    def nondist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """Validates in integers; ranges become curves in TensorBoard."""
        validate(self, dataloader, current_iter, tb_logger, save_img, self._reference)
        if tb_logger:
            for name, quantizer in self._quantizers().items():
                for end in ("low", "high"):
                    tb_logger.add_scalar(f"ranges/{name}/{end}", getattr(quantizer, end).item(), current_iter)

    def _log_validation_metric_values(self, current_iter: Any, dataset_name: str, tb_logger: Any) -> None:
        """Logs as BasicSR does, with the float network's value beside each metric of the integers."""
        of_float = self._reference.metrics.get(dataset_name) if self._reference else None
        if of_float is None:
            super()._log_validation_metric_values(current_iter, dataset_name, tb_logger)
            return
        lines = [f"Validation {dataset_name}"]
        for metric, value in self.metric_results.items():
            best = self.best_metric_results[dataset_name][metric]
            lines.append(
                f"\t # {metric}: {value:.4f} (float {of_float[metric]:.4f})"
                f"\tBest: {best['val']:.4f} @ {best['iter']} iter"
            )
            if tb_logger:
                tb_logger.add_scalar(f"metrics/{dataset_name}/{metric}", value, current_iter)
                tb_logger.add_scalar(f"metrics/{dataset_name}/{metric}_float", of_float[metric], current_iter)
        get_root_logger().info("\n".join(lines) + "\n")

    def save(self, epoch: int, current_iter: int) -> None:
        """Saves under BasicSR's names; the file alone can be exported."""
        self._save_checkpoint(current_iter)
        self.save_training_state(epoch, current_iter)

    @master_only
    def _save_checkpoint(self, current_iter: int) -> None:
        networks = {"params": self.get_bare_model(self.net_g)}
        if hasattr(self, "net_g_ema"):
            networks["params_ema"] = self.net_g_ema
        if self._float_network is not None:
            networks["params_float"] = self._float_network
        entries: dict[str, Any] = {
            name: {key: value.detach().cpu() for key, value in network.state_dict().items()}
            for name, network in networks.items()
        }
        entries["mobilesr"] = checkpoint.describe(self.opt, self._float_description)
        label = "latest" if current_iter == -1 else current_iter
        checkpoint.save(Path(self.opt["path"]["models"]) / f"net_g_{label}.pth", entries)

    def _quantizers(self) -> dict[str, ActivationQuantizer]:
        return quantizers_of(self.get_bare_model(self.net_g))
