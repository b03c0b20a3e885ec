"""The demo set, calibration pictures and sample pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_fixtures import folder_content, hr_folder, lmdb_content, read_png, write_png

from mobilesr_plugin.data import demo
from mobilesr_plugin.data.bicubic import downscale
from mobilesr_plugin.data.calibration import calibration_images
from mobilesr_plugin.data.check import check_datasets
from mobilesr_plugin.data.demo import make_demo
from mobilesr_plugin.data.lmdb_store import read_meta_info
from mobilesr_plugin.data.photographs import photograph
from mobilesr_plugin.data.samples import sample_images
from mobilesr_plugin.errors import DataError


@pytest.fixture(scope="module")
def demo_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "demo"
    make_demo(out)
    return out


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_demo_layout(demo_set: Path, scale: int) -> None:
    train = {
        "type": "PairedImageDataset",
        "phase": "train",
        "dataroot_gt": demo_set / "train_HR_sub.lmdb",
        "dataroot_lq": demo_set / f"train_LR_bicubic_X{scale}_sub.lmdb",
        "io_backend": {"type": "lmdb"},
        "gt_size": 32 * scale,
    }
    val = {
        "type": "PairedImageDataset",
        "phase": "val",
        "dataroot_gt": demo_set / "valid_HR",
        "dataroot_lq": demo_set / "valid_LR_bicubic" / f"X{scale}",
        "io_backend": {"type": "disk"},
    }
    check_datasets({"scale": scale, "datasets": {"train": train, "val": val}})
    for name in folder_content(demo_set / "valid_HR"):
        high = read_png(demo_set / "valid_HR" / name)
        assert high.shape[0] % 12 == high.shape[1] % 12 == 0
        np.testing.assert_array_equal(
            read_png(demo_set / "valid_LR_bicubic" / f"X{scale}" / name), downscale(high, scale)
        )


def test_validation_shares_nothing_with_training(demo_set: Path) -> None:
    training = {key.rsplit("_s", 1)[0] for key in lmdb_content(demo_set / "train_HR_sub.lmdb")}
    validation = {Path(name).stem for name in folder_content(demo_set / "valid_HR")}
    assert "chelsea" in validation
    assert {"motorcycle_left", "motorcycle_right"} <= training
    assert not training & validation
    assert len(validation) >= 3
    assert {shape[:2] for shape in read_meta_info(demo_set / "train_HR_sub.lmdb").values()} == {(144, 144)}


def test_complete_demo_is_left_as_it_is(demo_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = make_demo(demo_set)
    assert not any(output.made for result in results for output in result.outputs)
    (demo_set / demo.MARKER).unlink()
    results = make_demo(demo_set, scales=[3])
    assert not any(output.made for result in results for output in result.outputs)

    monkeypatch.setattr(demo, "STEP", 144)
    with pytest.raises(DataError, match="made differently before: step was 72, is now 144"):
        make_demo(demo_set)


def test_demo_at_an_unusual_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TRAINING", (("ihc.png", 1),))
    make_demo(tmp_path / "demo", scales=[5])
    shapes = read_meta_info(tmp_path / "demo" / "train_LR_bicubic_X5_sub.lmdb")
    assert set(shapes.values()) == {(24, 24, 3)}


def test_a_photograph_that_is_not_shipped() -> None:
    with pytest.raises(DataError, match=r"does not ship nothing\.png"):
        photograph("nothing.png")


def test_calibration_from_a_folder(tmp_path: Path) -> None:
    folder = hr_folder(tmp_path / "lr", count=10, height=20, width=20)
    every = calibration_images(folder, 3)
    assert [image.shape[0] for image in every] == [20 + 5 * i for i in range(1, 11)]
    assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in every)
    np.testing.assert_array_equal(every[4], read_png(folder / "0005.png"))

    some = [[image.shape[0] for image in calibration_images(folder, 3, limit=5, seed=s)] for s in (0, 0, 1)]
    assert some[0] == some[1]
    assert all((height - 25) // 10 == index for index, height in enumerate(some[0]))


def test_calibration_from_an_lmdb(demo_set: Path) -> None:
    source = demo_set / "train_LR_bicubic_X3_sub.lmdb"
    images = calibration_images(source, 3, limit=100)
    assert len(images) == 100
    assert {image.shape for image in images} == {(48, 48, 3)}
    content = lmdb_content(source)
    first = calibration_images(source, 3, limit=len(content))[0]
    expected = downscale(photograph("brick.png")[:504, :504], 3)[:48, :48]
    np.testing.assert_array_equal(first, expected)


def test_calibration_errors(tmp_path: Path, demo_set: Path) -> None:
    cases = [
        (tmp_path / "none", "does not exist"),
        (tmp_path, "holds no image"),
        (demo_set / "train_LR_bicubic_X4_sub.lmdb", "LR of another scale than the network's 3"),
        (demo_set / "train_HR_sub.lmdb", "holds HR pictures"),
    ]
    for source, expected in cases:
        with pytest.raises(DataError, match=expected):
            calibration_images(source, 3)
    (tmp_path / "x.lmdb").mkdir()
    with pytest.raises(DataError, match="not a complete LMDB"):
        calibration_images(tmp_path / "x.lmdb", 3)
    write_png(tmp_path / "bad" / "a.png", np.zeros((8, 8, 3), np.uint8)).write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png: is empty"):
        calibration_images(tmp_path / "bad", 3)


def test_samples() -> None:
    samples = sample_images()
    assert len(samples) >= 4
    for image in samples.values():
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert all(150 <= side <= 320 for side in image.shape[:2])
        assert image.shape[2] == 3
    assert any(image.shape[0] % 2 and image.shape[1] % 2 for image in samples.values())
    again = sample_images()
    assert all((again[name] == image).all() for name, image in samples.items())
