"""``data prepare --as train``: images and tiles in LMDBs as BasicSR makes and reads them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from data_fixtures import decode, hr_folder, lmdb_content, picture, read_png, write_png

from mobilesr_plugin.data import lmdb_store
from mobilesr_plugin.data.bicubic import downscale
from mobilesr_plugin.data.lmdb_store import read_meta_info
from mobilesr_plugin.data.prepare import prepare
from mobilesr_plugin.data.tiles import TileGrid
from mobilesr_plugin.errors import DataError, OptionError

SMALL = {"crop_size": 96, "step": 48, "workers": 1}
HR, X3 = "DIV2K_train_HR_sub.lmdb", "DIV2K_train_LR_bicubic_X3_sub.lmdb"


def test_grid_is_basicsr_s() -> None:
    """extract_subimages with crop 480, step 240, thresh 0 gives DIV2K 0001 (2040x1404) 40 tiles."""
    grid = TileGrid(1404, 2040, 480, 240)
    assert len(grid.origins()) == 5 * 8
    assert grid.origins()[:2] == [(0, 0), (0, 240)]
    assert grid.origins()[-1] == (1404 - 480, 2040 - 480)
    assert grid.names("0001")[0] == "0001_s001"
    assert TileGrid(480, 720, 480, 240).origins() == [(0, 0), (0, 240)]
    assert TileGrid(300, 500, 480, 240).origins() == [(0, 0), (0, 20)]
    assert TileGrid(300, 500, 480, 240).tile_height == 300


def test_layout_and_pixels(tmp_path: Path) -> None:
    hr, out = hr_folder(tmp_path / "hr"), tmp_path / "DIV2K"
    result = prepare(hr, out, scales=[3], **SMALL)
    assert [output.path for output in result.outputs] == [out / HR, out / X3]
    assert all(output.made for output in result.outputs)
    for name in (HR, X3):
        visible = {path.name for path in (out / name).iterdir() if not path.name.startswith(".")}
        assert visible == {"data.mdb", "lock.mdb", "meta_info.txt"}
    lines = (out / X3 / "meta_info.txt").read_text().splitlines()
    assert lines[0] == "0001_s001.png (32,32,3) 1"

    high, low = lmdb_content(out / HR), lmdb_content(out / X3)
    assert list(read_meta_info(out / HR)) == sorted(high) == sorted(low)
    for stem in ("0001", "0004"):
        image = read_png(hr / f"{stem}.png")
        image = image[: image.shape[0] // 12 * 12, : image.shape[1] // 12 * 12]
        small = downscale(image, 3)
        grid = TileGrid(*image.shape[:2], 96, 48)
        for name, (y, x) in zip(grid.names(stem), grid.origins(), strict=True):
            np.testing.assert_array_equal(decode(high[name]), image[y : y + 96, x : x + 96])
            np.testing.assert_array_equal(decode(low[name]), small[y // 3 :, x // 3 :][:32, :32])


def test_pictures_stay_whole_without_a_crop_size(tmp_path: Path) -> None:
    hr, out = hr_folder(tmp_path / "hr", count=2, height=270, width=300), tmp_path / "DIV2K"
    result = prepare(hr, out, scales=[3], workers=1)
    names = "DIV2K_train_HR.lmdb", "DIV2K_train_LR_bicubic_X3.lmdb"
    assert [(output.path, output.images) for output in result.outputs] == [(out / name, 2) for name in names]
    assert (out / names[1] / "meta_info.txt").read_text() == "0001.png (88,100,3) 1\n0002.png (92,100,3) 1\n"
    high, low = (lmdb_content(out / name) for name in names)
    for stem in ("0001", "0002"):
        image = read_png(hr / f"{stem}.png")
        image = image[: image.shape[0] // 12 * 12, : image.shape[1] // 12 * 12]
        np.testing.assert_array_equal(decode(high[stem]), image)
        np.testing.assert_array_equal(decode(low[stem]), downscale(image, 3))
    assert not any(output.made for output in prepare(hr, out, scales=[3], workers=1).outputs)
    with pytest.raises(DataError, match="no usable picture: 0 unreadable, 2 with a side under 300 pixels"):
        prepare(hr, tmp_path / "other", scales=[3], min_side=300)


def test_basicsr_reads_it(tmp_path: Path) -> None:
    from basicsr.data.paired_image_dataset import PairedImageDataset

    out = tmp_path / "DIV2K"
    prepare(hr_folder(tmp_path / "hr", count=2), out, scales=[3], **SMALL)
    options = {
        "type": "PairedImageDataset",
        "phase": "train",
        "scale": 3,
        "dataroot_gt": str(out / HR),
        "dataroot_lq": str(out / X3),
        "io_backend": {"type": "lmdb"},
        "gt_size": 48,
        "use_hflip": True,
        "use_rot": True,
    }
    dataset = PairedImageDataset(options)
    assert len(dataset) == len(lmdb_content(out / HR))
    sample = dataset[len(dataset) - 1]
    assert tuple(sample["gt"].shape) == (3, 48, 48)
    assert tuple(sample["lq"].shape) == (3, 16, 16)


def test_hr_serves_every_scale(tmp_path: Path) -> None:
    hr, out = hr_folder(tmp_path / "hr", count=2), tmp_path / "DIV2K"
    prepare(hr, out, scales=[3], **SMALL)
    before = (out / HR / "data.mdb").stat().st_mtime_ns
    result = prepare(hr, out, scales=[2, 4], **SMALL)
    assert [output.made for output in result.outputs] == [False, True, True]
    assert (out / HR / "data.mdb").stat().st_mtime_ns == before
    assert set(read_meta_info(out / "DIV2K_train_LR_bicubic_X4_sub.lmdb").values()) == {(24, 24, 3)}
    assert not any(output.made for output in prepare(hr, out, scales=[2, 3, 4], **SMALL).outputs)


def test_other_pictures_or_settings_are_refused(tmp_path: Path) -> None:
    hr, out = hr_folder(tmp_path / "hr", count=2), tmp_path / "DIV2K"
    prepare(hr, out, scales=[3], **SMALL)
    with pytest.raises(DataError, match=r"made differently before: step was 48, is now 24; delete it"):
        prepare(hr, out, scales=[3], crop_size=96, step=24, workers=1)
    write_png(hr / "0002.png", picture(160, 206, seed=99))
    with pytest.raises(DataError, match="picture 0002 has changed"):
        prepare(hr, out, scales=[2], **SMALL)
    hr_folder(hr, count=3)
    with pytest.raises(DataError, match="picture 0003 is new"):
        prepare(hr, out, scales=[2], **SMALL)
    prepare(hr, out, scales=[2], name="other", **SMALL)


def test_an_lmdb_made_by_basicsr_is_used(tmp_path: Path) -> None:
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    hr, out = tmp_path / "hr", tmp_path / "DIV2K"
    write_png(hr / "a.png", picture(96, 96))
    tiles = tmp_path / "tiles"
    write_png(tiles / "a_s001.png", read_png(hr / "a.png"))
    out.mkdir()
    make_lmdb_from_imgs(str(tiles), str(out / HR), ["a_s001.png"], ["a_s001"])
    result = prepare(hr, out, scales=[3], **SMALL)
    assert [output.made for output in result.outputs] == [False, True]

    write_png(hr / "b.png", picture(96, 96))
    with pytest.raises(DataError, match="exists with other images"):
        prepare(hr, out, scales=[2], **SMALL)
    (out / HR / "meta_info.txt").unlink()
    with pytest.raises(DataError, match="unfinished LMDB from elsewhere"):
        prepare(hr, out, scales=[2], **SMALL)


def test_small_pictures(tmp_path: Path) -> None:
    hr = tmp_path / "hr"
    write_png(hr / "low.png", picture(70, 200))
    write_png(hr / "tiny.png", picture(40, 200))
    result = prepare(hr, tmp_path / "DIV2K", scales=[3], crop_size=96, step=48, min_side=60, workers=1)
    assert result.too_small == [hr / "tiny.png"]
    shapes = read_meta_info(tmp_path / "DIV2K" / HR)
    assert set(shapes.values()) == {(60, 96, 3)}
    with pytest.raises(DataError, match="no usable picture: 0 unreadable, 2 with a side under 96"):
        prepare(hr, tmp_path / "other", scales=[3], **SMALL)


def test_kinds_of_pictures(tmp_path: Path) -> None:
    from PIL import Image

    hr, out = tmp_path / "hr", tmp_path / "DIV2K"
    colour = picture(96, 96)
    grey = np.ascontiguousarray(colour[:, :, 0])
    write_png(hr / "alpha.png", np.dstack([colour, grey]))
    write_png(hr / "grey.png", grey)
    Image.fromarray(colour).quantize(64).save(hr / "palette.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(picture(96, 192)).save(hr / "turned.jpg", exif=turned)
    write_png(hr / "dots.and blanks.png", colour)
    prepare(hr, out, scales=[3], **SMALL)
    content = lmdb_content(out / HR)
    np.testing.assert_array_equal(decode(content["alpha_s001"]), colour)
    np.testing.assert_array_equal(decode(content["grey_s001"]), np.dstack([grey] * 3))
    np.testing.assert_array_equal(
        decode(content["palette_s001"]), np.asarray(Image.open(hr / "palette.png").convert("RGB"))
    )
    assert {key for key in content if key.startswith("turned")} == {f"turned_s{i:03d}" for i in (1, 2, 3)}
    np.testing.assert_array_equal(
        decode(content["turned_s001"]), cv2.imread(str(hr / "turned.jpg"))[:96, :, ::-1]
    )
    assert "dots_and_blanks_s001" in content


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "hr" / "a.b.png", picture(96, 96))
    write_png(tmp_path / "hr" / "a_b.png", picture(96, 96))
    with pytest.raises(DataError, match=r"a\.b\.png and a_b\.png .* would both become 'a_b'"):
        prepare(tmp_path / "hr", tmp_path / "DIV2K", scales=[3], **SMALL)


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "sixteen", "sixteen_grey"])
def test_unusable_pictures_are_named_or_skipped(tmp_path: Path, damage: str) -> None:
    hr, out = hr_folder(tmp_path / "hr", count=3), tmp_path / "DIV2K"
    bad = hr / "0002.png"
    if damage == "empty":
        bad.write_bytes(b"")
    elif damage == "text":
        bad.write_text("not a picture")
    elif damage == "truncated":
        bad.write_bytes(bad.read_bytes()[:-5000])
    elif damage == "sixteen":
        write_png(bad, picture(120, 120).astype(np.uint16) * 257)
    else:
        write_png(bad, picture(120, 120)[:, :, 0].astype(np.uint16) * 257)
    with pytest.raises(DataError) as caught:
        prepare(hr, out, scales=[3], **SMALL)
    assert str(bad) in str(caught.value)
    assert "--skip-corrupt" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (out / HR / "meta_info.txt").exists()

    result = prepare(hr, out, scales=[3], skip_corrupt=True, **SMALL)
    assert [error.path for error in result.skipped] == [bad]
    names = read_meta_info(out / HR).keys()
    assert names == lmdb_content(out / HR).keys() == lmdb_content(out / X3).keys()
    assert {name[:4] for name in names} == {"0001", "0003"}


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    hr = hr_folder(tmp_path / "hr", count=1)
    with pytest.raises(OptionError, match="--crop-size must be a multiple of the scale, got 100 for scale 3"):
        prepare(hr, tmp_path / "out", scales=[3], crop_size=100, step=48)
    with pytest.raises(OptionError, match="--step"):
        prepare(hr, tmp_path / "out", scales=[4], crop_size=96, step=50)
    with pytest.raises(OptionError, match="--step is 48, but pictures stay whole; it needs --crop-size"):
        prepare(hr, tmp_path / "out", scales=[3], step=48)
    with pytest.raises(OptionError, match="--step must be a multiple of the scale, got 75 for scale 2"):
        prepare(hr, tmp_path / "out", scales=[2], crop_size=150)
    with pytest.raises(OptionError, match="--scale"):
        prepare(hr, tmp_path / "out", scales=[1])
    with pytest.raises(DataError, match="is not a folder"):
        prepare(tmp_path / "none", tmp_path / "out", scales=[3])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        prepare(tmp_path / "empty", tmp_path / "out", scales=[3])
    assert not (tmp_path / "out").exists()


def test_the_map_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_store, "_FIRST_MAP_SIZE", 64 * 1024)
    result = prepare(hr_folder(tmp_path / "hr"), tmp_path / "DIV2K", scales=[3], **SMALL)
    assert (tmp_path / "DIV2K" / HR / "data.mdb").stat().st_size > 64 * 1024
    assert len(lmdb_content(tmp_path / "DIV2K" / HR)) == result.outputs[0].images


def test_workers_change_nothing(tmp_path: Path) -> None:
    hr = hr_folder(tmp_path / "hr", count=3)
    for workers, out in ((1, "one"), (2, "two")):
        prepare(hr, tmp_path / out, scales=[3], name="n", crop_size=96, step=48, workers=workers)
    for name in ("n_HR_sub.lmdb", "n_LR_bicubic_X3_sub.lmdb"):
        one, two = tmp_path / "one" / name, tmp_path / "two" / name
        assert lmdb_content(one) == lmdb_content(two)
        assert (one / "meta_info.txt").read_bytes() == (two / "meta_info.txt").read_bytes()
