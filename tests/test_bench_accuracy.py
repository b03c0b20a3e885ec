"""``mobilesr bench accuracy``: its figures are those of BasicSR's own functions on the same pictures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from data_fixtures import hr_folder, picture, write_png
from host_fixtures import ROOT
from networks import ABPN, calibrated, seeded_abpn, seeded_sesr, tensor
from test_export import save_checkpoint
from test_reference import FLOAT, published  # noqa: F401  (a fixture)

from mobilesr_plugin import checkpoint, pipeline
from mobilesr_plugin.bench.accuracy import evaluate
from mobilesr_plugin.bench.accuracy_result import Accuracy, Row, markdown, to_json
from mobilesr_plugin.cli.main import main
from mobilesr_plugin.colour import upscale_colour
from mobilesr_plugin.errors import CheckpointError, DataError, MobileSRError, OptionError
from mobilesr_plugin.export.onnx_file import write_onnx
from mobilesr_plugin.export.tflite_file import TensorFlowModel
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.options import ExportOptions
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import TFLiteRunner

SCALE = 3
SIZE = (48, 64)
BOTH = ("rgb_crop1", "y_crop_scale")

Scored = tuple[float, float]  # PSNR and SSIM


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded ABPN x3 of quantization-aware training, exported to ``../export``."""
    folder = tmp_path_factory.mktemp("experiment")
    ckpt = save_checkpoint(folder / "models" / "net_g_latest.pth", SCALE, quantized=True)
    pipeline.export(ckpt, ExportOptions(sizes=("48x64",)))
    return ckpt


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two sets of HR images of odd sizes, one with a grey image."""
    folder = tmp_path_factory.mktemp("sets")
    hr_folder(folder / "First" / "HR", count=2, height=80, width=100)
    hr_folder(folder / "Second", count=1, height=70, width=90)
    write_png(folder / "Second" / "grey.png", picture(71, 64, seed=9)[:, :, 0])
    return [folder / "First" / "HR", folder / "Second"]


@pytest.fixture(scope="module")
def result(ckpt: Path, folders: list[Path]) -> Accuracy:
    export = ckpt.parent.parent / "export"
    files = ["abpn_x3_int8.tflite", "abpn_x3.onnx", "abpn_x3_fp32.tflite", "abpn_x3_fp16.tflite"]
    return evaluate([ckpt, *(export / file for file in files)], folders, BOTH, with_ssim=True)


def row(result: Accuracy, name: str) -> Row:
    (found,) = (row for row in result.rows if row.name == name)
    return found


def by_basicsr(path: Path, network: Callable | None, channels: int, scale: int) -> dict[str, Scored]:
    """Scores of one image: reading, LR, rounding and metrics by BasicSR and OpenCV alone."""
    from basicsr.metrics import calculate_psnr, calculate_ssim
    from basicsr.utils import tensor2img
    from basicsr.utils.matlab_functions import imresize

    truth = cv2.imread(str(path), cv2.IMREAD_COLOR)
    truth = truth[: truth.shape[0] // scale * scale, : truth.shape[1] // scale * scale]
    low = np.rint(np.clip(imresize(truth / np.float32(255), 1 / scale) * 255, 0, 255))
    if network is None:
        shown = np.rint(np.clip(imresize((low / 255).astype(np.float32), scale) * 255, 0, 255))
    else:
        image = torch.from_numpy(low[:, :, ::-1].transpose(2, 0, 1).copy()).float()[None] / 255
        with torch.no_grad():
            shown = tensor2img(upscale_colour(network, image, channels))
    found = {}
    for protocol, crop, luma in (("rgb_crop1", 1, False), ("y_crop_scale", scale, True)):
        arguments = {"crop_border": crop, "test_y_channel": luma}
        found[protocol] = tuple(
            metric(shown, truth, **arguments) for metric in (calculate_psnr, calculate_ssim)
        )
    return found


def assert_scores(
    result: Accuracy, name: str, folders: list[Path], network: Callable | None, channels: int = 3
):
    for protocol in BOTH:
        for folder, own, scores in zip(folders, result.sets, row(result, name).scores[protocol], strict=True):
            expected = [
                by_basicsr(folder / image, network, channels, result.scale)[protocol] for image in own.images
            ]
            assert scores.psnr == pytest.approx([first for first, _ in expected], abs=1e-4)
            assert scores.ssim == pytest.approx([second for _, second in expected], abs=1e-6)


def test_rows_and_sets(result: Accuracy, folders: list[Path]) -> None:
    assert [(row.name, row.candidate.kind, row.candidate.kernels) for row in result.rows] == [
        ("bicubic", "bicubic", None),
        ("net_g_latest.pth", "int8", "xnnpack"),
        ("net_g_latest.pth (float)", "float", "torch"),
        ("abpn_x3_int8.tflite", "int8", "xnnpack"),
        ("abpn_x3.onnx", "float", "onnxruntime"),
        ("abpn_x3_fp32.tflite", "float", "xnnpack"),
        ("abpn_x3_fp16.tflite", "float16", "xnnpack"),
    ]
    assert [(own.name, own.images) for own in result.sets] == [
        ("First", ("0001.png", "0002.png")),
        ("Second", ("0001.png", "grey.png")),
    ]
    assert result.scale == SCALE


def test_figures_are_basicsrs(result: Accuracy, ckpt: Path, folders: list[Path]) -> None:
    restored = checkpoint.restore(ckpt)
    assert_scores(result, "bicubic", folders, None)
    assert_scores(result, "net_g_latest.pth (float)", folders, restored.float_network)
    assert_scores(result, "net_g_latest.pth", folders, IntegerNetwork(lower(restored.quantized_network)))


def test_the_device_file_scores_exactly_as_the_checkpoint(result: Accuracy) -> None:
    assert row(result, "net_g_latest.pth").scores == row(result, "abpn_x3_int8.tflite").scores


def test_float_files_score_as_the_float_network(result: Accuracy) -> None:
    expected = row(result, "net_g_latest.pth (float)")
    for name in ("abpn_x3.onnx", "abpn_x3_fp32.tflite", "abpn_x3_fp16.tflite"):
        for protocol in BOTH:
            assert row(result, name).mean_psnr(protocol) == pytest.approx(
                expected.mean_psnr(protocol), abs=0.005
            )


def test_loss_is_float_minus_int8(result: Accuracy, ckpt: Path, folders: list[Path], tmp_path: Path) -> None:
    for protocol in BOTH:
        means = {
            name: np.mean([np.mean(scores.psnr) for scores in row(result, name).scores[protocol]])
            for name in ("net_g_latest.pth", "net_g_latest.pth (float)")
        }
        expected = means["net_g_latest.pth (float)"] - means["net_g_latest.pth"]
        assert expected != 0
        for each in result.rows:
            loss = result.loss(each, protocol)
            assert loss == (pytest.approx(expected) if each.candidate.kind == "int8" else None), each.name
    # without the export's report, nothing says which checkpoint a file comes from
    alone = shutil.copy(ckpt.parent.parent / "export" / "abpn_x3_int8.tflite", tmp_path)
    moved = evaluate([ckpt, Path(alone)], folders[:1])
    assert moved.loss(row(moved, "net_g_latest.pth"), "rgb_crop1") is not None
    assert moved.loss(row(moved, "abpn_x3_int8.tflite"), "rgb_crop1") is None


def test_json_and_table_say_the_same(result: Accuracy, ckpt: Path) -> None:
    content = json.loads(json.dumps(to_json(result), allow_nan=False))
    assert content["sets"][0] == {"name": "First", "count": 2, "images": ["0001.png", "0002.png"]}
    assert {"mobilesr-plugin", "torch", "ai-edge-litert"} <= set(content["versions"])
    by_name = {model["name"]: model for model in content["models"]}
    assert by_name["net_g_latest.pth"]["sha256"] == checkpoint.restore(ckpt).source["sha256"]
    tables = markdown(content).split("\n\n")[1::2]
    assert len(tables) == 2
    for protocol, table in zip(BOTH, tables, strict=True):
        head, _, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().split("\n")
        ]
        assert head == ["model", "First", "Second", "mean", "loss"]
        assert [cells[0] for cells in rows] == list(by_name)
        for name, first, _, mean, loss in rows:
            own = by_name[name]["results"][protocol]
            images = own["sets"]["First"]["psnr_of_images"]
            assert first == f"{np.mean(images):.3f} / {own['sets']['First']['ssim']:.4f}"
            sets = [np.mean(each["psnr_of_images"]) for each in own["sets"].values()]
            assert mean.split(" / ")[0] == f"{np.mean(sets):.3f}"
            assert loss == ("" if own["loss"] is None else f"{own['loss']:.3f}")


def test_luma_networks_take_colour_images(folders: list[Path], tmp_path: Path) -> None:
    network = seeded_sesr(1, variant="M3", upscale=2, activation="relu", num_expand=32)
    quantized = calibrated(network)
    network_g = {"type": "SESR", "num_in_ch": 1, "variant": "M3", "upscale": 2, "activation": "relu"}
    described = checkpoint.describe({"scale": 2, "network_g": {**network_g, "num_expand": 32}})
    states = {"params": quantized.state_dict(), "params_float": network.state_dict()}
    checkpoint.save(tmp_path / "sesr.pth", {**states, "mobilesr": described})
    write_onnx(lower(quantized), tmp_path / "ranges.onnx", integer_weights=False, shifted_image=True)
    (tmp_path / "sesr.tflite").write_bytes(TensorFlowModel(tmp_path / "ranges.onnx").int8_file())

    result = evaluate([tmp_path / "sesr.pth", tmp_path / "sesr.tflite"], folders, BOTH, with_ssim=True)
    assert result.scale == 2
    assert row(result, "sesr.pth").scores == row(result, "sesr.tflite").scores
    assert_scores(result, "sesr.pth (float)", folders, network, channels=1)
    assert_scores(result, "sesr.pth", folders, IntegerNetwork(lower(quantized)), channels=1)


def test_a_file_of_fixed_size_takes_images_that_fit(ckpt: Path, folders: list[Path], tmp_path: Path) -> None:
    fixed = ckpt.parent.parent / "export" / "abpn_x3_int8_48x64.tflite"
    write_png(tmp_path / "HR" / "fits.png", picture(SIZE[0] * SCALE + 2, SIZE[1] * SCALE + 1))
    result = evaluate([ckpt, fixed], [tmp_path / "HR"])
    assert row(result, fixed.name).scores == row(result, "net_g_latest.pth").scores
    calls: list[int] = []
    with pytest.raises(DataError, match=r"takes images of 48x64 only, but .*0001\.png is 28x34"):
        evaluate([fixed], [tmp_path / "HR", *folders], progress=lambda done, total: calls.append(done))
    assert not calls, "sizes are looked at before any image is run"


def test_kernels_can_be_chosen(ckpt: Path, folders: list[Path], result: Accuracy) -> None:
    """TFLite's built-in kernels round otherwise, in the file and in the checkpoint's integers."""
    file = ckpt.parent.parent / "export" / "abpn_x3_int8.tflite"
    builtin = evaluate([ckpt, file], folders, BOTH, kernels="tflite_builtin", with_ssim=True)
    for name in ("net_g_latest.pth", file.name):
        assert row(builtin, name).candidate.kernels == "tflite_builtin"
        assert row(builtin, name).scores != row(result, name).scores
    assert row(builtin, "net_g_latest.pth").scores == row(builtin, file.name).scores
    runner = TFLiteRunner(file, kernels="tflite_builtin")

    def network(image: torch.Tensor) -> torch.Tensor:
        return tensor(runner(torch.round(image * 255).byte().permute(0, 2, 3, 1).numpy())[0])

    assert_scores(builtin, file.name, folders, network)


def test_equal_pictures_are_infinitely_alike(tmp_path: Path) -> None:
    """Bicubic returns a flat picture as it was: no number in JSON, ``inf`` in the table."""
    write_png(tmp_path / "flat" / "0.png", np.full((24, 24, 3), 90, np.uint8))
    content = to_json(evaluate([], [tmp_path / "flat"], scale=2))
    assert content["models"][0]["results"]["rgb_crop1"]["sets"]["flat"]["psnr_of_images"] == [None]
    assert json.dumps(content, allow_nan=False)
    assert "| bicubic | inf |" in markdown(content)


def test_names_that_occur_twice_are_paths(folders: list[Path], tmp_path: Path) -> None:
    models = [save_checkpoint(tmp_path / name / "net_g_latest.pth", SCALE, quantized=False) for name in "ab"]
    twin = shutil.copytree(folders[0].parent, tmp_path / "other" / "First")
    calls: list[tuple[int, int]] = []
    threads = torch.get_num_threads()
    result = evaluate(models, [folders[0], twin / "HR"], threads=1, progress=lambda *call: calls.append(call))
    assert [row.name for row in result.rows] == ["bicubic", *map(str, models)]
    assert [own.name for own in result.sets] == [str(folders[0]), str(twin / "HR")]
    assert calls == [(done, 4) for done in range(1, 5)]
    assert torch.get_num_threads() == threads


@pytest.fixture(scope="module")
def broken(ckpt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the files of the cases below lie."""
    folder = tmp_path_factory.mktemp("broken")
    save_checkpoint(folder / "x2.pth", 2, quantized=False)
    (folder / "bare" / "models").mkdir(parents=True)
    checkpoint.save(folder / "bare" / "models" / "net.pth", {"params": seeded_abpn(3).state_dict()})
    shutil.copy(ckpt, folder / "x3.pth")
    (folder / "empty").mkdir()
    hr_folder(folder / "good", count=1, height=40, width=40)
    good = (folder / "good" / "0001.png").read_bytes()
    for name, content in {"cut": good[: len(good) // 2], "text": b"no picture"}.items():
        hr_folder(folder / name, count=1, height=40, width=40)
        (folder / name / "bad.png").write_bytes(content)
    write_png(folder / "small" / "tiny.png", picture(5, 40))
    (folder / "model.txt").write_text("")
    (folder / "noise.tflite").write_bytes(b"no model")
    return folder


@pytest.mark.parametrize(
    ("models", "data", "more", "kind", "message"),
    [
        (["x3.pth"], ["missing"], {}, DataError, "missing is not a folder"),
        (["x3.pth"], ["empty"], {}, DataError, "empty holds no image"),
        (["x3.pth"], ["text"], {}, DataError, "bad.png: is not a readable image"),
        (["x3.pth"], ["cut"], {}, DataError, "bad.png: is damaged"),
        (["x3.pth"], ["small"], {}, DataError, "tiny.png is too small: both sides must be at least 6"),
        (["x3.pth"], ["good", "good"], {}, OptionError, "good was given 2 times"),
        (["x3.pth", "x3.pth"], ["good"], {}, OptionError, "x3.pth was given 2 times"),
        (["x3.pth"], [], {}, OptionError, "no folder of HR images"),
        (["x3.pth", "x2.pth"], ["good"], {}, OptionError, "x3.pth is x3, .*x2.pth is x2; all must have one"),
        (["x3.pth"], ["good"], {"scale": 4}, OptionError, "x3.pth is x3; --scale is 4"),
        ([], ["good"], {}, OptionError, "no model was given"),
        (["x3.pth"], ["good"], {"kernels": "fast"}, OptionError, "'fast'; it must be one of xnnpack, tflite"),
        (["x3.pth"], ["good"], {"protocols": ["y"]}, OptionError, "'y'; it must be one of rgb_crop1, y_crop"),
        (["missing.pth"], ["good"], {}, CheckpointError, "missing.pth does not exist"),
        (["bare/models/net.pth"], ["good"], {}, CheckpointError, "does not describe its network"),
        (["missing.tflite"], ["good"], {}, DataError, "missing.tflite cannot be read"),
        (["noise.tflite"], ["good"], {}, DataError, "noise.tflite is not a TFLite file"),
        (["missing.onnx"], ["good"], {}, DataError, "missing.onnx cannot be read: No such file"),
        (["model.txt"], ["good"], {}, OptionError, "model.txt is no .pth, .onnx or .tflite file"),
    ],
)
def test_what_cannot_be_compared_is_said(
    broken: Path, models: list[str], data: list[str], more: dict, kind: type[MobileSRError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        evaluate([broken / name for name in models], [broken / name for name in data], **more)
    assert "\n" not in str(caught.value)


def test_a_description_can_be_given(broken: Path, tmp_path: Path) -> None:
    (tmp_path / "abpn.yml").write_text("scale: 3\nnetwork_g: {type: ABPN, num_in_ch: 3, upscale: 3}\n")
    models = [broken / "bare" / "models" / "net.pth", broken / "x3.pth"]
    bare = evaluate(models[:1], [broken / "good"], opt_path=tmp_path / "abpn.yml")
    described = evaluate(models[1:], [broken / "good"])
    assert row(bare, "net.pth").scores == row(described, "x3.pth (float)").scores


def run(*arguments: object) -> int:
    """Runs ``mobilesr bench accuracy`` in this process; returns its exit code."""
    with pytest.raises(SystemExit) as done:
        main(["bench", "accuracy", *map(str, arguments)])
    return int(done.value.code or 0)


def test_command(ckpt: Path, folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = ckpt.parent.parent / "export" / "abpn_x3_int8.tflite"
    full, table = tmp_path / "new" / "result.json", tmp_path / "result.md"
    options = ["--model", ckpt, device, "--data", *folders, "--protocol", *BOTH]
    assert run(*options, "--out", full, table) == 0
    said = capsys.readouterr()
    assert said.out == table.read_text()
    assert said.err == ""
    content = json.loads(full.read_text())
    assert said.out == markdown(content)
    assert content == to_json(evaluate([ckpt, device], folders, BOTH))
    assert str(ckpt.parent) not in full.read_text()
    assert run(*options, "--json") == 0
    said = capsys.readouterr()
    assert (json.loads(said.out), said.err) == (content, "")


def test_several_values_in_every_form(folders: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    first, second = folders
    for form in (
        ["--data", first, second, "--scale", 2],
        ["--data", first, "--scale=2", "--data", second],
        [f"--data={first}", second, "--scale", 2],
    ):
        assert run(*form) == 0
        assert "| model | First | Second | mean |" in capsys.readouterr().out
    assert run("--scale", 2, 3, "--data", first) == 2
    assert run("--scale", 2) == 2


def test_failure_of_the_command_is_one_line(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", broken / "x3.pth", "--data", broken / "cut") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"mobilesr: \S*bad\.png: is damaged .*\n", said.err)
    target = broken / "model.txt" / "result.json"  # below a file
    assert run("--data", broken / "good", "--scale", 2, "--out", target) == 1
    assert re.fullmatch(r"mobilesr: \S*result\.json cannot be written: .*\n", capsys.readouterr().err)


def test_documents_get_the_table(folders: list[Path], tmp_path: Path) -> None:
    content = to_json(evaluate([], folders, scale=2))
    (tmp_path / "result.json").write_text(json.dumps(content))
    document = tmp_path / "page.md"
    sections = [f"<!-- accuracy:{name} -->\nold {name}\n<!-- end -->" for name in ("one", "two")]
    document.write_text("# Page\n\n{}\n\nbetween\n\n{}\n\nafter\n".format(*sections))
    tool = [sys.executable, ROOT / "tools" / "write_benchmarks.py", tmp_path / "result.json"]

    def written(section: str) -> subprocess.CompletedProcess[str]:
        command = [*tool, "--section", section, "--into", document]
        return subprocess.run(command, capture_output=True, text=True)

    for _ in range(2):  # writing again changes nothing
        done = written("two")
        assert done.returncode == 0, done.stderr
        assert document.read_text() == (
            "# Page\n\n<!-- accuracy:one -->\nold one\n<!-- end -->\n\nbetween\n\n"
            f"<!-- accuracy:two -->\n\n{markdown(content)}\n<!-- end -->\n\nafter\n"
        )
    before = document.read_text()
    done = written("three")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{document} has 0 sections between the lines <!-- accuracy:three -->")
    (tmp_path / "result.json").write_text("{}")
    done = written("two")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert document.read_text() == before


def test_the_published_figures_come_out(
    published: ABPN,  # noqa: F811
    shared_data: Path,
    tmp_path: Path,
) -> None:
    network_g = {"type": "ABPN", "num_in_ch": 3, "upscale": SCALE}
    described = checkpoint.describe({"scale": SCALE, "network_g": network_g})
    checkpoint.save(tmp_path / "net.pth", {"params": published.state_dict(), "mobilesr": described})
    result = evaluate([tmp_path / "net.pth"], [shared_data / "Set5" / "HR"], BOTH)
    bicubic, network = result.rows
    for protocol, at_bicubic, expected in zip(BOTH, (28.634, 30.405), FLOAT["Set5"], strict=True):
        assert bicubic.mean_psnr(protocol) == pytest.approx(at_bicubic, abs=0.002)
        assert network.mean_psnr(protocol) == pytest.approx(expected, abs=0.002)
