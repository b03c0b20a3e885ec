"""BasicSR's parse_options with our checks around it, called as train.py calls it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from basicsr.utils.options import parse_options
from host_fixtures import installed, make_data, options, write_options

import basicsr.train
from mobilesr_plugin.errors import MobileSRError, OptionError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # parse_options replaces it
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path)
    return tmp_path


def parse(monkeypatch: pytest.MonkeyPatch, *arguments: str, root: str | None = None) -> dict:
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    return parse_options(root or str(Path.cwd()), is_train=True)[0]


def message(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    with pytest.raises(MobileSRError) as caught:
        parse(monkeypatch, *arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_pipelines_use_the_wrapped_function() -> None:
    assert basicsr.train.parse_options is basicsr.test.parse_options is parse_options
    assert hasattr(parse_options, "__wrapped__")


def test_overrides_reach_basicsr(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_options(folder)
    opt = parse(
        monkeypatch,
        *(
            "-opt",
            str(path),
            "--force_yml",
            "train:total_iter=7",
            "path:pretrain_network_g=~",
            "train:ema_decay=0.9",
        ),
    )
    assert opt["train"]["total_iter"] == 7
    assert opt["train"]["ema_decay"] == 0.9
    assert opt["path"]["models"] == str(folder / "experiments/tiny/models")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trian:total_iter=7", "has no key 'trian' there; it has: name, model_type, scale"),
        ("train:optim:lr=1", "has no key 'optim' there; it has: optim_g"),
        ("scale:x=7", "'x' cannot be set under scale"),
        ("train:total_iter", "expected key:key=value"),
        ('x"]=print(1)#', "cannot be set"),
        ("train:milestones=[__import__('os').abort()]", "is not a list of plain values"),
    ],
)
def test_misspelt_overrides(
    folder: Path, monkeypatch: pytest.MonkeyPatch, override: str, expected: str
) -> None:
    assert expected in message(monkeypatch, "-opt", str(write_options(folder)), "--force_yml", override)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [a\nscale: 2\n", "not a valid YAML file: line 2, column 6"),
        ("just text", "is not an option file"),
        ("name: a\n", "lacks `num_gpu`, `datasets`, `path`"),
        ("name: a\nnum_gpu: 0\ndatasets:\npath:\n", "`datasets` must hold `key: value` lines"),
        ("name: !!python/object/apply:os.abort []\n", "could not determine a constructor"),
    ],
)
def test_broken_option_files(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    Path("broken.yml").write_text(text, encoding="utf-8")
    assert expected in message(monkeypatch, "-opt", "broken.yml")


def test_binary_option_file_and_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot read the option file hr/0.png" in message(monkeypatch, "-opt", "hr/0.png")
    assert "cannot read the option file hr: Is a directory" in message(monkeypatch, "-opt", "hr")


def test_misspelt_key_of_our_own_block(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_options(folder, quantization={"obsever": "minmax"})
    assert "obsever" in message(monkeypatch, "-opt", str(path))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("network_g:type=ABPM", "network_g: type: there is no network 'ABPM'; did you mean ABPN?"),
        ("network_g:type=Q", "there are ABPN, BasicVSR, "),
        ("network_g:type=[1]", "network_g: type: there is no network "),
        ("model_type=QATSrModel", "model_type: there is no model 'QATSrModel'; did you mean QATSRModel?"),
        ("datasets:train:type=PairedDataset", "datasets: train: type: there is no data set 'PairedDataset'"),
        (
            "train:pixel_opt:type=L1Los",
            "train: pixel_opt: type: there is no loss 'L1Los'; did you mean L1Loss?",
        ),
        ("val:metrics:psnr:type=psnr", "val: metrics: psnr: type: there is no metric 'psnr'; there are "),
    ],
)
def test_misspelt_types(folder: Path, monkeypatch: pytest.MonkeyPatch, override: str, expected: str) -> None:
    write_options(folder)
    parse(monkeypatch, "-opt", "tiny.yml")
    found = message(monkeypatch, "-opt", "tiny.yml", "--force_yml", override)
    assert expected in found
    assert "`import: FILE.py`" in found


def test_missing_data_folder_is_named_before_anything_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opt = options(folder)
    opt["datasets"]["train"]["dataroot_gt"] = "datasets/nowhere"
    Path("tiny.yml").write_text(yaml.safe_dump(opt), encoding="utf-8")
    assert "datasets/nowhere" in message(monkeypatch, "-opt", "tiny.yml")
    assert not Path("experiments").exists()


def test_missing_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # so that a machine with a GPU agrees
    text = message(monkeypatch, "-opt", str(write_options(folder, num_gpu=1)))
    assert "`num_gpu: 1`, but torch sees no GPU here" in text


def test_results_folder_in_the_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("experiments").write_text("a file", encoding="utf-8")
    text = message(monkeypatch, "-opt", str(write_options(folder)))
    assert f"{folder / 'experiments'} is a file" in text


def test_root_is_redirected_only_from_installed_packages(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_options(folder))
    packages = str(installed("train.py").parent.parent)
    roots = [
        parse(monkeypatch, "-opt", path, root=root)["path"]["log"] for root in (packages, str(folder / "hr"))
    ]
    assert roots == [str(folder / "experiments/tiny"), str(folder / "hr/experiments/tiny")]


def test_wrong_usage_is_left_to_basicsr(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in ([], ["-opt"], ["--launcher", "cloud"]):
        with pytest.raises((SystemExit, OptionError)) as caught:
            parse(monkeypatch, *arguments)
        assert isinstance(caught.value, OptionError) or caught.value.code == 2
