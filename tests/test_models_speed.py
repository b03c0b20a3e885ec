"""Each fast path of training against the plain one: losses, weights, files, resuming, validation."""

from __future__ import annotations

import copy
import math
import shutil
from pathlib import Path
from typing import Any

import cv2
import host_fixtures as host
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.metrics import calculate_psnr
from basicsr.models.sr_model import SRModel
from basicsr.utils import tensor2img
from float_bounds import UNIT_ROUNDOFF, same_histogram_up_to_neighbours
from networks import noise, seeded_abpn, tensor

from mobilesr_plugin import checkpoint
from mobilesr_plugin import options as plugin_options
from mobilesr_plugin.data.batches import ToFloat, UInt8Images
from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.graph.int8 import QMAX, QMIN, SMALLEST_RANGE
from mobilesr_plugin.models import MobileSRModel, QATSRModel
from mobilesr_plugin.models.compiled_shuffle import backend
from mobilesr_plugin.models.validation import psnr, to_pixels
from mobilesr_plugin.options import SpeedOptions, parse_block
from mobilesr_plugin.quantization.fake_quant import fake_quantize, round_through

NETWORK = {"type": "ABPN", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}
QUANTIZATION = {"calibration_images": 4, "observer": "auto", "distillation": True}
PLAIN = {"channels_last": False, "fused_optimizer": False, "keep_memory": False}
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def make(folder: Path, kind: str, speed: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A model of few weights in training, started from a seeded checkpoint."""
    folder.mkdir(exist_ok=True)
    start = folder / "float.pth"
    if not start.exists():
        checkpoint.save(start, {"params": seeded_abpn(2, num_feat=8, num_block=1).state_dict()})
    opt = host.options(folder, model_type=kind, network_g=dict(NETWORK), speed=speed)
    opt |= {"is_train": True, "dist": False, "rank": 0, "world_size": 1}
    opt["path"] = {
        "models": str(folder),
        "training_states": str(folder),
        "visualization": str(folder / "images"),
        "pretrain_network_g": str(start),
    }
    opt["train"] |= {"ema_decay": 0.9}
    if kind == "QATSRModel":
        opt["quantization"] = dict(QUANTIZATION)
    opt = copy.deepcopy({**opt, **changes})
    return {"MobileSRModel": MobileSRModel, "QATSRModel": QATSRModel}[kind](opt)


def train(model: Any, first: int, last: int, side: int = 12) -> list[float]:
    """Iterations on pictures that depend on the iteration alone; returns the losses."""
    losses = []
    for iteration in range(first, last + 1):
        lq = torch.cat([tensor(noise(side, side, seed=2 * iteration + k)) for k in range(2)])
        gt = torch.nn.functional.interpolate(lq, scale_factor=2, mode="bicubic").clamp(0, 1)
        model.update_learning_rate(iteration)
        model.feed_data({"lq": lq, "gt": gt})
        model.optimize_parameters(iteration)
        losses += model.get_current_log().values()
    return losses


FAST: dict[str, dict[str, Any]] = {
    "defaults": {},
    "bfloat16": {"amp": "bfloat16"},
    "compiled": {"compile": True},
    "compiled bfloat16": {"compile": True, "amp": "bfloat16"},
}
# Beside an int8 grid a difference of 16 bits becomes a step of the grid now and then.
TOLERANCES = {("MobileSRModel", True): 2e-2, ("QATSRModel", True): 0.25}


@pytest.mark.parametrize(
    ("kind", "fast"),
    [
        ("MobileSRModel", "defaults"),
        pytest.param("MobileSRModel", "bfloat16", marks=pytest.mark.slow),
        pytest.param("MobileSRModel", "compiled bfloat16", marks=[needs_compiler, pytest.mark.slow]),
        ("QATSRModel", "defaults"),
        pytest.param("QATSRModel", "bfloat16", marks=pytest.mark.slow),
        pytest.param("QATSRModel", "compiled", marks=needs_compiler),
    ],
)
def test_losses_and_files_are_those_of_the_plain_path(tmp_path: Path, kind: str, fast: str) -> None:
    speed = FAST[fast]
    half = "amp" in speed
    tolerance = TOLERANCES.get((kind, half), 1e-4)
    models = [make(tmp_path / str(index), kind, each) for index, each in enumerate((PLAIN, speed))]
    losses = []
    for model in models:
        found = train(model, 1, 5) + train(model, 6, 7, side=16)  # patches grow
        found += train(model, 8, 9)
        losses.append(found)
    assert len(losses[0]) == len(losses[1]) >= 7
    assert np.allclose(losses[0], losses[1], rtol=tolerance)
    assert losses[0] != losses[1]  # the fast path was another one

    for index, model in enumerate(models):
        model.save(epoch=0, current_iter=9)
        assert "_orig_mod" not in "".join(model.net_g.state_dict())
        model.feed_data({"lq": tensor(noise(10, 14))})
        model.test()
        assert model.net_g.training, index
    files = [torch.load(tmp_path / str(index) / "net_g_9.pth", weights_only=True) for index in (0, 1)]
    for entry in ("params", "params_ema"):
        assert list(files[0][entry]) == list(files[1][entry])
        for name, value in files[0][entry].items():
            other = files[1][entry][name]
            assert value.dtype == other.dtype
            if name.endswith(".histogram"):
                assert half or same_histogram_up_to_neighbours(value, other), name
            elif not half:  # Adam follows signs, and those of small gradients differ in 16 bits
                assert torch.allclose(value.double(), other.double(), rtol=0.05, atol=1e-3), name
    difference = (models[0].output - models[1].output).abs()
    assert difference.mean() < (1e-2 if half else 1e-4)


@pytest.mark.parametrize("kind", ["MobileSRModel", "QATSRModel"])
def test_resuming_continues_bit_for_bit(tmp_path: Path, kind: str) -> None:
    straight = make(tmp_path, kind)
    train(straight, 1, 6)
    interrupted = make(tmp_path, kind)
    train(interrupted, 1, 4)
    interrupted.save(epoch=0, current_iter=4)
    opt = copy.deepcopy(interrupted.opt["path"]) | {"pretrain_network_g": str(tmp_path / "net_g_4.pth")}
    resumed = make(tmp_path, kind, path=opt)
    resumed.resume_training(torch.load(tmp_path / "4.state", weights_only=True))
    train(resumed, 5, 6)
    for network in ("net_g", "net_g_ema"):
        expected = getattr(straight, network).state_dict()
        for name, value in getattr(resumed, network).state_dict().items():
            assert torch.equal(value, expected[name]), (network, name)


def test_averaged_weights_are_basicsr_s(tmp_path: Path) -> None:
    model = make(tmp_path, "MobileSRModel", PLAIN)
    theirs = {name: value.detach().clone() for name, value in model.net_g_ema.named_parameters()}
    train(model, 1, 1)
    for name, value in model.net_g.named_parameters():
        expected = theirs[name].mul_(0.9).add_(value.detach(), alpha=1 - 0.9)
        # Two products and a sum, each rounded once there and here, or fused into one rounding.
        bound = 6 * UNIT_ROUNDOFF * torch.maximum(expected.abs(), value.detach().abs())
        assert ((dict(model.net_g_ema.named_parameters())[name] - expected).abs() <= bound).all(), name


def test_losses_stay_on_the_device_until_they_are_logged(tmp_path: Path) -> None:
    model = make(tmp_path, "MobileSRModel")
    train(model, 1, 1)
    assert isinstance(model.log_dict["l_pix"], torch.Tensor)
    logged = model.get_current_log()["l_pix"]
    assert logged == torch.nn.functional.l1_loss(model.output, model.gt).item()


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "SGD"])
def test_one_kernel_for_the_optimizer(tmp_path: Path, kind: str) -> None:
    train_options = host.options(tmp_path)["train"]
    settings = {**train_options, "ema_decay": 0, "optim_g": {"type": kind, "lr": 1e-3}}
    fused, plain = (make(tmp_path, "MobileSRModel", speed, train=settings) for speed in (None, PLAIN))
    for model in (fused, plain):
        assert type(model.optimizer_g).__name__ == kind
        train(model, 1, 3)
    assert fused.optimizer_g.param_groups[0]["fused"] is True
    assert not plain.optimizer_g.param_groups[0]["fused"]
    assert torch.allclose(plain.net_g.conv_last.weight, fused.net_g.conv_last.weight, atol=1e-5)


def test_batches_in_uint8(tmp_path: Path) -> None:
    """What CachedPairedDataset gives becomes the same tensor, in the memory order of the network."""
    pixels = torch.from_numpy(np.stack([noise(12, 12, seed=k) for k in range(2)]))
    model = make(tmp_path, "MobileSRModel")
    model.feed_data({"lq": UInt8Images(pixels, ToFloat()), "gt": UInt8Images(pixels, ToFloat())})
    expected = torch.cat([tensor(noise(12, 12, seed=k)) for k in range(2)])
    for image in (model.lq, model.gt):
        assert torch.equal(image, expected)
        assert image.is_contiguous(memory_format=torch.channels_last)
    assert model.net_g.conv_last.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_without_a_compiler_training_goes_on(tmp_path: Path) -> None:
    host.make_data(tmp_path)
    changes = {"model_type": "MobileSRModel", "speed": {"compile": True}, "network_g": NETWORK}
    path = host.write_options(tmp_path, **changes)
    missing = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = host.run(host.LAUNCHER, "-opt", path, cwd=tmp_path, timeout=200, **missing)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("WARNING: speed: compile is left out: ") == 1
    assert (tmp_path / "experiments/tiny/models/net_g_latest.pth").is_file()


METRICS = {
    "rgb": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": False},
    "y": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True},
    "ssim": {"type": "calculate_ssim", "crop_border": 2, "test_y_channel": False, "better": "higher"},
}


@pytest.mark.parametrize("is_train", [True, False])
def test_validation_is_basicsr_s(tmp_path: Path, is_train: bool) -> None:
    host.make_data(tmp_path)
    val = {"val_freq": 1, "save_img": True, "suffix": None, "metrics": METRICS}
    found = []
    for validation in (SRModel.nondist_validation, MobileSRModel.nondist_validation):
        model = make(tmp_path, "MobileSRModel", val=val)
        train(model, 1, 3)
        folder = tmp_path / validation.__module__
        model.opt["path"]["visualization"] = str(folder)
        model.opt["is_train"] = is_train
        dataset_opt = {**model.opt["datasets"]["val"], "phase": "val", "scale": 2}
        loader = build_dataloader(build_dataset(dataset_opt), dataset_opt, num_gpu=0)
        validation(model, loader, 7, None, True)
        images = {str(path.relative_to(folder)): cv2.imread(str(path)) for path in folder.rglob("*.png")}
        assert len(images) == 4
        found.append((dict(model.metric_results), model.best_metric_results, images))
    (theirs, their_best, their_images), (ours, best, images) = found
    assert ours == theirs
    assert best == their_best
    assert images.keys() == their_images.keys()
    for name, image in images.items():
        assert np.array_equal(image, their_images[name])


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_and_psnr_are_basicsr_s(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(1, channels, 37, 41, generator=generator) * 0.4 + 0.5 for _ in range(2)]
    images[0][0, 0, 0] = torch.arange(41) / 510  # halves
    pixels = [to_pixels(image) for image in images]
    for ours, image in zip(pixels, images, strict=True):
        assert np.array_equal(ours, tensor2img([image]))
    for border in (0, 3):
        assert psnr(*pixels, border) == calculate_psnr(*pixels, crop_border=border)
    assert psnr(pixels[0], pixels[0], 1) == math.inf


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.7, 1.3), (-1.0, 0.0), (0.0, 0.0), (-2.0, 1e-6)])
def test_derivative_of_fake_quantization(low: float, high: float) -> None:
    """Against PyTorch's own derivative of the formula: the result bit for bit, gradients but for rounding."""

    def formula(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        low, high = torch.clamp(low, max=0.0), torch.clamp(high, min=0.0)
        scale = torch.clamp(high - low, min=SMALLEST_RANGE) / (QMAX - QMIN)
        zero_point = torch.clamp(round_through(QMIN - low / scale), QMIN, QMAX)
        return torch.clamp(round_through(x / scale), QMIN - zero_point, QMAX - zero_point) * scale

    generator = torch.Generator().manual_seed(0)
    values, weights = (torch.randn(4, 5, 16, 17, generator=generator) for _ in range(2))
    found = []
    for function in (formula, fake_quantize):
        arguments = [values.clone(), torch.tensor(low), torch.tensor(high)]
        for argument in arguments:
            argument.requires_grad_()
        out = function(*arguments)
        (out * weights).sum().backward()
        found.append((out.detach(), *(argument.grad for argument in arguments)))
    (expected, *gradients), (out, *ours) = found
    assert torch.equal(out, expected)
    for gradient, our in zip(gradients, ours, strict=True):
        assert gradient is not None
        assert our is not None
        assert torch.allclose(our, gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"channel_last": True}, "unknown key 'channel_last', did you mean channels_last"),
        ({"amp": "int8"}, "amp is 'int8'; it must be auto or bfloat16, or ~"),
        ({"compile": 1}, "compile is 1; it must be true or false"),
        ({"cuda_graphs": True}, "cuda_graphs needs compile: true"),
    ],
)
def test_wrong_keys_are_refused(block: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_block({"speed": block}, "speed", SpeedOptions)


def test_other_models_take_no_speed_block(tmp_path: Path) -> None:
    with pytest.raises(
        OptionError, match="speed: is for model_type MobileSRModel and QATSRModel, not SRModel"
    ):
        plugin_options.check(host.options(tmp_path, speed={"compile": True}))


@needs_compiler
@pytest.mark.parametrize("factor", [2, 3])
def test_a_compiled_pixel_shuffle_is_a_kernel_of_its_own(factor: int) -> None:
    """The same numbers and derivatives, from PyTorch's kernel instead of a loop over single numbers."""
    convolution = torch.nn.Conv2d(3, 3 * factor**2, 3, padding=1)
    network = torch.nn.Sequential(convolution, torch.nn.PixelShuffle(factor))
    network.to(memory_format=torch.channels_last)
    compiled = torch.compile(network, backend=backend)
    image = tensor(noise(10, 14)).to(memory_format=torch.channels_last)
    results, gradients = [], []
    with torch.profiler.profile() as profile:
        for run in (network, compiled):
            network.zero_grad()
            result = run(image)
            result.square().sum().backward()
            results.append(result.detach())
            gradients.append(convolution.weight.grad.clone())
    assert torch.allclose(results[0], results[1], atol=1e-6)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-4)
    called = {event.name for event in profile.events()}
    assert {"mobilesr::pixel_shuffle", "mobilesr::pixel_unshuffle"} <= called
