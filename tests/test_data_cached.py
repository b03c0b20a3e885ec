"""CachedPairedDataset against PairedImageDataset: same pixels, same distribution, shared memory."""

from __future__ import annotations

import json
import logging
import pickle
import platform
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import basicsr.data.transforms
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.prefetch_dataloader import CPUPrefetcher
from basicsr.utils import get_root_logger, set_random_seed
from data_fixtures import hr_folder, picture, write_png
from host_fixtures import LAUNCHER, environment, installed, make_data, run, write_options
from host_fixtures import options as host_options

from mobilesr_plugin.bench import dataset_speed
from mobilesr_plugin.data.check import check_datasets
from mobilesr_plugin.data.crops import DeviceImages, cut, draw
from mobilesr_plugin.data.image_store import GT, LQ
from mobilesr_plugin.data.overlap import overlap_note
from mobilesr_plugin.data.training_set import prepare_training
from mobilesr_plugin.errors import DataError, OptionError

SCALE, GT_SIZE = 3, 48


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of different sizes and kinds in ``hr`` and ``lr``."""
    root = tmp_path_factory.mktemp("folders")
    for index, (height, width) in enumerate([(60, 90), (48, 48), (75, 51), (90, 60)]):
        write_png(root / f"hr/{index}.png", picture(height, width, index))
        write_png(root / f"lr/{index}.png", picture(height // 3, width // 3, 10 + index))
    colour = picture(66, 69, 7)
    alpha = np.dstack([colour, np.full((66, 69), 77, np.uint8)])
    for name, image in {
        "alpha": alpha,
        "deep": colour.astype(np.uint16) * 256 + 255,
        "grey": colour[:, :, 1],
    }.items():
        write_png(root / f"hr/{name}.png", image)
        write_png(root / f"lr/{name}.png", image[:22, :23])
    return root


@pytest.fixture(scope="module")
def lmdbs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lmdbs")
    hr = hr_folder(root / "hr", count=2)
    prepare_training(hr, root, scales=[3], crop_size=96, step=48, name="n", workers=1)
    return root


def options(root: Path, **changes: Any) -> dict[str, Any]:
    lmdb = (root / "n_HR_sub.lmdb").exists()
    opt = {
        "name": "tiny",
        "type": "CachedPairedDataset",
        "phase": "train",
        "scale": SCALE,
        "dataroot_gt": str(root / ("n_HR_sub.lmdb" if lmdb else "hr")),
        "dataroot_lq": str(root / ("n_LR_bicubic_X3_sub.lmdb" if lmdb else "lr")),
        "io_backend": {"type": "lmdb" if lmdb else "disk"},
        "gt_size": GT_SIZE,
        "use_hflip": True,
        "use_rot": True,
        "batch_size_per_gpu": 4,
        "num_worker_per_gpu": 0,
    }
    return {**opt, **changes}


def paired(opt: Mapping[str, Any]) -> Any:
    """BasicSR's own data set with the same options."""
    return build_dataset({**opt, "type": "PairedImageDataset"})


def loader(opt: dict[str, Any], ratio: int = 1, seed: int = 0) -> Any:
    """BasicSR's loader, set up as train.py does it after ``manual_seed``."""
    torch.manual_seed(seed)
    dataset = build_dataset(opt)
    sampler = EnlargedSampler(dataset, 1, 0, ratio)
    return build_dataloader(dataset, opt, num_gpu=0, dist=False, sampler=sampler, seed=seed)


class Replay:
    """In the place of ``random`` in BasicSR's transforms: gives the numbers of known crops, one by one."""

    def __init__(self, crops: np.ndarray) -> None:
        self.places = iter(crops[:, 1:3].reshape(-1).tolist())
        self.flips = iter(crops[:, 3:].reshape(-1).tolist())

    def randint(self, low: int, high: int) -> int:
        place = next(self.places)
        assert low <= place <= high
        return place

    def random(self) -> float:
        return 0.0 if next(self.flips) else 0.9


def all_flips(cached: Any) -> tuple[list[int], np.ndarray]:
    """Every image with all eight flips and transpositions, at random places."""
    indices = [index for index in range(len(cached)) for _ in range(8)]
    crops = cached._draw(indices)
    crops[:, 3:] = [[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)] * len(cached)
    return indices, crops


