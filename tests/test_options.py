"""Option files: as generated, complete, and strict where BasicSR is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from networks import ABPN, SESR

from mobilesr_plugin.archs.sesr_arch import VARIANTS
from mobilesr_plugin.config.start_files import check_files
from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.options import (
    ExportOptions,
    QuantizationOptions,
    check,
    parse_block,
    parse_size,
)

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = {"ABPN": ABPN, "SESR": SESR}
FILES = sorted((ROOT / "options").rglob("*.yml"))


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def test_generated_files_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "make_options.py", "--check"], capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_all_the_promised_files_are_there() -> None:
    names = {str(path.relative_to(ROOT / "options")) for path in FILES}
    for scale in (2, 3, 4):
        for suffix in ("", "_qat", "_test", "_tflite_test"):
            assert f"abpn_x{scale}{suffix}.yml" in names
            assert f"demo/abpn_x{scale}{suffix}.yml" in names
    for scale in (2, 4):
        for suffix in ("", "_qat", "_test", "_tflite_test"):
            for variant in VARIANTS:
                assert f"sesr_{variant.lower()}_x{scale}{suffix}.yml" in names
        for suffix in ("", "_qat", "_tflite_test"):
            assert f"demo/sesr_m5_x{scale}{suffix}.yml" in names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_is_accepted_and_consistent(path: Path) -> None:
    opt = load(path)
    check(opt)
    scale = opt["scale"]
    for name, dataset in opt["datasets"].items():
        assert str(scale) in Path(dataset["dataroot_lq"]).name
        if name == "train":
            assert dataset["gt_size"] % scale == 0
    metrics = opt["val"]["metrics"]
    luma = "sesr" in path.name
    assert all((dataset.get("color") == "y") == luma for dataset in opt["datasets"].values())
    rgb = {"type": "calculate_psnr", "crop_border": 1, "test_y_channel": False}
    assert metrics.get("rgb_crop1") == (None if luma else rgb)
    assert metrics["y_crop_scale"] == {
        "type": "calculate_psnr",
        "crop_border": scale,
        "test_y_channel": True,
    }
    if "network_g" in opt:
        arguments = {key: value for key, value in opt["network_g"].items() if key != "type"}
        assert NETWORKS[opt["network_g"]["type"]](**arguments).upscale == scale


def test_sesr_files_say_their_variant_and_start_x4_from_x2() -> None:
    for variant in VARIANTS:
        for scale in (2, 4):
            opt = load(ROOT / "options" / f"sesr_{variant.lower()}_x{scale}.yml")
            assert opt["network_g"]["variant"] == variant
            assert opt["train"].get("transfer_x2", False) == (scale == 4)
            started = opt["path"]["pretrain_network_g"]
            assert started == (
                f"experiments/sesr_{variant.lower()}_x2/models/net_g_latest.pth" if scale == 4 else None
            )
            qat = load(ROOT / "options" / f"sesr_{variant.lower()}_x{scale}_qat.yml")
            assert qat["network_g"]["activation"] == "relu"
            assert opt["network_g"]["activation"] == "prelu"


def test_the_published_recipe() -> None:
    opt = load(ROOT / "options" / "abpn_x3.yml")
    train = opt["datasets"]["train"]
    assert (train["gt_size"] // 3, train["batch_size_per_gpu"]) == (64, 16)
    assert opt["train"]["scheduler"]["milestones"] == [120000, 240000, 360000, 480000]
    assert opt["train"]["total_iter"] == 600000
    assert opt["train"]["pixel_opt"]["type"] == "L1Loss"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"quantizaton": {}}, "did you mean quantization?"),
        ({"quantization": {"obsever": "minmax"}}, "did you mean observer?"),
        ({"quantization": {"observer": "kl"}}, "auto, minmax, moving_average, mse, percentile"),
        ({"quantization": [1]}, "block of keys"),
        ({"export": {"size": ["1x1"]}}, "did you mean sizes?"),
        ({"export": {"sizes": ["big"]}}, "HEIGHTxWIDTH"),
        ({"export": {"sizes": 360}}, "must be a list"),
        ({"export": {"io": "int4"}}, "uint8, int8, float32"),
        ({"tflite": {"threads": 0}}, "at least 1"),
    ],
)
def test_misspelt_keys_are_stated(change: dict[str, Any], named: str) -> None:
    opt = {**load(ROOT / "options" / "abpn_x3_qat.yml"), **change}
    with pytest.raises(OptionError) as caught:
        check(opt)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"path": {"pretrain_network_g": "none.pth"}}, "none.pth does not exist"),
        ({"export": {"calib": "nowhere"}, "path": {}}, "nowhere does not exist"),
    ],
)
def test_files_to_start_from(change: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        check_files({**load(ROOT / "options" / "abpn_x3_qat.yml"), **change})


def test_a_float_training_cannot_export_without_images() -> None:
    opt = {**load(ROOT / "options" / "abpn_x3.yml"), "export": {"sizes": []}}
    with pytest.raises(OptionError, match="calib"):
        check(opt)
    check({**opt, "export": {"sizes": [], "calib": "somewhere"}})


def test_defaults() -> None:
    assert parse_block({}, "quantization", QuantizationOptions) == QuantizationOptions()
    assert parse_block({"export": {"sizes": "8x9"}}, "export", ExportOptions).sizes == ("8x9",)
    assert parse_size("360x640") == (360, 640)


@pytest.mark.parametrize("text", ["360", "x", "0x5", "axb", "360x640x3", ""])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(OptionError, match="360x640"):
        parse_size(text)
