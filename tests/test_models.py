"""QATSRModel and TFLiteSRModel inside BasicSR's own pipeline."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import cv2
import host_fixtures as host
import numpy as np
import pytest
import torch
import yaml
from basicsr.data import build_dataloader, build_dataset
from basicsr.metrics import calculate_psnr
from basicsr.utils import tensor2img
from float_bounds import rounding_bound
from networks import calibrated, noise, seeded_abpn, tensor

from mobilesr_plugin import checkpoint
from mobilesr_plugin.errors import CheckpointError, OptionError
from mobilesr_plugin.host.tensorboard_repair import keep_tensorflow_out_of_tensorboard
from mobilesr_plugin.models import QATSRModel, TFLiteSRModel
from mobilesr_plugin.models.validation import LOGGED_IMAGES
from mobilesr_plugin.quantization.insert import quantizers_of
from mobilesr_plugin.runtimes import TFLiteRunner

NETWORK = {"type": "ABPN", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}
QUANTIZATION = {"calibration_images": 4, "observer": "minmax"}


def float_checkpoint(folder: Path) -> Path:
    path = folder / "float.pth"
    network = seeded_abpn(2, num_feat=8, num_block=1)
    checkpoint.save(path, {"params": network.state_dict()})
    return path


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    """Options as BasicSR's parse_options leaves them."""
    opt = host.options(folder, model_type="QATSRModel", network_g=dict(NETWORK), quantization=QUANTIZATION)
    opt |= {"is_train": True, "dist": False, "rank": 0, "world_size": 1}
    paths = {"models": str(folder), "training_states": str(folder), "pretrain_network_g": None}
    opt["path"] = {**paths, "pretrain_network_g": str(float_checkpoint(folder))}
    return copy.deepcopy({**opt, **changes})


def train(model: QATSRModel, first: int, last: int) -> None:
    """Iterations ``first`` to ``last`` on pictures that depend on the iteration alone."""
    for iteration in range(first, last + 1):
        lq = torch.cat([tensor(noise(12, 12, seed=2 * iteration + k)) for k in range(2)])
        gt = torch.nn.functional.interpolate(lq, scale_factor=2, mode="bicubic").clamp(0, 1)
        model.update_learning_rate(iteration)
        model.feed_data({"lq": lq, "gt": gt})
        model.optimize_parameters(iteration)


def state(model: QATSRModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.net_g.state_dict().items()}


def test_calibration_then_training(tmp_path: Path) -> None:
    model = QATSRModel(options(tmp_path))
    before = state(model)
    train(model, 1, 2)  # 4 images
    after = state(model)
    weights = [name for name in before if name.endswith(("weight", "bias"))]
    assert all(torch.equal(before[name], after[name]) for name in weights)
    assert after["conv_first.output_quantizer.high"] > 0
    train(model, 3, 4)
    trained = state(model)
    assert not torch.equal(trained["conv_first.weight"], after["conv_first.weight"])
    assert trained["conv_first.output_quantizer.high"] != after["conv_first.output_quantizer.high"]
    assert trained["add.output_quantizer.high"] == 1  # the image's range is not learned


@pytest.mark.parametrize("ema_decay", [0, 0.5])
@pytest.mark.parametrize("observe_iters", [0, 6])
def test_resuming_continues_bit_for_bit(tmp_path: Path, ema_decay: float, observe_iters: int) -> None:
    changes = {"quantization": {**QUANTIZATION, "observer": "moving_average", "observe_iters": observe_iters}}
    opt = options(tmp_path, **changes)
    opt["train"]["ema_decay"] = ema_decay
    straight = QATSRModel(copy.deepcopy(opt))
    train(straight, 1, 8)

    interrupted = QATSRModel(copy.deepcopy(opt))
    train(interrupted, 1, 4)
    interrupted.save(epoch=0, current_iter=4)
    opt["path"]["pretrain_network_g"] = str(tmp_path / "net_g_4.pth")
    resumed = QATSRModel(copy.deepcopy(opt))
    assert all(torch.equal(value, state(interrupted)[name]) for name, value in state(resumed).items())
    resumed.resume_training(torch.load(tmp_path / "4.state", weights_only=True))
    train(resumed, 5, 8)
    for name, value in state(straight).items():
        assert torch.equal(value, state(resumed)[name]), name
    if ema_decay:
        averaged = resumed.net_g_ema.state_dict()
        for name, value in straight.net_g_ema.state_dict().items():
            assert torch.equal(value, averaged[name]), name


