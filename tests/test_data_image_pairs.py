"""``data prepare --as valid`` and ``--as benchmark``: pairs of PNG folders with equal names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_fixtures import folder_content, hr_folder, picture, read_png, write_png

from mobilesr_plugin.data.bicubic import downscale
from mobilesr_plugin.data.prepare import Kind, prepare
from mobilesr_plugin.errors import DataError, OptionError


def test_benchmark_folders_have_fixed_names(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="fixed names"):
        prepare(hr_folder(tmp_path / "hr"), tmp_path / "out", Kind.BENCHMARK, scales=[3], name="mine")


def test_benchmark_folders(tmp_path: Path) -> None:
    from basicsr.data.paired_image_dataset import PairedImageDataset

    hr, out = hr_folder(tmp_path / "hr"), tmp_path / "Set5"
    result = prepare(hr, out, Kind.BENCHMARK, scales=[2, 3], workers=1)
    assert [output.path.name for output in result.outputs] == ["GTmod12", "LRbicx2", "LRbicx3"]
    for name in folder_content(hr):
        image = read_png(hr / name)
        image = image[: image.shape[0] // 12 * 12, : image.shape[1] // 12 * 12]
        np.testing.assert_array_equal(read_png(out / "GTmod12" / name), image)
        np.testing.assert_array_equal(read_png(out / "LRbicx3" / name), downscale(image, 3))

    options = {
        "phase": "val",
        "scale": 3,
        "dataroot_gt": str(out / "GTmod12"),
        "dataroot_lq": str(out / "LRbicx3"),
        "io_backend": {"type": "disk"},
        "filename_tmpl": "{}",
    }
    dataset = PairedImageDataset(options)
    assert len(dataset) == 4
    assert all(s["gt"].shape[1:] == tuple(3 * n for n in s["lq"].shape[1:]) for s in dataset)


def test_a_further_scale_leaves_the_rest(tmp_path: Path) -> None:
    hr, out = hr_folder(tmp_path / "hr"), tmp_path / "Set5"
    prepare(hr, out, Kind.BENCHMARK, scales=[3], workers=1)
    before = folder_content(out / "GTmod12")
    result = prepare(hr, out, Kind.BENCHMARK, scales=[3, 4], workers=1)
    assert [output.made for output in result.outputs] == [False, False, True]
    assert folder_content(out / "GTmod12") == before
    prepare(hr, out, Kind.BENCHMARK, scales=[5], workers=1)
    assert (out / "GTmod60").is_dir()


def test_validation_folders(tmp_path: Path) -> None:
    hr, out = hr_folder(tmp_path / "hr"), tmp_path / "DIV2K"
    prepare(hr, out, Kind.VALID, scales=[3], workers=1)
    assert folder_content(out / "DIV2K_valid_HR").keys() == folder_content(hr).keys()
    assert folder_content(out / "DIV2K_valid_LR_bicubic" / "X3").keys() == folder_content(hr).keys()


def test_hr_that_lies_in_place_stays_untouched(tmp_path: Path) -> None:
    out = tmp_path / "DIV2K"
    hr = hr_folder(out / "DIV2K_valid_HR")
    before = folder_content(hr)
    result = prepare(hr, out, Kind.VALID, scales=[3], workers=1)
    assert [output.made for output in result.outputs] == [False, True]
    assert folder_content(hr) == before
    assert {path.name for path in hr.iterdir()} == set(before)
    for name in before:
        np.testing.assert_array_equal(
            read_png(out / "DIV2K_valid_LR_bicubic" / "X3" / name), downscale(read_png(hr / name), 3)
        )

    (hr / "0001.png").rename(hr / "0 1.png")
    with pytest.raises(DataError, match="cannot stay where it is"):
        prepare(hr, out, Kind.VALID, scales=[2], workers=1)


def test_folders_of_others_are_not_touched(tmp_path: Path) -> None:
    hr, out = hr_folder(tmp_path / "hr", count=2), tmp_path / "Set5"
    write_png(out / "GTmod12" / "mine.png", picture(24, 24))
    with pytest.raises(DataError, match="GTmod12 exists and was not made by this command"):
        prepare(hr, out, Kind.BENCHMARK, scales=[3], workers=1)
    assert folder_content(out / "GTmod12").keys() == {"mine.png"}


def test_corrupt_pictures(tmp_path: Path) -> None:
    hr, out = hr_folder(tmp_path / "hr", count=3), tmp_path / "Set5"
    bad = hr / "0002.png"
    bad.write_bytes(bad.read_bytes()[:-5000])
    with pytest.raises(DataError, match=r"0002\.png: is damaged .*--skip-corrupt"):
        prepare(hr, out, Kind.BENCHMARK, scales=[3], workers=1)
    assert not (out / "GTmod12").exists()
    result = prepare(hr, out, Kind.BENCHMARK, scales=[3], workers=1, skip_corrupt=True)
    assert [error.path for error in result.skipped] == [bad]
    assert folder_content(out / "GTmod12").keys() == folder_content(out / "LRbicx3").keys()
    assert len(folder_content(out / "GTmod12")) == 2
