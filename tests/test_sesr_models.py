"""SESR inside BasicSR: weights of another form, colour images, x2 to x4, PReLU to ReLU."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import noise, seeded_sesr, tensor
from test_models import options

from mobilesr_plugin import checkpoint
from mobilesr_plugin.archs.sesr_arch import SESR
from mobilesr_plugin.colour import rgb_to_ycbcr, ycbcr_to_rgb
from mobilesr_plugin.errors import CheckpointError, OptionError
from mobilesr_plugin.models import MobileSRModel, QATSRModel

NETWORK = {"type": "SESR", "num_in_ch": 1, "variant": "M3", "num_expand": 32, "upscale": 2}


def saved(path: Path, described: bool = True, **arguments: Any) -> Path:
    network_g = {**NETWORK, **arguments}
    network = seeded_sesr(**{key: value for key, value in network_g.items() if key != "type"})
    entries: dict[str, Any] = {"params": network.state_dict()}
    if described:
        entries["mobilesr"] = checkpoint.describe({"scale": network_g["upscale"], "network_g": network_g})
    checkpoint.save(path, entries)
    return path


def model(
    kind: type, folder: Path, pretrained: Path | None, network: dict[str, Any], **train_opt: Any
) -> Any:
    opt = options(folder, network_g={**NETWORK, **network}, model_type=kind.__name__)
    opt["scale"] = opt["network_g"]["upscale"]
    opt["path"]["pretrain_network_g"] = str(pretrained) if pretrained else None
    opt["train"] |= train_opt
    return kind(copy.deepcopy(opt))


@pytest.mark.parametrize("stored", ["collapsed", "expanded", "plain"])
@pytest.mark.parametrize("wanted", ["collapsed", "expanded", "plain"])
def test_all_forms_of_weights_load(tmp_path: Path, stored: str, wanted: str) -> None:
    path = saved(tmp_path / "net.pth", linear_block=stored)
    loaded = model(MobileSRModel, tmp_path, path, {"linear_block": wanted})
    image = tensor(noise(12, 15)[:, :, :1])
    expected = seeded_sesr(variant="M3", num_expand=32, linear_block=stored)(image)
    assert torch.allclose(loaded.net_g(image), expected, atol=1e-5)


def test_x2_starts_x4_and_says_what_moved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path / "x2.pth")
    logging.getLogger("basicsr").propagate = True
    with caplog.at_level(logging.INFO, logger="basicsr"):
        x4 = model(MobileSRModel, tmp_path, path, {"upscale": 4}, transfer_x2=True)
    x2_state = seeded_sesr(variant="M3", num_expand=32).state_dict()
    state = x4.net_g.state_dict()
    moved = [name for name in state if not name.startswith("conv_last")]
    assert moved
    assert all(torch.equal(state[name], x2_state[name]) for name in moved)
    said = next(record.message for record in caplog.records if "Transferred" in record.message)
    assert all(name in said for name in moved)
    assert "conv_last" not in said


def test_x2_weights_without_the_transfer_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x2.pth")
    with pytest.raises(CheckpointError, match="conv_last"):
        model(MobileSRModel, tmp_path, path, {"upscale": 4})


def test_the_transfer_needs_x2_weights(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="needs an x2 checkpoint"):
        model(MobileSRModel, tmp_path, None, {"upscale": 4}, transfer_x2=True)
    with pytest.raises(CheckpointError, match="x4 weights load without"):
        model(
            MobileSRModel, tmp_path, saved(tmp_path / "x4.pth", upscale=4), {"upscale": 4}, transfer_x2=True
        )


def test_rgb_weights_do_not_fit_a_luma_network(tmp_path: Path) -> None:
    path = saved(tmp_path / "rgb.pth", num_in_ch=3)
    with pytest.raises(CheckpointError, match="num_in_ch"):
        model(MobileSRModel, tmp_path, path, {})


@pytest.mark.parametrize("described", [True, False])
def test_prelu_in_float_relu_in_int8(tmp_path: Path, described: bool) -> None:
    path = saved(tmp_path / "pretrained.pth", described, activation="prelu")
    qat = model(QATSRModel, tmp_path, path, {"activation": "relu"})
    teacher = seeded_sesr(variant="M3", num_expand=32, activation="prelu" if described else "relu")
    image = tensor(noise(12, 12)[:, :, :1])
    with torch.no_grad():
        assert torch.allclose(qat._float_network(image), teacher(image))
    lq = torch.cat([tensor(noise(12, 12, seed)[:, :, :1]) for seed in range(2)])
    for iteration in range(1, 5):
        qat.feed_data({"lq": lq, "gt": torch.zeros(2, 1, 24, 24)})
        qat.optimize_parameters(iteration)
    qat.save(0, 4)
    restored = checkpoint.restore(tmp_path / "net_g_4.pth")
    assert restored.name == "sesr_m3_x2"
    assert restored.float_network is not None
    with torch.no_grad():
        assert torch.allclose(restored.float_network(image), teacher(image))


@pytest.mark.parametrize("kind", [MobileSRModel, QATSRModel])
def test_colour_images_in_validation(tmp_path: Path, kind: type) -> None:
    """Y is the network's, to the bit where RGB can hold it; Cb and Cr are interpolated."""
    path = saved(tmp_path / "net.pth", activation="relu")
    tested = model(kind, tmp_path, path, {"activation": "relu"})
    if kind is QATSRModel:
        for iteration in range(1, 3):
            tested.feed_data({"lq": torch.cat([tensor(noise(12, 12, s)[:, :, :1]) for s in (1, 2)])})
            tested.optimize_parameters(iteration)
    soft = 0.5 + 0.2 * (tensor(noise(14, 18)) - 0.5)  # inside the gamut, so nothing is clipped
    tested.feed_data({"lq": soft})
    tested.test()
    colour = tested.output
    tested.feed_data({"lq": rgb_to_ycbcr(soft)[:, :1]})
    tested.test()
    assert colour.shape == (1, 3, 28, 36)
    assert torch.allclose(rgb_to_ycbcr(colour)[:, :1], tested.output, atol=1e-5)


def test_ycbcr_is_basicsrs_and_its_own_inverse() -> None:
    from basicsr.utils.color_util import rgb2ycbcr

    rgb = tensor(noise(9, 11))
    expected = rgb2ycbcr(rgb[0].permute(1, 2, 0).numpy())
    assert torch.allclose(rgb_to_ycbcr(rgb)[0].permute(1, 2, 0), torch.from_numpy(expected), atol=1e-5)
    assert torch.allclose(ycbcr_to_rgb(rgb_to_ycbcr(rgb)), rgb, atol=1e-5)


def test_training_moves_the_expanded_parameters(tmp_path: Path) -> None:
    started = model(MobileSRModel, tmp_path, saved(tmp_path / "net.pth"), {})
    before = {name: value.clone() for name, value in started.net_g.state_dict().items()}
    lq = tensor(noise(12, 12)[:, :, :1])
    started.feed_data({"lq": lq, "gt": torch.zeros(1, 1, 24, 24)})
    started.optimize_parameters(1)
    after = started.net_g.state_dict()
    assert all(not torch.equal(after[name], before[name]) for name in before if "expand" in name)
    assert isinstance(started.net_g, SESR)