def test_frozen_ranges_stay(tmp_path: Path) -> None:
    opt = options(tmp_path, quantization={**QUANTIZATION, "freeze_ranges_at": 4})
    model = QATSRModel(opt)
    train(model, 1, 4)
    at_four = {name: q.high.item() for name, q in quantizers_of(model.net_g).items()}
    train(model, 5, 6)
    assert {name: q.high.item() for name, q in quantizers_of(model.net_g).items()} == at_four

    unlearned = QATSRModel(options(tmp_path, quantization={**QUANTIZATION, "ranges": "frozen"}))
    train(unlearned, 1, 2)
    calibrated_ranges = {name: q.high.item() for name, q in quantizers_of(unlearned.net_g).items()}
    train(unlearned, 3, 5)
    assert {name: q.high.item() for name, q in quantizers_of(unlearned.net_g).items()} == calibrated_ranges


def test_ranges_follow_the_observer_first(tmp_path: Path) -> None:
    settings = {**QUANTIZATION, "observer": "moving_average", "observe_iters": 4, "ranges": "frozen"}
    model = QATSRModel(options(tmp_path, quantization=settings))
    highs = []
    for iteration in range(1, 7):
        train(model, iteration, iteration)
        highs.append(quantizers_of(model.net_g)["conv_first"].high.item())
    assert len(set(highs[1:4])) == 3  # moves while observed
    assert highs[3] == highs[4] == highs[5]  # then stays


def test_distillation_learns_the_float_output(tmp_path: Path) -> None:
    model = QATSRModel(options(tmp_path))
    train(model, 1, 3)
    with torch.no_grad():
        teacher = seeded_abpn(2, num_feat=8, num_block=1)
        bound = max(rounding_bound(teacher, image[None].contiguous()) for image in model.lq)
        assert (model.gt - teacher(model.lq)).abs().max() <= bound < 0.1 / 255
    truth = QATSRModel(options(tmp_path, quantization={**QUANTIZATION, "distillation": False}))
    train(truth, 1, 3)
    assert not torch.equal(truth.gt, model.gt)


def test_distillation_needs_a_float_network(tmp_path: Path) -> None:
    opt = options(tmp_path)
    opt["path"]["pretrain_network_g"] = None
    with pytest.raises(OptionError, match="distillation"):
        QATSRModel(opt)