@pytest.mark.parametrize("changes", [{}, {"color": "y"}, {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.7]}])
@pytest.mark.parametrize("source", ["folders", "lmdbs"])
def test_every_crop_is_basicsr_s_bit_for_bit(
    source: str, changes: dict[str, Any], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    opt = options(request.getfixturevalue(source), **changes)
    reference, cached = paired(opt), build_dataset(opt)
    indices, crops = all_flips(cached)
    monkeypatch.setattr(basicsr.data.transforms, "random", Replay(crops))
    expected = [reference[index] for index in indices]
    forms = [{}, {"uint8_batches": True}, {"device_cache": True}]
    for form in forms:
        cached = build_dataset({**opt, **form})
        monkeypatch.setattr(cached, "_draw", lambda _: crops)
        cached._on_device = "device_cache" in form  # which needs a GPU, but its batches do not
        (sample,) = cached.__getitems__(indices)
        for key in ("lq", "gt"):
            assert isinstance(sample.batch[key], torch.Tensor) == (form == {})
            images = sample.batch[key].to("cpu")
            assert images.dtype == torch.float32
            assert images.is_contiguous()
            assert torch.equal(images, torch.stack([one[key] for one in expected]))
            assert sample.batch[f"{key}_path"] == [one[f"{key}_path"] for one in expected]
            last = sample.batch[key].to(torch.device("cpu"), memory_format=torch.channels_last)
            assert last.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(last, images)


def test_a_device_cuts_the_same_patches(folders: Path) -> None:
    cached = build_dataset(options(folders))
    tiles = DeviceImages(cached._store, torch.device("cpu"))
    _, crops = all_flips(cached)
    for kind, size, step in ((GT, GT_SIZE, SCALE), (LQ, GT_SIZE // SCALE, 1)):
        expected = cut(cached._store, kind, crops, size, step)
        assert torch.equal(tiles.cut(kind, torch.from_numpy(crops), size, step), expected)
    assert len({bytes(patch.numpy()) for patch in expected}) > 40


def test_luma_of_all_colours() -> None:
    from basicsr.utils import bgr2ycbcr

    from mobilesr_plugin.data.batches import ToFloat

    for red in range(0, 256, 15):
        rgb = np.full((256, 256, 3), red, np.uint8)
        rgb[:, :, 1:] = np.indices((256, 256)).transpose(1, 2, 0)
        expected = bgr2ycbcr(rgb[:, :, ::-1].astype(np.float32) / 255.0, y_only=True)
        assert np.array_equal(ToFloat(luma=True)(torch.from_numpy(rgb)[None])[0, 0].numpy(), expected)


@pytest.mark.parametrize(("flip", "turn"), [(True, True), (False, True), (True, False), (False, False)])
def test_crops_have_basicsr_s_distribution(flip: bool, turn: bool) -> None:
    count, sizes, patch = 40000, np.array([[19, 16]]), 16
    crops = draw(random.Random(0), np.zeros(count, int), sizes.repeat(count, 0), patch, flip=flip, turn=turn)
    basicsr.data.transforms.random.seed(0)
    theirs = np.zeros((count, 5), int)
    plane = np.arange(19, dtype=np.float32)[:, None, None].repeat(16, 1)
    for row in theirs:
        patch_gt, _ = basicsr.data.transforms.paired_random_crop(plane, plane, 16, 1)
        _, status = basicsr.data.transforms.augment(np.zeros((2, 2, 3)), flip, turn, return_status=True)
        row[:] = patch_gt[0, 0, 0], 0, *status
    for column in range(5):
        ours = np.bincount(crops[:, column + 1], minlength=4) / count
        assert np.abs(ours - np.bincount(theirs[:, column], minlength=4) / count).max() < 0.015
    for a, b in ((3, 4), (4, 5), (1, 5)):  # and one number does not depend on another
        together = np.corrcoef(crops[:, a], crops[:, b])[0, 1] if flip and turn else 0
        assert abs(together) < 0.02


def test_deep_grey_and_alpha_files_are_read_as_basicsr_reads_them(folders: Path) -> None:
    opt = options(folders, phase="val")
    opt["scale"] = 2  # GT is then larger than needed and cut
    reference, cached = paired(opt), build_dataset(opt)
    assert {Path(path["gt_path"]).stem for path in cached.paths} > {"alpha", "deep", "grey"}
    for batch, expected in zip(build_dataloader(cached, opt), build_dataloader(reference, opt), strict=True):
        assert batch["gt"].shape[-1] == 2 * batch["lq"].shape[-1]
        for key in ("lq", "gt"):
            assert torch.equal(batch[key], expected[key])
            assert batch[f"{key}_path"] == expected[f"{key}_path"]


def contents(batches: Any) -> list[bytes]:
    return [
        batch["lq"].to("cpu").numpy().tobytes() + batch["gt"].to("cpu").numpy().tobytes() for batch in batches
    ]


@pytest.mark.parametrize("form", [{}, {"use_hflip": False}, {"use_rot": False}])
def test_without_workers_the_patches_of_a_seed_are_basicsr_s(folders: Path, form: dict[str, Any]) -> None:
    """So that exchanging the type changes nothing but speed."""
    opt = options(folders, num_worker_per_gpu=0, **form)
    found = []
    for kind in ("PairedImageDataset", "CachedPairedDataset"):
        loaded = loader({**opt, "type": kind}, ratio=4)
        set_random_seed(5)
        found.append([batch[key].clone() for batch in loaded for key in ("lq", "gt")])
    assert len(found[0]) == len(found[1]) > 4
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@pytest.mark.parametrize("form", [{}, {"uint8_batches": True}, {"color": "y"}])
@pytest.mark.parametrize("workers", [0, 2])
def test_basicsr_s_loader(lmdbs: Path, workers: int, form: dict[str, Any]) -> None:
    opt = options(lmdbs, num_worker_per_gpu=workers, **form)
    first, again, other = loader(opt, ratio=4), loader(opt, ratio=4), loader(opt, ratio=4, seed=1)
    set_random_seed(0)
    epochs = [contents(first), contents(first)]
    assert len(epochs[0]) == 4 * len(first.dataset) // 4
    assert len(set(epochs[0] + epochs[1])) == 2 * len(epochs[0])  # no worker, no epoch repeats another
    set_random_seed(0)
    assert [contents(again), contents(again)] == epochs
    set_random_seed(1)
    assert contents(other) != epochs[0]
    batch = next(iter(first))
    channels = 1 if "color" in form else 3
    assert batch["gt"].to("cpu").shape == (4, channels, GT_SIZE, GT_SIZE)
    assert batch["lq"].to("cpu").shape == (4, channels, GT_SIZE // SCALE, GT_SIZE // SCALE)
    assert len(batch["gt_path"]) == 4


def test_workers_send_uint8(lmdbs: Path) -> None:
    batch = next(iter(loader(options(lmdbs, num_worker_per_gpu=1, uint8_batches=True))))
    assert batch["gt"].pixels.dtype == torch.uint8
    assert batch["gt"].pixels.is_shared()  # filled where the main process reads it


def test_prefetching_thread(lmdbs: Path) -> None:
    opt = options(lmdbs, prefetch_mode="cpu", num_prefetch_queue=2)
    prefetcher = CPUPrefetcher(loader(opt))
    batches = list(iter(prefetcher.next, None))
    prefetcher.reset()
    assert set(contents(batches)).isdisjoint(contents(iter(prefetcher.next, None)))
    assert len(batches) == len(prefetcher.ori_loader.dataset) // 4


def test_ranks_draw_differently(lmdbs: Path) -> None:
    """BasicSR seeds the main process of a rank with manual_seed + rank."""
    cached = build_dataset(options(lmdbs))
    found = []
    for rank in range(2):
        set_random_seed(10 + rank)
        found.append(cached._draw([0] * 50)[:, 1:].tobytes())
    set_random_seed(10)
    assert found[0] != found[1]
    assert cached._draw([0] * 50)[:, 1:].tobytes() == found[0]


def test_a_file_is_made_once_and_anew_when_the_data_change(tmp_path: Path) -> None:
    for index in range(3):
        write_png(tmp_path / f"hr/{index}.png", picture(60, 60, index))
        write_png(tmp_path / f"lr/{index}.png", picture(20, 20, index))
    opt = options(tmp_path)
    pixels = [build_dataset(opt)._store.image(0, LQ).tobytes()]
    (file,) = (tmp_path / ".mobilesr_cache").glob("*.images")
    made = file.stat().st_mtime_ns
    pixels.append(build_dataset(opt)._store.image(0, LQ).tobytes())
    assert file.stat().st_mtime_ns == made
    write_png(tmp_path / "lr/0.png", picture(20, 20, 99))
    cached = build_dataset(opt)
    pixels.append(cached._store.image(0, LQ).tobytes())
    assert pixels[0] == pixels[1] != pixels[2] == picture(20, 20, 99).tobytes()
    (new,) = (tmp_path / ".mobilesr_cache").glob("*.images")  # the old one is gone
    assert new != file
    killed = new.with_name(f".{new.stem}-{platform.node()}.tmp")
    killed.touch()
    del cached
    new.unlink()
    assert build_dataset(opt)._store.image(0, LQ).tobytes() == pixels[2]
    assert not killed.exists()
    elsewhere = {**opt, "cache_dir": str(tmp_path / "else/where")}
    new.unlink()
    build_dataset(elsewhere)
    assert len(list((tmp_path / "else/where").glob("*.images"))) == 1


@pytest.mark.slow
def test_another_process_maps_the_same_file(lmdbs: Path) -> None:
    opt = options(lmdbs)
    store = build_dataset(opt)._store
    made = store.path.stat().st_mtime_ns
    code = f"from basicsr.data import build_dataset; print(build_dataset({opt!r})._store.path)"
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert process.stdout == f"{store.path}\n"
    assert store.path.stat().st_mtime_ns == made
    copy = pickle.loads(pickle.dumps(store))  # what a worker gets that is spawned, not forked
    assert copy.path == store.path
    assert copy.image(0, GT).tobytes() == store.image(0, GT).tobytes()


def said_while(caplog: pytest.LogCaptureFixture, opt: dict[str, Any]) -> list[str]:
    """What building a data set logs."""
    logger = get_root_logger()
    logger.addHandler(caplog.handler)
    caplog.clear()
    try:
        with caplog.at_level(logging.INFO, logger.name):
            build_dataset(opt)
    finally:
        logger.removeHandler(caplog.handler)
    return [record.message for record in caplog.records]


def test_the_log_says_what_tiles_cost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hr = hr_folder(tmp_path / "hr", count=2, height=295, width=441)  # gives 300x444 and 305x447 pixels
    prepare_training(hr, tmp_path / "tiles", scales=[3], name="n", crop_size=96, workers=1)
    prepare_training(hr, tmp_path / "whole", scales=[3], name="n", workers=1)
    (tmp_path / "whole/n_HR.lmdb").rename(tmp_path / "whole/n_HR_sub.lmdb")
    (tmp_path / "whole/n_LR_bicubic_X3.lmdb").rename(tmp_path / "whole/n_LR_bicubic_X3_sub.lmdb")
    whole, tiles = (said_while(caplog, options(tmp_path / name)) for name in ("whole", "tiles"))
    assert not any("overlapping" in line for line in whole)
    (line,) = (line for line in tiles if "overlapping" in line)
    assert line.startswith("These are overlapping tiles: 108 of 2 images, about ")
    # Two images of 300x444 (multiples of 12), each in 6 x 9 tiles of 96x96. For the bound see the next test.
    exact = 108 * 96 * 96 / (2 * 300 * 444)
    assert abs(float(line.split("about ")[1].split()[0]) - exact) < 0.16 * exact
    assert line.endswith("`mobilesr data prepare` without --crop-size writes whole images.")
    assert tiles.index(line) == 1
    assert tiles[0].startswith("Decoding 108 image pairs, 0.00 GB, to ")


@pytest.mark.parametrize(
    ("names", "side", "step", "ratio"),
    [
        # DIV2K's grid on 1404x2040 pixels gives 40 tiles: exactly 3.2 times as many pixels
        ([f"0001_s{index:03d}" for index in range(1, 41)], 480, 240, 3.2),
        # 2x2 tiles: a side of 481 to 720 pixels, 600 on average
        ([f"{image}_s{index:03d}" for image in "ab" for index in (1, 2, 3, 4)], 480, 240, 2.56),
        ([f"{image}_s{index:03d}" for image in "ab" for index in (1, 2, 3, 4)], 480, 480, None),
        (["0001_s001", "0002_s001"], 480, 240, None),
        (["0001", "0002"], 480, 240, None),
        (["0001_s001", "0001_s002", "other"], 480, 240, None),
    ],
)
def test_cost_of_tiles(names: list[str], side: int, step: int, ratio: float | None, tmp_path: Path) -> None:
    (tmp_path / ".prepare.json").write_text(json.dumps({"settings": {"step": step}}))
    note = overlap_note(names, side * side, tmp_path)
    if ratio is None:
        assert note == ""
    else:
        said = float(note.split("about ")[1].split()[0])
        # The last tile of a row lies within half a step, 120 pixels, of where the estimate has it. In a grid
        # of 5 x 8 that makes a factor of (1 + 120 / 1320) * (1 + 120 / 2040) = 1.155 at most.
        assert abs(said - ratio) < 0.16 * ratio
    assert note == overlap_note(names, side * side, tmp_path / "no record") or step != side // 2


def test_a_damaged_file_is_decoded_again(tmp_path: Path) -> None:
    write_png(tmp_path / "hr/0.png", picture(60, 60))
    write_png(tmp_path / "lr/0.png", picture(20, 20))
    opt = options(tmp_path)
    store = build_dataset(opt)._store
    path, whole = store.path, store.path.read_bytes()
    del store
    for damaged in (b"", b"not a store", whole[:-1], whole[:100], bytes(len(whole))):
        path.write_bytes(damaged)
        assert build_dataset(opt)._store.image(0, GT).tobytes() == picture(60, 60).tobytes()
        assert path.read_bytes() == whole


def _shrink(root: Path) -> None:
    write_png(root / "lr/1.png", picture(17, 20))


def _tiny(root: Path) -> None:
    write_png(root / "lr/1.png", picture(15, 20))
    write_png(root / "hr/1.png", picture(45, 60))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_shrink, ["lr/1.png has 17x20", "hr/1.png has 60x60", "should have 51x60"]),
        (_tiny, ["hr/1.png has 45x60 pixels, but gt_size is 48"]),
        (lambda root: (root / "hr/2.png").write_bytes(b"text"), ["hr/2.png is not a readable image"]),
        (lambda root: (root / "lr/2.png").write_bytes(b""), ["lr/2.png is missing or empty"]),
    ],
)
def test_bad_images_are_named_in_one_line(
    tmp_path: Path, damage: Callable[[Path], object], expected: list[str]
) -> None:
    for index in range(3):
        write_png(tmp_path / f"hr/{index}.png", picture(60, 60, index))
        write_png(tmp_path / f"lr/{index}.png", picture(20, 20, index))
    damage(tmp_path)
    with pytest.raises(DataError) as caught:
        build_dataset(options(tmp_path))
    assert all(part in str(caught.value) for part in expected)
    assert "\n" not in str(caught.value)
    left = list(tmp_path.glob(".mobilesr_cache/*"))
    assert {path.suffix for path in left} <= {".images", ".lock"}  # no half of one


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    write_png(tmp_path / "hr/0.png", picture(60, 60))
    write_png(tmp_path / "lr/0.png", picture(20, 20))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written to .*set cache_dir to a folder with room"):
        build_dataset(options(tmp_path, cache_dir=str(tmp_path / "file")))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cache_dirs": "x"}, "unknown key 'cache_dirs', did you mean cache_dir?"),
        ({"cache_share": 0.5}, "cache_share is no longer a key: decoded images are always in a file"),
        ({"cache_dir": 3}, "cache_dir is 3; it must be a folder"),
        ({"uint8_batches": "yes"}, "uint8_batches is 'yes'; it must be true or false"),
        ({"device_cache": 1}, "device_cache is 1; it must be auto, true or false"),
        ({"io_backend": {"type": "memcached"}}, "it must be one of disk, lmdb"),
        ({"gt_size": 50}, "gt_size must be a multiple of the scale 3, got 50"),
        ({"use_rot": None}, "use_rot is missing"),
    ],
)
def test_wrong_keys_are_one_line_before_the_run(lmdbs: Path, changes: dict[str, Any], expected: str) -> None:
    opt = options(lmdbs, **changes)
    for act in (build_dataset, lambda opt: check_datasets({"scale": 3, "datasets": {"train": opt}})):
        with pytest.raises(OptionError) as caught:
            act(opt)
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)
    check_datasets({"scale": 3, "datasets": {"train": options(lmdbs)}})


