"""Data sets are checked before anything is built: one line that names the path and the way out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest
from data_fixtures import hr_folder, picture, write_png

from mobilesr_plugin.data.check import check_datasets
from mobilesr_plugin.data.prepare import Kind, prepare
from mobilesr_plugin.data.remedy import command_for
from mobilesr_plugin.errors import DataError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    hr = hr_folder(root / "hr", count=3)
    prepare(hr, root / "DIV2K", scales=[2, 3], crop_size=96, step=48, workers=1)
    prepare(hr, root / "Set5", Kind.BENCHMARK, scales=[3], workers=1)
    return root


@pytest.fixture
def data(prepared: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(prepared, tmp_path / "data"))


def options(data: Path) -> dict[str, Any]:
    """As BasicSR's parse_options gives them."""
    train = {
        "type": "PairedImageDataset",
        "phase": "train",
        "scale": 3,
        "dataroot_gt": str(data / "DIV2K/DIV2K_train_HR_sub.lmdb"),
        "dataroot_lq": str(data / "DIV2K/DIV2K_train_LR_bicubic_X3_sub.lmdb"),
        "io_backend": {"type": "lmdb"},
        "filename_tmpl": "{}",
        "gt_size": 96,
    }
    val = {
        "type": "PairedImageDataset",
        "phase": "val",
        "scale": 3,
        "dataroot_gt": str(data / "Set5/GTmod12"),
        "dataroot_lq": str(data / "Set5/LRbicx3"),
        "io_backend": {"type": "disk"},
    }
    return {"scale": 3, "datasets": {"train": train, "val_2": val}}


def message(opt: dict[str, Any]) -> str:
    with pytest.raises(DataError) as caught:
        check_datasets(opt)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_good_data_passes(prepared: Path) -> None:
    check_datasets(options(prepared))
    check_datasets({})
    check_datasets({"datasets": {"train": None}})
    single = {"type": "SingleImageDataset", "phase": "test", "dataroot_lq": str(prepared / "Set5/LRbicx3")}
    check_datasets({"datasets": {"test_1": {**single, "io_backend": {"type": "disk"}}}})


def test_missing_paths_name_the_command(data: Path) -> None:
    opt = options(data)
    shutil.rmtree(data / "DIV2K/DIV2K_train_HR_sub.lmdb")
    assert message(opt) == (
        f"datasets: train: dataroot_gt: {data}/DIV2K/DIV2K_train_HR_sub.lmdb does not exist; "
        f"make it with `mobilesr data prepare --hr DIR --scale 3 --out {data}/DIV2K --crop-size 480`"
    )
    opt["datasets"]["train"]["dataroot_gt"] = f"{data}/DIV2K/DIV2K_train_HR.lmdb"
    tiles = data / "DIV2K/DIV2K_train_HR_sub.lmdb"
    tiles.mkdir()
    assert message(opt).endswith(f"--scale 3 --out {data}/DIV2K`, or use the tiles that are there: {tiles}")
    del opt["datasets"]["train"]
    shutil.rmtree(data / "Set5/LRbicx3")
    assert message(opt).endswith(
        f"make it with `mobilesr data prepare --hr DIR --scale 3 --out {data}/Set5 --as benchmark`"
    )


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("datasets/demo/train_HR_sub.lmdb", "mobilesr data demo"),
        ("datasets/demo/valid_LR_bicubic/X3", "mobilesr data demo"),
        ("elsewhere/demo/valid_HR", "mobilesr data demo --out elsewhere/demo"),
        (
            "datasets/DIV2K/DIV2K_train_LR_bicubic_X3.lmdb",
            "mobilesr data prepare --hr DIR --scale 3 --out datasets/DIV2K",
        ),
        (
            "d/DF2K/other_HR.lmdb",
            "mobilesr data prepare --hr DIR --scale 3 --out d/DF2K --name other",
        ),
        (
            "datasets/DIV2K/DIV2K_train_LR_bicubic_X3_sub.lmdb",
            "mobilesr data prepare --hr DIR --scale 3 --out datasets/DIV2K --crop-size 480",
        ),
        (
            "datasets/DIV2K/DIV2K_valid_HR",
            "mobilesr data prepare --hr DIR --scale 3 --out datasets/DIV2K --as valid",
        ),
        (
            "datasets/DIV2K/DIV2K_valid_LR_bicubic/X3",
            "mobilesr data prepare --hr DIR --scale 3 --out datasets/DIV2K --as valid",
        ),
        (
            "datasets/Set14/GTmod12",
            "mobilesr data prepare --hr DIR --scale 3 --out datasets/Set14 --as benchmark",
        ),
        ("my/pictures", None),
    ],
)
def test_command_for(path: str, command: str | None) -> None:
    assert command_for(Path(path), 3) == command


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty_lmdb(folder: Path) -> None:
    (folder / "data.mdb").unlink()
    lmdb.open(str(folder)).close()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda d: (d / "meta_info.txt").unlink(), "is incomplete (no meta_info.txt); make it with"),
        (lambda d: (d / "data.mdb").unlink(), "is incomplete (no data.mdb); make it with"),
        (lambda d: _cut(d / "data.mdb"), "data.mdb is cut short"),
        (lambda d: (d / "data.mdb").write_bytes(b""), "is damaged"),
        (lambda d: (d / "data.mdb").write_bytes(b"x" * 99999), "is damaged"),
        (_empty_lmdb, "holds 0 images, but its meta_info.txt lists"),
        (lambda d: (d / "meta_info.txt").write_text("nonsense\n"), "line 1: expected `name.png"),
    ],
)
def test_damaged_lmdb(data: Path, damage: Callable[[Path], None], expected: str) -> None:
    damage(data / "DIV2K/DIV2K_train_LR_bicubic_X3_sub.lmdb")
    text = message(options(data))
    assert expected in text
    assert "DIV2K_train_LR_bicubic_X3_sub.lmdb" in text


