"""Option files before a run: a wrong value is one line, and nothing that BasicSR trains with is refused."""

from __future__ import annotations

import copy
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from basicsr.utils import logger
from basicsr.utils.options import _postprocess_yml_value, ordered_yaml, parse_options
from host_fixtures import make_data, options

from basicsr import train
from mobilesr_plugin.config.arguments import check_arguments
from mobilesr_plugin.config.check import check
from mobilesr_plugin.config.network import check_network
from mobilesr_plugin.config.unknown import unknown_keys
from mobilesr_plugin.config.yaml_values import hint
from mobilesr_plugin.errors import MobileSRError, OptionError

ROOT = Path(__file__).resolve().parent.parent
REMOVED = "(removed)"
COSINE = {"type": "CosineAnnealingRestartLR"}


def changed(opt: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A copy of options with another value at a place such as ``train: optim_g: lr``."""
    opt = copy.deepcopy(opt)
    *parents, last = place.split(": ")
    inside = opt
    for parent in parents:
        inside = inside[parent]
    if value == REMOVED:
        del inside[last]
    else:
        inside[last] = value
    return opt


# Place, value, and what the line says after the place.
WRONG: list[tuple[str, Any, str]] = [
    ("name", 5, "is 5; it must be text; quote it where it looks like a number"),
    ("name", REMOVED, "lacks `name`"),
    ("scale", "2", "is '2'; it must be a number above 0. It is text here; write 2 without quotes"),
    ("scale", 0, "is 0; it must be a number above 0"),
    ("num_gpu", "all", "is 'all'; it must be auto, or an integer of at least 0"),
    ("num_gpu", -1, "is -1; it must be auto, or an integer of at least 0"),
    ("manual_seed", "x", "is 'x'; it must be an integer of at least 0 and below 2**31, or ~"),
    ("manual_seed", 1.5, "is 1.5; it must be an integer"),
    ("model_type", REMOVED, "is missing; it must be text"),
    ("dist_params", [1], "is [1]; it must be a block of keys, or ~"),
    ("datasets", [1], "must hold `key: value` lines"),
    ("datasets: train", REMOVED, "is missing; it must be a block of keys"),
    ("datasets: train", None, "is ~; it must be a block of keys"),
    ("datasets: valid", {"name": "a", "type": "b"}, "is not a phase; name the block train, val or val_NAME"),
    ("datasets: val", "Set5", "is 'Set5'; it must be a block of keys"),
    ("datasets: train: type", REMOVED, "is missing; it must be text"),
    ("datasets: train: batch_size_per_gpu", 0, "is 0; it must be an integer of at least 1"),
    ("datasets: train: batch_size_per_gpu", 2.5, "is 2.5; it must be an integer of at least 1"),
    ("datasets: train: batch_size_per_gpu", REMOVED, "is missing; it must be an integer of at least 1"),
    ("datasets: train: num_worker_per_gpu", -1, "is -1; it must be an integer of at least 0"),
    ("datasets: train: dataset_enlarge_ratio", "many", "is 'many'; it must be a number above 0"),
    ("datasets: train: gt_size", "32", "is '32'; it must be an integer of at least 1. It is text here"),
    ("datasets: train: gt_size", 33, "is 33; it must be a multiple of the scale 2"),
    ("datasets: train: use_hflip", "no", "is 'no'; it must be true or false"),
    ("datasets: train: use_rot", REMOVED, "is missing; it must be true or false"),
    ("datasets: train: dataroot_gt", 5, "is 5; it must be text, or ~"),
    ("datasets: train: filename_tmpl", {}, "is {}; it must be quoted text with {} for the name"),
    ("datasets: train: io_backend", {"type": "dsk"}, "is 'dsk'; it must be one of disk, lmdb, memcached"),
    ("datasets: train: mean", 0.5, "is 0.5; it must be a list of numbers"),
    ("datasets: train: prefetch_mode", "gpu", "is 'gpu'; it must be cpu, cuda or ~"),
    ("datasets: train: prefetch_mode", "cuda", "is cuda, which needs pin_memory: true"),
    ("datasets: train: persistent_workers", True, "is true, but there are no workers"),
    ("network_g", REMOVED, "is missing; it must be a block of keys"),
    ("network_g: num_feats", 8, "unknown key 'num_feats', did you mean num_feat?"),
    ("network_g: num_feat", "x", "cannot be built with num_conv: 2, num_feat: 'x'"),
    ("network_g: num_feat", -1, "RuntimeError: Trying to create tensor with negative dimension -1"),
    ("network_g: upscale", 3, "is 3, but scale is 2; they must be equal"),
    ("path: pretrain_network_g", 5, "is 5; it must be text, or ~"),
    ("path: strict_load_g", "true", "is 'true'; it must be true or false"),
    ("path: extra", None, "is ~; it must be text: a path"),
    ("train", REMOVED, "is missing; it must be a block of keys"),
    (
        "train: total_iter",
        "4e5",
        "is '4e5'; it must be a number of at least 0. YAML reads 4e5 as text; write 400000",
    ),
    ("train: total_iter", REMOVED, "is missing; it must be a number"),
    ("train: warmup_iter", None, "is ~; it must be a number"),
    ("train: ema_decay", 999, "is 999; it must be a number of at most 1"),
    ("train: optim_g", REMOVED, "is missing; it must be a block of keys"),
    ("train: optim_g: type", "Addam", "is 'Addam'; did you mean Adam? It must be one of Adam"),
    ("train: optim_g: lr", "abc", "is 'abc'; it must be a number of at least 0"),
    ("train: optim_g: lr", "1e-3", "YAML reads 1e-3 as text; write 0.001 or 1.0e-3"),
    ("train: optim_g: lr", -0.1, "is -0.1; it must be a number of at least 0"),
    ("train: optim_g: lr", float("nan"), "is nan; it must be a number of at least 0"),
    ("train: optim_g: lr", REMOVED, "is missing; it must be a number of at least 0"),
    ("train: optim_g: betas", [0.9], "is [0.9]; it must be a list of two numbers from 0 to below 1"),
    ("train: optim_g: weigth_decay", 0, "unknown key 'weigth_decay', did you mean weight_decay?"),
    ("train: scheduler", "MultiStepLR", "is 'MultiStepLR'; it must be a block of keys"),
    ("train: scheduler: type", "StepLR", "is 'StepLR'; did you mean MultiStepLR?"),
    ("train: scheduler: milestones", 100, "is 100; it must be a list of numbers"),
    ("train: scheduler: milestones", REMOVED, "is missing; it must be a list of numbers"),
    ("train: scheduler: gama", 0.5, "unknown key 'gama', did you mean gamma?"),
    ("train: scheduler: restarts", [0, 5], "has 1 entries and restarts 2; they must have as many"),
    (
        "train: scheduler",
        {**COSINE, "periods": [2, 0], "restart_weights": [1, 1]},
        "a list of numbers above 0",
    ),
    (
        "train: scheduler",
        {**COSINE, "periods": [1, 1], "restart_weights": [1, 1]},
        "ends at iteration 2, but total",
    ),
    (
        "train: scheduler",
        {**COSINE, "periods": [2, 2]},
        "has 1 entries and periods 2; they must have as many",
    ),
    ("train: pixel_opt", REMOVED, "is missing, and perceptual_opt too"),
    ("train: pixel_opt: type", REMOVED, "is missing; it must be text"),
    ("train: pixel_opt: loss_weight", "1", "is '1'; it must be a finite number"),
    ("train: pixel_opt: reduction", "avg", "is 'avg'; it must be one of none, mean, sum"),
    ("train: pixel_opt: weight", 1, "unknown key 'weight', did you mean loss_weight?"),
    ("train: perceptual_opt", {"type": "PerceptualLoss"}, "layer_weights is missing"),
    ("val: val_freq", 0, "is 0; it must be a number above 0"),
    ("val: save_img", REMOVED, "is missing; it must be true or false"),
    ("val: suffix", [1], "is [1]; it must be text"),
    ("val: metrics", ["psnr"], "is ['psnr']; it must be a block of keys, or ~"),
    ("val: metrics: psnr", "psnr", "is 'psnr'; it must be a block of keys"),
    ("val: metrics: psnr: crop_border", -2, "is -2; it must be an integer of at least 0"),
    ("val: metrics: psnr: better", "up", "is 'up'; it must be higher or lower"),
    ("logger", None, "is ~; it must be a block of keys"),
    ("logger: print_freq", 0, "is 0; it must be a number above 0"),
    ("logger: save_checkpoint_freq", "5e3", "write 5000 or 5.0e+3"),
    ("logger: use_tb_logger", REMOVED, "is missing; it must be true or false"),
    ("logger: wandb", {"project": "sr"}, "is given, which needs logger: use_tb_logger: true"),
    ("export", {"kernels": 5}, "it must be a list of xnnpack, tflite_builtin"),
    ("export", {"calib": 5}, "is 5; it must be a path as text, or ~"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    make_data(folder)
    return folder


@pytest.fixture
def parse(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """BasicSR's parse_options with our checks around it, on options that are written to a file."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # parse_options replaces it
    monkeypatch.chdir(folder)

    def parse(opt: dict[str, Any], *arguments: str, is_train: bool = True) -> dict[str, Any]:
        (folder / "tiny.yml").write_text(yaml.safe_dump(opt), encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["train.py", "-opt", "tiny.yml", *arguments])
        return parse_options(str(folder), is_train=is_train)[0]

    return parse


@pytest.mark.parametrize(
    ("place", "value", "expected"), WRONG, ids=[f"{place}={value}" for place, value, _ in WRONG]
)
def test_a_wrong_value_is_one_line(parse: Any, folder: Path, place: str, value: Any, expected: str) -> None:
    with pytest.raises(MobileSRError) as caught:
        parse(changed(options(folder), place, value))
    text = str(caught.value)
    assert "\n" not in text
    assert expected in text
    assert place.split(": ")[0] in text
    assert place.split(": ")[-1] in text
    assert not (folder / "experiments").exists()


@pytest.mark.parametrize(
    ("export", "expected"),
    [
        ({"out": "hr/0.png/export"}, "export: out: hr/0.png/export cannot be made: "),
        ({"sizes": ["99999x99999"]}, "size 99999x99999 is too large: "),
        ({"calib": "nowhere"}, "export: calib: nowhere does not exist"),
    ],
    ids=str,
)
def test_what_the_export_would_fail_of(
    parse: Any, folder: Path, export: dict[str, Any], expected: str
) -> None:
    opt = options(folder, model_type="MobileSRModel", export={"calib": "lr", "sizes": []})
    parse(opt)
    opt["export"].update(export)
    with pytest.raises(OptionError) as caught:
        parse(opt)
    assert str(caught.value).startswith(expected)


def test_several_problems_are_one_line(folder: Path) -> None:
    opt = options(folder)
    for place in ("train: optim_g: lr", "scale", "val: val_freq", "logger: print_freq", "train: total_iter"):
        opt = changed(opt, place, "x")
    with pytest.raises(OptionError) as caught:
        check(opt, training=True)
    assert str(caught.value) == (
        "scale is 'x'; it must be a number above 0 "
        "(also wrong: train: total_iter; train: optim_g: lr; logger: print_freq and 1 more)"
    )


def test_keys_that_yaml_does_not_read_as_text(folder: Path) -> None:
    opt = {**options(folder), True: 1}  # on: 1
    with pytest.raises(OptionError, match="True is a key that YAML reads as True, not as text; quote it"):
        check(opt, training=True)


# What is accepted

# In the manner of BasicSR's own files, for models and data sets of its own.
MSRRESNET = """
name: 001_MSRResNet_x4
model_type: SRModel
scale: 4
num_gpu: 1  # set num_gpu: 0 for cpu mode
manual_seed: ~
datasets:
  train:
    name: DIV2K
    type: PairedImageDataset
    dataroot_gt: ~/DIV2K_train_HR_sub
    dataroot_lq: ~/DIV2K_train_LR_bicubic/X4_sub
    meta_info_file: basicsr/data/meta_info/meta_info_DIV2K800sub_GT.txt
    filename_tmpl: '{}'
    io_backend:
      type: disk
    gt_size: 128
    use_hflip: true
    use_rot: 1
    use_shuffle: true
    num_worker_per_gpu: 6
    batch_size_per_gpu: 16
    dataset_enlarge_ratio: 0.5
    prefetch_mode: ~
    mean: [0.5, 0.5, 0.5]
    std: [1, 1, 1]
  val_1:
    name: 5
    type: PairedImageDataset
    dataroot_gt: datasets/Set5/GTmod12
    dataroot_lq: datasets/Set5/LRbicx4
    io_backend: {type: disk}
  val_2:
    name: own
    type: OwnDataset
    anything: [1, ~]
network_g: {type: MSRResNet, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 1, upscale: 4}
path:
  pretrain_network_g: ~
  param_key_g: ~
  strict_load_g: ~
  resume_state: ~
  ignore_resume_networks: network_g
train:
  ema_decay: 0.999
  optim_g: {type: Adam, lr: !!float 2e-4, weight_decay: 0, betas: [0.9, 0.99], amsgrad: true}
  scheduler: {type: CosineAnnealingRestartLR, periods: [250000, 250000, 250000, 250000],
    restart_weights: [1, 1, 1, 1], eta_min: !!float 1e-7}
  total_iter: !!float 1e6
  warmup_iter: -1
  pixel_opt: {type: L1Loss, loss_weight: 1, reduction: mean}
  perceptual_opt: ~
val:
  val_freq: !!float 5e3
  save_img: false
  pbar: ~
  suffix: ~
  metrics:
    psnr: {type: calculate_psnr, crop_border: 4, test_y_channel: false}
    niqe: {type: calculate_niqe, crop_border: 4, better: lower}
logger:
  print_freq: 100
  save_checkpoint_freq: !!float 5e3
  use_tb_logger: true
  wandb: {project: ~, resume_id: ~}
dist_params: {backend: nccl, port: 29500}
"""
ESRGAN = """
name: ESRGAN
model_type: ESRGANModel
scale: 4
num_gpu: 4
high_order_degradation: true
queue_size: 180
datasets:
  train: {name: DF2K, type: RealESRGANDataset, num_worker_per_gpu: 5, batch_size_per_gpu: 12, gt_size: 256}
network_g: {type: RRDBNet, num_in_ch: 3, num_out_ch: 3}
network_d: {type: VGGStyleDiscriminator, num_in_ch: 3, num_feat: 64}
path: {pretrain_network_g: ~, pretrain_network_d: ~, strict_load_g: true, resume_state: ~}
train:
  ema_decay: 0
  optim_g: {type: Adam, lr: 1.0e-4, weight_decay: 0, betas: [0.9, 0.99]}
  optim_d: {type: Adam, lr: 1.0e-4, weight_decay: 0, betas: [0.9, 0.99]}
  scheduler: {type: MultiStepLR, milestones: [200, 100, 100], gamma: 0.5}
  total_iter: 400000
  warmup_iter: -1
  pixel_opt: {type: L1Loss, loss_weight: !!float 1e-2, reduction: mean}
  perceptual_opt: {type: PerceptualLoss, layer_weights: {conv5_4: 1}, vgg_type: vgg19, use_input_norm: true,
    range_norm: false, perceptual_weight: 1.0, style_weight: 0, criterion: l1}
  gan_opt: {type: GANLoss, gan_type: vanilla, real_label_val: 1.0, fake_label_val: 0.0, loss_weight: 0.005}
  own_opt: {type: OwnLoss, reduction: batchmean, criterion: 5}
  net_d_iters: 1
  net_d_init_iters: 0
logger: {print_freq: 100, save_checkpoint_freq: 5000, use_tb_logger: true}
"""
OWN = """
name: own
model_type: OwnModel
num_gpu: auto
datasets: {train: {name: a, type: OwnDataset, num_worker_per_gpu: 0, batch_size_per_gpu: 1}}
path: {}
train: {total_iter: 0, optim_g: {type: Adan, lr: 1, betas: [1, 2, 3]}, scheduler: {type: OneCycle}, phases: 3}
logger: {print_freq: .inf, save_checkpoint_freq: 1, use_tb_logger: false}
"""


def loaded(text: str) -> dict[str, Any]:
    """What BasicSR reads, and we."""
    own = yaml.safe_load(text)
    assert own == yaml.load(text, Loader=ordered_yaml()[0])
    return own


@pytest.mark.parametrize("text", [MSRRESNET, ESRGAN, OWN], ids=["SRModel", "ESRGANModel", "OwnModel"])
def test_files_in_the_manner_of_basicsr(text: str) -> None:
    opt = loaded(text)
    check(opt, training=True)
    check_arguments(opt, training=True)
    assert list(unknown_keys(opt, training=True)) == []


@pytest.mark.parametrize("path", sorted((ROOT / "options").rglob("*.yml")), ids=lambda path: path.stem)
def test_our_files(path: Path) -> None:
    opt = loaded(path.read_text(encoding="utf-8"))
    check(opt, training="train" in opt)
    check_arguments(opt, training="train" in opt)
    assert list(unknown_keys(opt, training="train" in opt)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {
            "train: total_iter": 4.0,
            "train: warmup_iter": 2,
            "train: ema_decay": -1,
            "train: scheduler: milestones": [3, 2, 2],
            "train: perceptual_opt": None,
            "val: val_freq": 2.0,
            "val: metrics": {},
            "datasets: train: use_rot": 0,
            "path: notes": "notes",
        },
        {
            # It ends at iteration 3, and the schedule is stepped between the four.
            "train: scheduler": {**COSINE, "periods": [1, 2], "restart_weights": [1, 1]},
            "train: pixel_opt": {"type": "CharbonnierLoss"},
            "val: metrics": None,
            "manual_seed": None,
            "datasets: train: prefetch_mode": "cpu",
        },
        {"val": None, "datasets: train: dataset_enlarge_ratio": 0.5, "train: scheduler: milestones": []},
    ],
    ids=["numbers", "cosine", "no validation"],
)
def test_what_basicsr_trains_with_is_accepted(
    parse: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Not only by the checks: BasicSR's train.py runs to its end."""
    opt = options(folder)
    for place, value in changes.items():
        opt = changed(opt, place, value)
    parse(opt)
    monkeypatch.setattr(logger, "initialized_logger", {})
    train.train_pipeline(str(folder))
    assert (folder / "experiments" / "tiny" / "models" / "net_g_latest.pth").is_file()
    shutil.rmtree(folder / "experiments")


# Warnings


@pytest.mark.parametrize(
    ("place", "warning"),
    [
        (
            "train: warmup_itr",
            "train: unknown key 'warmup_itr', which BasicSR does not read; did you mean warmup_iter?",
        ),
        ("train: own", "train: unknown key 'own', which BasicSR does not read"),
        ("val: pbarr", "val: unknown key 'pbarr', which BasicSR does not read; did you mean pbar?"),
        ("logger: own", "logger: unknown key 'own', which BasicSR does not read"),
        ("path: pretrain_networkg", "did you mean pretrain_network_g?"),
        ("datasets: train: filename_tmp", "datasets: train: unknown key 'filename_tmp'"),
    ],
)
def test_unknown_keys_of_basicsr_are_warnings(
    parse: Any, folder: Path, capsys: pytest.CaptureFixture[str], place: str, warning: str
) -> None:
    parse(changed(options(folder), place, "x"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mobilesr: warning: ")
    assert warning in line


def test_no_warnings_otherwise(parse: Any, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parse(options(folder))
    assert capsys.readouterr().err == ""


def test_only_likely_mistakes_of_models_of_ones_own_are_warned_of() -> None:
    opt = loaded(OWN)
    opt["train"]["total_itr"] = 5
    (warning,) = unknown_keys(opt, training=True)
    assert "did you mean total_iter?" in warning


# Numbers in YAML


@pytest.mark.parametrize(
    "text", ["1e-3", "1.0e3", "5e5", "-2e1", "1e-8", "0.1", "7", "1.0e-3", "!!float1e-4"]
)
def test_the_hint_gives_numbers(text: str) -> None:
    ways = hint(text).partition("write ")[2].removesuffix(" without quotes").split(" or ")
    number = float(text.removeprefix("!!float"))
    assert ways
    assert all(yaml.safe_load(way) == number for way in ways)


@pytest.mark.parametrize("value", ["abc", 5, [1], "nan", "", "inf"])
def test_there_is_no_hint_for_anything_else(value: object) -> None:
    assert hint(value) == ""


@pytest.mark.parametrize("written", ["0.001", "!!float 1e-3"])
def test_overrides_are_checked_as_basicsr_reads_them(parse: Any, folder: Path, written: str) -> None:
    assert (
        parse(options(folder), "--force_yml", f"train:optim_g:lr={written}")["train"]["optim_g"]["lr"]
        == 0.001
    )
    assert _postprocess_yml_value("1e-3") == "1e-3"
    with pytest.raises(OptionError, match=r"lr is '1e-3'; .* write 0\.001 or 1\.0e-3"):
        parse(options(folder), "--force_yml", "train:optim_g:lr=1e-3")


# Networks


def test_a_network_is_built_without_a_trace_in_random_numbers(folder: Path) -> None:
    opt = options(folder)

    def numbers() -> tuple[float, float, float]:
        return torch.rand(1).item(), random.random(), float(np.random.rand())

    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    expected = numbers()
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    check_network(opt)
    assert numbers() == expected