def test_a_device_cache_without_a_gpu_says_so(lmdbs: Path, caplog: pytest.LogCaptureFixture) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    logger = logging.getLogger("basicsr")
    logger.addHandler(caplog.handler)
    cached = build_dataset(options(lmdbs, device_cache=True))
    logger.removeHandler(caplog.handler)
    assert [r.message for r in caplog.records if "GPU" in r.message] == [
        "device_cache is true, but torch sees no GPU; images stay in memory."
    ]
    assert isinstance(next(iter(build_dataloader(cached, cached.opt, num_gpu=0)))["lq"], torch.Tensor)


def training(folder: Path, **changes: Any) -> Path:
    make_data(folder)
    datasets = host_options(folder)["datasets"]
    datasets["train"] |= {"type": "CachedPairedDataset", **changes}
    return write_options(folder, datasets=datasets)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_worker_per_gpu": 2},
        pytest.param({"uint8_batches": True, "prefetch_mode": "cpu"}, marks=pytest.mark.slow),
    ],
)
def test_basicsr_s_train_script(tmp_path: Path, changes: dict[str, Any]) -> None:
    process = run(installed("train.py"), "-opt", training(tmp_path, **changes), cwd=tmp_path)
    assert process.returncode == 0, process.stderr[-3000:]
    assert "Dataset [CachedPairedDataset] - tiny is built." in process.stderr
    assert "Decoding 4 image pairs" in process.stderr
    assert "# psnr:" in process.stderr
    saved = torch.load(tmp_path / "experiments/tiny/models/net_g_4.pth", weights_only=True)
    assert all(torch.isfinite(weight).all() for weight in saved["params"].values())