def test_lr_of_another_scale(data: Path) -> None:
    opt = options(data)
    opt["datasets"]["train"]["dataroot_lq"] = str(data / "DIV2K/DIV2K_train_LR_bicubic_X2_sub.lmdb")
    assert "0001_s001: LR of 48x48 and HR of 96x96 pixels do not match at scale 3" in message(opt)


def test_other_keys(data: Path) -> None:
    prepare(
        hr_folder(data / "more", count=4),
        data / "more",
        scales=[3],
        crop_size=96,
        step=48,
        name="m",
        workers=1,
    )
    opt = options(data)
    opt["datasets"]["train"]["dataroot_lq"] = str(data / "more/m_LR_bicubic_X3_sub.lmdb")
    assert "0004_s001 of dataroot_lq" in message(opt)
    opt = options(data)
    opt["datasets"]["train"]["dataroot_gt"] = str(data / "more/m_HR_sub.lmdb")
    assert "0004_s001 of dataroot_gt" in message(opt)


def test_folder_names(data: Path) -> None:
    (data / "Set5/LRbicx3/0002.png").unlink()
    assert "0002.png of dataroot_gt" in message(options(data))
    opt = options(data)
    opt["datasets"]["val_2"]["filename_tmpl"] = "{}x3"
    assert "0001.png of dataroot_gt" in message(opt)
    assert "needs 0001x3.png in dataroot_lq" in message(opt)
    for path in (data / "Set5/GTmod12").glob("*.png"):
        if path.stem != "0002":
            (data / f"Set5/LRbicx3/{path.name}").rename(data / f"Set5/LRbicx3/{path.stem}x3.png")
    (data / "Set5/GTmod12/0002.png").unlink()
    check_datasets(opt)


def test_hr_may_be_a_little_larger_in_validation_only(data: Path) -> None:
    gt = data / "Set5/GTmod12/0001.png"
    for height, width, good in ((152, 206, True), (155, 205, False), (149, 204, False)):
        write_png(data / "Set5/LRbicx3/0001.png", picture(50, 68))
        write_png(gt, picture(height, width))
        if good:
            check_datasets(options(data))
        else:
            assert "0001.png: LR of 50x68" in message(options(data))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty (0 bytes)"), (b"text", "is not a readable image"), (None, "is cut short")],
)
def test_bad_files_are_named(data: Path, content: bytes | None, reason: str) -> None:
    path = data / "Set5/LRbicx3/0003.png"
    path.write_bytes(path.read_bytes()[:-500] if content is None else content)
    text = message(options(data))
    assert f"{path}: {reason}" in text
    assert text.startswith("datasets: val_2: dataroot_lq: ")


