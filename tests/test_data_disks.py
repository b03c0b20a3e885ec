"""Data on disks that are full or read-only, in folders of other settings, and under odd names.

Every failure is one line and exit code 1, and nothing half-written lies under a final name.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from basicsr.data import build_dataset
from data_fixtures import decode, hr_folder, lmdb_content, picture, read_png, write_png

from mobilesr_plugin.cli.main import main
from mobilesr_plugin.data.image_pairs import benchmark_paths, validation_paths
from mobilesr_plugin.data.image_store import GT
from mobilesr_plugin.data.lmdb_store import is_complete
from mobilesr_plugin.data.training_set import training_paths
from mobilesr_plugin.errors import DataError

KINDS = ("train", "valid", "benchmark")
DISK = 300 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB; ``remount`` makes it read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    _mount("mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a disk is not allowed here")


def read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def mobilesr(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and standard error of the command."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    code = left.value.code
    assert isinstance(code, int)
    return code, capfd.readouterr().err


def prepare(hr: Path, out: Path, kind: str, *more: object) -> list[object]:
    scale = [] if "--scale" in more else ["--scale", 3]
    command = ["data", "prepare", "--hr", hr, "--out", out, "--as", kind, *scale, "--workers", 1]
    return [*command, *(["--min-side", 96] if kind == "train" else []), *more]


def outputs(out: Path, kind: str) -> list[Path]:
    name = f"{out.name}_{kind}"
    if kind == "train":
        return list(training_paths(out, name, [3]).values())
    paths = validation_paths(out, name, [3]) if kind == "valid" else benchmark_paths(out, [3])
    return list(paths.values())


def complete(path: Path) -> bool:
    return is_complete(path) if path.suffix == ".lmdb" else path.exists()


def options(gt: Path, lq: Path, **changes: Any) -> dict[str, Any]:
    opt = {
        **{"name": "tiny", "type": "CachedPairedDataset", "phase": "train", "scale": 3, "gt_size": 48},
        **{"dataroot_gt": str(gt), "dataroot_lq": str(lq), "use_hflip": True, "use_rot": True},
        "io_backend": {"type": "lmdb" if gt.suffix == ".lmdb" else "disk"},
    }
    return {**opt, **changes}


def pairs(folder: Path, count: int = 3, side: int = 60) -> dict[str, Any]:
    for index in range(count):
        write_png(folder / f"hr/{index}.png", picture(side, side, index))
        write_png(folder / f"lr/{index}.png", picture(side // 3, side // 3, 10 + index))
    return options(folder / "hr", folder / "lr")


def test_full_disk(tmp_path: Path, small_disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hr = hr_folder(tmp_path / "hr", count=12)
    assert sum(path.stat().st_size for path in hr.iterdir()) > 2 * DISK
    for kind in KINDS:
        out = small_disk / kind
        code, said = mobilesr(capfd, *prepare(hr, out, kind))
        assert code == 1, said
        assert said.startswith(f"mobilesr: {out}"), said
        assert "cannot be written" in said
        assert "space" in said.lower()
        assert said.count("\n") == 1
        assert not any(complete(path) for path in outputs(out, kind))
        assert not list(out.rglob("*.tmp"))
        _empty(small_disk)
    # LMDB maps its lock file of 8 kB: without room for it, a bus error would kill the process.
    for room in (4096, 8192, 12288):
        (small_disk / "filler").write_bytes(bytes(DISK - room))
        code, said = mobilesr(capfd, *prepare(hr, small_disk / "train", "train"))
        assert (code, said.count("\n")) == (1, 1), said
        assert "cannot be written" in said
        _empty(small_disk)
    code, said = mobilesr(capfd, "data", "demo", "--out", small_disk / "demo")
    assert code == 1
    assert said.startswith(f"mobilesr: {small_disk / 'demo'}")
    assert said.count("\n") == 1
    _empty(small_disk)

    opt = pairs(tmp_path / "data", count=40)
    store = f"{small_disk}/cache"
    with pytest.raises(
        DataError, match=rf"the decoded images take 481,\d+ bytes, but {store} has \d+,\d+ fr"
    ):
        build_dataset({**opt, "cache_dir": store})
    assert not list(small_disk.rglob("*.images"))
    assert not list(small_disk.rglob("*.tmp"))


def _empty(disk: Path) -> None:
    subprocess.run(["find", str(disk), "-mindepth", "1", "-delete"], check=True)


def test_the_disk_fills_up_while_images_are_decoded(tmp_path: Path) -> None:
    """The limit on the size of a file stands for it: a write fails half-way."""
    resource = pytest.importorskip("resource")
    opt = pairs(tmp_path / "data")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, limits[1]))
    try:
        with pytest.raises(DataError) as caught:
            build_dataset(opt)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "the decoded images (0.00 GB) cannot be written to " in str(caught.value)
    assert "File too large; set cache_dir to a folder with room" in str(caught.value)
    assert {path.suffix for path in (tmp_path / "data/.mobilesr_cache").iterdir()} == {".lock"}
    assert build_dataset(opt)._store.image(0, GT).tobytes() == picture(60, 60, 0).tobytes()


def test_read_only_disk(tmp_path: Path, small_disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opt = pairs(tmp_path / "data") | {"cache_dir": str(small_disk / "cache")}
    path = build_dataset(opt)._store.path
    hr = hr_folder(tmp_path / "hr", count=1)
    read_only(small_disk)
    for kind in KINDS:
        out = small_disk / kind
        code, said = mobilesr(capfd, *prepare(hr, out, kind))
        assert (code, said.count("\n")) == (1, 1), said
        assert said.startswith(f"mobilesr: {out}")
        assert "cannot be written: Read-only file system" in said
    code, said = mobilesr(capfd, "data", "demo", "--out", small_disk / "demo")
    assert (code, said.count("\n")) == (1, 1), said
    assert build_dataset(opt)._store.path == path  # what is whole is used
    with pytest.raises(DataError, match=r"cannot be written to .*: Read-only file system; set cache_dir"):
        build_dataset(opt | {"dataroot_gt": opt["dataroot_lq"], "scale": 1})


OTHER = [
    # kind, first settings, then other ones, what is said
    ("train", [], ["--scale", 5], "NAME_HR.lmdb was made differently before: modulus was 12, is now 60"),
    ("valid", [], ["--scale", 5], "NAME_HR was made differently before: modulus was 12, is now 60"),
    ("benchmark", ["--scale", 3, "--scale", 4], ["--scale", 3, "--scale", 5], "LRbicx3 was made differently"),
    ("benchmark", [], ["OTHER"], "GTmod12 was made differently before: picture 0001 has changed"),
    ("benchmark", [], ["FOREIGN"], "GTmod12 exists and was not made by this command"),
    (
        "train",
        ["--crop-size", 96],
        ["--crop-size", 96, "--step", 96],
        "NAME_HR_sub.lmdb was made differently before: step was 48, is now 96",
    ),
]


def test_folders_of_other_settings(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hr, other = hr_folder(tmp_path / "hr", count=1), tmp_path / "other"
    write_png(other / "0001.png", picture(155, 203, seed=9))
    for number, (kind, first, then, expected) in enumerate(OTHER):
        out = tmp_path / f"out{number}"
        code, said = mobilesr(capfd, *prepare(hr, out, kind, *first))
        assert code == 0, said
        if then == ["FOREIGN"]:
            (out / "GTmod12/.prepare.json").unlink()
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "lock.mdb"}
        settings = [] if then in (["OTHER"], ["FOREIGN"]) else then
        code, said = mobilesr(capfd, *prepare(other if then == ["OTHER"] else hr, out, kind, *settings))
        assert code == 1, said
        assert expected.replace("NAME", f"{out.name}_{kind}") in said
        assert "; delete it or choose another" in said
        assert ("--name" in said) == (kind != "benchmark"), said
        assert said.count("\n") == 1
        after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "lock.mdb"}
        assert after == before, "nothing is begun, changed or left behind"


@pytest.mark.parametrize("folder", ["with blanks", "línea ü 写真 🙂", "two\nlines"])
def test_odd_names(tmp_path: Path, folder: str, capfd: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / folder
    hr = root / f"HR {folder}"
    write_png_anywhere(hr / f"a {folder}.png", 120)
    for kind in KINDS:
        out = root / f"{kind} {folder}"
        code, said = mobilesr(
            capfd, *prepare(hr, out, kind, *([] if kind == "benchmark" else ["--name", "n"]))
        )
        assert code == 0, said
    sets = [
        (root / f"train {folder}" / "n_HR.lmdb", root / f"train {folder}" / "n_LR_bicubic_X3.lmdb"),
        (root / f"benchmark {folder}" / "GTmod12", root / f"benchmark {folder}" / "LRbicx3"),
    ]
    for gt, lq in sets:
        dataset = build_dataset(options(gt, lq, cache_dir=str(root / "cache")))
        expected = next(iter(lmdb_content(gt).values())) if gt.suffix else next(gt.glob("*.png")).read_bytes()
        assert dataset._store.image(0, GT).tobytes() == decode(expected).tobytes()
        assert dataset[0]["gt"].shape == (3, 48, 48)
    (hr / "damaged.png").write_bytes(b"text")
    code, said = mobilesr(capfd, *prepare(hr, root / "new", "valid"))
    assert (code, said.count("\n")) == (1, 1), said


def write_png_anywhere(path: Path, side: int) -> None:
    """OpenCV takes no path that is not ASCII on Windows."""
    path.parent.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        plain = path.parent / "plain.png"
        stack.callback(lambda: plain.rename(path))
        write_png(plain, picture(side, side))
    assert read_png(path).shape == (side, side, 3)