def test_a_float_checkpoint_cannot_be_tested_in_int8(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no int8 ranges"):
        QATSRModel(options(tmp_path, is_train=False))


def test_another_networks_weights(tmp_path: Path) -> None:
    opt = options(tmp_path, network_g={**NETWORK, "num_feat": 12})
    with pytest.raises(CheckpointError, match="another network"):
        QATSRModel(opt)


def test_validation_runs_in_integers(tmp_path: Path) -> None:
    model = QATSRModel(options(tmp_path))
    train(model, 1, 4)
    model.feed_data({"lq": tensor(noise(10, 14))})
    model.test()
    codes = model.output * 255
    assert torch.equal(codes, torch.round(codes))
    first = model.output
    train(model, 5, 5)
    model.feed_data({"lq": tensor(noise(10, 14))})
    model.test()
    assert not torch.equal(first, model.output)  # the integer network is made anew after a step


def test_tflite_model_is_for_testing(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be trained"):
        TFLiteSRModel(options(tmp_path))
    with pytest.raises(OptionError, match=r"needs a \.tflite file"):
        TFLiteSRModel(options(tmp_path, is_train=False))


def test_from_training_to_the_device_through_basicsr(tmp_path: Path) -> None:
    """train.py with QAT, EMA, TensorBoard and export; then test.py on .pth and .tflite: equal metrics."""
    host.make_data(tmp_path)
    opt = host.options(
        tmp_path,
        model_type="QATSRModel",
        network_g=NETWORK,
        quantization=QUANTIZATION,
        export={"sizes": ["24x24"]},
    )
    opt["path"]["pretrain_network_g"] = str(float_checkpoint(tmp_path))
    opt["train"] |= {"ema_decay": 0.9, "total_iter": 6}
    opt["val"]["val_freq"] = 4
    opt["logger"]["use_tb_logger"] = True
    done = host.run(host.LAUNCHER, "-opt", host.write_options(tmp_path, **opt), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    experiment = tmp_path / "experiments" / "tiny"
    device = experiment / "export" / "abpn_x2_int8.tflite"
    assert device.exists()
    for kernels in ("xnnpack", "tflite_builtin"):
        for file in ("abpn_x2_int8.tflite", "abpn_x2_int8_24x24.tflite"):
            assert f"'{file} on {kernels}': 0" in done.stderr + done.stdout
    validated = _metric(done.stderr + done.stdout)
    log = read_log(tmp_path / "tb_logger" / "tiny")
    scalars = {
        name: [(event.step, event.value) for event in log.Scalars(name)] for name in log.Tags()["scalars"]
    }
    of_float = float_psnr(tmp_path)
    assert f"# psnr: {validated} (float {of_float:.4f})\tBest: " in done.stderr + done.stdout
    steps, values = zip(*scalars["metrics/tinyval/psnr"], strict=True)
    assert (len(steps), steps[0]) == (2, 4)  # and at the end, for which BasicSR counts on
    assert values[-1] == pytest.approx(float(validated), abs=1e-4)
    assert scalars["metrics/tinyval/psnr_float"] == [(step, pytest.approx(of_float)) for step in steps]
    ends = torch.load(experiment / "models/net_g_latest.pth", weights_only=True)["params"]
    assert scalars["ranges/conv_first/high"][-1] == (steps[1], ends["conv_first.output_quantizer.high"])
    device_pixels = TFLiteRunner(device)
    names = [f"images/tinyval/{index}" for index in range(4)]
    assert set(log.Tags()["images"]) == {*names, *(f"{name}_float" for name in names)}
    for index, name in enumerate(names):  # at both validations; the float network's at the first alone
        assert [event.step for event in log.Images(name)] == [*steps]
        assert [event.step for event in log.Images(f"{name}_float")] == [4]
        logged = log.Images(name)[-1]
        assert (logged.width, logged.height) == (48, 48)
        pixels = cv2.imdecode(np.frombuffer(logged.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
        lq = cv2.imread(str(tmp_path / "lr" / f"{index}.png"))
        assert np.array_equal(pixels[..., ::-1], device_pixels(np.ascontiguousarray(lq[None, ..., ::-1]))[0])

    test_opt = {key: opt[key] for key in ("scale", "num_gpu", "manual_seed", "val", "network_g")}
    pair = opt["datasets"]["val"]
    for model_type, weights in (
        ("QATSRModel", experiment / "models/net_g_latest.pth"),
        ("TFLiteSRModel", device),
    ):
        test_opt |= {"name": model_type, "model_type": model_type, "datasets": {"test": pair}}
        test_opt["path"] = {"pretrain_network_g": str(weights), "param_key_g": "params_ema"}
        test_opt["val"] = {**opt["val"], "save_img": True}
        path = tmp_path / f"{model_type}.yml"
        path.write_text(yaml.safe_dump(test_opt))
        tested = host.run(host.ROOT / "basicsr" / "test.py", "-opt", path, cwd=tmp_path)
        assert tested.returncode == 0, tested.stderr
        assert _metric(tested.stderr + tested.stdout) == validated
    images = [
        sorted((tmp_path / "results" / name).rglob("*.png")) for name in ("QATSRModel", "TFLiteSRModel")
    ]
    assert len(images[0]) == 4
    for ours, device_image in zip(*images, strict=True):
        assert np.array_equal(cv2.imread(str(ours)), cv2.imread(str(device_image)))


def test_a_quantized_checkpoint_can_be_trained_on(tmp_path: Path) -> None:
    network = calibrated(seeded_abpn(2, num_feat=8, num_block=1), observer="minmax")
    path = tmp_path / "qat.pth"
    checkpoint.save(path, {"params": network.state_dict()})
    opt = options(tmp_path, quantization={**QUANTIZATION, "distillation": False})
    opt["path"]["pretrain_network_g"] = str(path)
    model = QATSRModel(opt)
    before = state(model)
    train(model, 1, 1)  # no calibration any more
    assert not torch.equal(state(model)["conv_first.weight"], before["conv_first.weight"])


def read_log(folder: Path) -> Any:
    """What TensorBoard shows of a log, all of it."""
    keep_tensorflow_out_of_tensorboard()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    log.Reload()
    return log


def float_psnr(folder: Path) -> float:
    """Mean PSNR of the float network that training starts from, on the tiny data set."""
    network, values = seeded_abpn(2, num_feat=8, num_block=1), []
    for index in range(4):
        lq, gt = (cv2.imread(str(folder / kind / f"{index}.png")) for kind in ("lr", "hr"))
        with torch.no_grad():
            result = tensor2img(network(tensor(np.ascontiguousarray(lq[..., ::-1]))))
        values.append(calculate_psnr(result, gt, crop_border=2))
    return float(np.mean(values))


@pytest.mark.parametrize(("size", "shown"), [((300, 200), (256, 200)), ((20, 400), (20, 256))])
def test_logged_images_are_small_and_few(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    """The centre of the first pictures, as pixels."""
    model = QATSRModel(options(tmp_path))
    train(model, 1, 2)
    (tmp_path / "hr").mkdir()
    (tmp_path / "lr").mkdir()
    for index in range(LOGGED_IMAGES + 2):
        low = noise(size[0] // 2, size[1] // 2, seed=index)
        cv2.imwrite(str(tmp_path / "lr" / f"{index}.png"), low)
        cv2.imwrite(str(tmp_path / "hr" / f"{index}.png"), low.repeat(2, 0).repeat(2, 1))
    opt = {**model.opt["datasets"]["val"], "phase": "val", "scale": 2}
    loader = build_dataloader(build_dataset(opt), opt, num_gpu=0, dist=False, seed=0)
    keep_tensorflow_out_of_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "log")) as writer:
        model.validation(loader, 2, writer)
    log = read_log(tmp_path / "log")
    first, *_ = stems = [Path(pair["lq_path"]).stem for pair in loader.dataset.paths][:LOGGED_IMAGES]
    names = [f"images/tinyval/{stem}" for stem in stems]
    assert set(log.Tags()["images"]) == {*names, *(f"{name}_float" for name in names)}
    (logged,) = log.Images(names[0])
    assert (logged.height, logged.width) == shown
    low = cv2.imread(str(tmp_path / "lr" / f"{first}.png"))
    model.feed_data({"lq": tensor(np.ascontiguousarray(low[..., ::-1]))})
    model.test()
    top, left = ((side - part) // 2 for side, part in zip(size, shown, strict=True))
    expected = tensor2img(model.output)[top : top + shown[0], left : left + shown[1]]
    pixels = cv2.imdecode(np.frombuffer(logged.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(pixels, expected)


def _metric(log: str) -> str:
    """The last PSNR in a log of BasicSR."""
    return re.findall(r"# psnr: ([\d.]+)", log)[-1]


RANK_SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
rank = dist.get_rank()
from test_models import QATSRModel, QUANTIZATION, noise, options, tensor
folder = Path({folder!r}) / str(rank)
folder.mkdir()
settings = dict(QUANTIZATION, calibration_images=8)
opt = options(folder, dist=True, rank=rank, world_size=2, quantization=settings)
model = QATSRModel(opt)
for iteration in range(1, 6):
    lq = torch.cat([tensor(noise(12, 12, seed=100 * rank + 2 * iteration + k)) for k in range(2)])
    model.feed_data(dict(lq=lq, gt=torch.zeros(2, 3, 24, 24)))
    model.optimize_parameters(iteration)
torch.save(model.get_bare_model(model.net_g).state_dict(), folder / "state.pth")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_agree_on_ranges_and_weights(tmp_path: Path) -> None:
    """Each process calibrates on its own images; the networks must be one all the same."""
    script = tmp_path / "rank.py"
    tests = str(Path(__file__).parent)
    script.write_text(RANK_SCRIPT.format(tests=tests, folder=str(tmp_path)))
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29517"]
    done = host.run(*launcher, script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / str(rank) / "state.pth", weights_only=True) for rank in (0, 1))
    compared = [name for name in first if "activation_post_process" not in name]
    assert "conv_first.output_quantizer.high" in compared
    for name in compared:
        assert torch.equal(first[name], second[name]), name