def test_patches(data: Path) -> None:
    for size, expected in (
        (97, "gt_size must be a multiple of the scale 3, got 97"),
        (None, "got None"),
        (192, "gt_size 192 is larger than 0001_s001 of 96x96 pixels"),
    ):
        opt = options(data)
        opt["datasets"]["train"]["gt_size"] = size
        assert expected in message(opt)


def test_backends(data: Path) -> None:
    opt = options(data)
    opt["datasets"]["train"]["io_backend"] = {"type": "disk"}
    assert "is an LMDB, but io_backend is disk; write `type: lmdb`" in message(opt)
    opt = options(data)
    opt["datasets"]["val_2"]["io_backend"] = {"type": "lmdb"}
    assert "its name must end with .lmdb" in message(opt)
    opt = options(data)
    del opt["datasets"]["val_2"]["io_backend"]
    assert "io_backend is missing" in message(opt)
    opt = options(data)
    del opt["datasets"]["val_2"]["dataroot_lq"]
    assert message(opt) == "datasets: val_2: dataroot_lq is missing from the options"


def test_meta_info_file(data: Path) -> None:
    opt = options(data)
    opt["datasets"]["val_2"]["meta_info_file"] = str(data / "list.txt")
    assert "list.txt cannot be read" in message(opt)
    (data / "list.txt").write_text("0001.png (156,204,3)\n0002.png (156,204,3)\n")
    (data / "Set5/LRbicx3/0003.png").write_bytes(b"")
    check_datasets(opt)
    (data / "list.txt").write_text("0009.png (156,204,3)\n")
    assert "0009.png: does not exist" in message(opt)


def test_other_types_are_left_alone_and_subclasses_are_not() -> None:
    import mobilesr_plugin

    mobilesr_plugin.register()
    from basicsr.data.paired_image_dataset import PairedImageDataset
    from basicsr.utils.registry import DATASET_REGISTRY

    opt = {"datasets": {"train": {"type": "VideoTestDataset", "dataroot_gt": "nowhere"}}}
    check_datasets(opt)
    opt["datasets"]["train"]["type"] = "NotRegisteredAnywhere"
    check_datasets(opt)

    if "PairedForThisTest" not in DATASET_REGISTRY:
        DATASET_REGISTRY.register()(type("PairedForThisTest", (PairedImageDataset,), {}))
    opt = {"datasets": {"val": {"type": "PairedForThisTest", "dataroot_gt": "nowhere", "phase": "val"}}}
    opt["datasets"]["val"]["io_backend"] = {"type": "disk"}
    assert "nowhere does not exist; correct the path" in message(opt)


def test_div2k_is_checked_quickly(tmp_path: Path) -> None:
    names = [f"{i // 41:04d}_s{i % 41:03d}" for i in range(32592)]
    for folder, size in (("n_HR_sub.lmdb", 480), ("n_LR_bicubic_X3_sub.lmdb", 160)):
        with lmdb.open(str(tmp_path / folder), map_size=1 << 26) as env, env.begin(write=True) as transaction:
            for name in names:
                transaction.put(name.encode(), b"png")
        lines = (f"{name}.png ({size},{size},3) 1\n" for name in names)
        (tmp_path / folder / "meta_info.txt").write_text("".join(lines))
    train = {**options(tmp_path)["datasets"]["train"], "gt_size": 192}
    train["dataroot_gt"] = str(tmp_path / "n_HR_sub.lmdb")
    train["dataroot_lq"] = str(tmp_path / "n_LR_bicubic_X3_sub.lmdb")
    begin = time.perf_counter()
    check_datasets({"scale": 3, "datasets": {"train": train}})
    assert time.perf_counter() - begin < 2