@pytest.mark.slow
def test_two_ranks_decode_once(tmp_path: Path) -> None:
    opt = training(tmp_path, uint8_batches=True)
    process = run(
        *("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29513"),
        *(LAUNCHER, "-opt", opt, "--launcher", "pytorch", "--force_yml", "train:total_iter=2"),
        cwd=tmp_path,
        CUDA_VISIBLE_DEVICES="",
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert len(list((tmp_path / ".mobilesr_cache").glob("*.images"))) == 1
    assert process.stderr.count("Decoding 4 image pairs") <= 1  # the second rank decodes without a word
    assert (tmp_path / "experiments/tiny/models/net_g_2.pth").is_file()


@pytest.mark.slow
def test_a_wrong_key_stops_the_train_script_in_one_line(tmp_path: Path) -> None:
    process = run(installed("train.py"), "-opt", training(tmp_path, cache_dri=1), cwd=tmp_path)
    assert process.returncode == 1
    assert "mobilesr: datasets: tiny: unknown key 'cache_dri', did you mean cache_dir?" in process.stderr
    assert "Traceback" not in process.stderr


def test_speed_is_measured_on_all_kinds(lmdbs: Path) -> None:
    gt, lq = lmdbs / "n_HR_sub.lmdb", lmdbs / "n_LR_bicubic_X3_sub.lmdb"
    rounds: list[tuple[int, int]] = []
    speeds = dataset_speed.measure(
        gt, lq, scale=3, gt_size=48, batch=4, samples=8, runs=3, progress=lambda *done: rounds.append(done)
    )
    kinds = [dataset_speed.PAIRED, dataset_speed.FLOAT32, dataset_speed.UINT8]
    assert [speed.kind for speed in speeds] == kinds
    assert speeds[0].ratio == 1
    assert all(speed.samples_per_second > 0 for speed in speeds)
    assert rounds == [(i, 4) for i in range(1, 5)]
    with pytest.raises(OptionError, match="runs is 2"):
        dataset_speed.measure(gt, lq, scale=3, runs=2)
