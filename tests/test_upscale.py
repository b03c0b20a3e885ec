"""``mobilesr upscale`` on pictures: tiles are exact, files keep what they had, failures are one line."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from host_fixtures import environment
from networks import calibrated, noise, seeded_sesr
from PIL import Image, ImageCms
from plain_networks import NAMES, PLAIN_NETWORKS
from test_export import SIZE, Export, exported  # noqa: F401  (a fixture)
from torch import nn

from mobilesr_plugin import checkpoint, pipeline
from mobilesr_plugin.bench.candidates import open_candidates
from mobilesr_plugin.cli.main import main
from mobilesr_plugin.errors import DataError, OptionError
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.networks_from_files import FileNetwork, open_networks, to_pixels, to_tensor
from mobilesr_plugin.options import ExportOptions
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.upscaling import tiles
from mobilesr_plugin.upscaling.field import receptive_field
from mobilesr_plugin.upscaling.reach import Field
from mobilesr_plugin.upscaling.upscaler import Upscaler, open_upscaler

SIDES = (97, 131)  # odd, and no multiple of any tile
ORIENTATION = 0x0112
LOSSY = 15  # of 255, on average; the picture is mostly noise, and WebP halves the resolution of colour


@pytest.fixture(scope="session")
def folder(exported: Export) -> Callable[[int], Path]:  # noqa: F811
    """Folder of the exported files of an ABPN of a scale."""
    return lambda upscale: exported(upscale).folder


@pytest.fixture(scope="session")
def model(folder: Callable[[int], Path]) -> Path:
    return folder(3) / "abpn_x3_int8.tflite"


@pytest.fixture(scope="session")
def luma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a SESR-M5 x2, which works on luma: .pth and exported files."""
    made = tmp_path_factory.mktemp("luma")
    network = seeded_sesr(1, variant="M5", upscale=2, activation="relu")
    described = {
        "scale": 2,
        "network_g": {"type": "SESR", "num_in_ch": 1, "variant": "M5", "upscale": 2, "activation": "relu"},
    }
    entries = {
        "params": calibrated(network).state_dict(),
        "params_float": network.state_dict(),
        "mobilesr": checkpoint.describe(described),
    }
    checkpoint.save(made / "sesr.pth", entries)
    pipeline.export(made / "sesr.pth", ExportOptions(out=str(made), sizes=("40x48",)))
    return made


def run(*arguments: object) -> int:
    """Runs ``mobilesr upscale`` in this process; returns its exit code."""
    with pytest.raises(SystemExit) as done:
        main(["upscale", *map(str, arguments)])
    return int(done.value.code or 0)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mobilesr_plugin.cli", "upscale", *map(str, arguments)]


def stated(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr that starts with the command's name."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mobilesr:")]
    assert len(lines) == 1
    return lines[0]


def of_module(network: nn.Module, origin: nn.Module, scale: int, channels: int) -> FileNetwork:
    """A network without a file."""

    def run(image: torch.Tensor) -> torch.Tensor:
        return network(to_tensor(to_pixels(image)) if isinstance(network, IntegerNetwork) else image)

    kind = "int8" if isinstance(origin, IntegerNetwork) else "float"
    described = (Path("network"), "", kind, "xnnpack", "", None, scale, channels, None)
    return FileNetwork(*described, run, origin)


def assert_tiles_are_exact(file: FileNetwork, sizes: tuple[int, ...] = (40, 57, 96)) -> None:
    image = noise(*SIDES)[:, :, : file.channels]
    whole = Upscaler(file, tile=0).pixels(image)
    assert whole.shape == (SIDES[0] * file.scale, SIDES[1] * file.scale, file.channels)
    for size in sizes:
        assert np.array_equal(Upscaler(file, tile=size).pixels(image), whole), size


# Tiles


@pytest.mark.parametrize("length", [1, 30, 31, 97, 100, 1000])
@pytest.mark.parametrize(("largest", "radius"), [(30, 7), (31, 0), (64, 13), (29, 14)])
def test_windows_keep_each_place_once_and_far_from_inner_borders(
    length: int, largest: int, radius: int
) -> None:
    size = tiles.even_size(length, largest, radius)
    assert size <= max(largest, 1)
    found = tiles.windows(length, size, radius)
    assert [place for window in found for place in range(window.first, window.last)] == list(range(length))
    for window in found:
        assert window.stop - window.start == size
        assert window.start == 0 or window.first - window.start >= radius
        assert window.stop == length or window.stop - window.last >= radius


@pytest.mark.parametrize("upscale", [3, *(pytest.param(scale, marks=pytest.mark.slow) for scale in (2, 4))])
@pytest.mark.parametrize("kind", ["int8.tflite", "fp32.tflite", "fp16.tflite", "qdq.onnx", ".onnx", ".pth"])
def test_tiles_give_the_pixels_of_the_whole_image(
    folder: Callable[[int], Path], upscale: int, kind: str
) -> None:
    name = f"abpn_x{upscale}{'' if kind.startswith('.') else '_'}{kind}"
    path = folder(upscale) / name
    if kind == ".pth":
        path = folder(upscale).parent / "models" / "net_g_latest.pth"
    for file in open_networks(path, kernels="xnnpack", threads=2):  # of a checkpoint, integers and float
        assert receptive_field(file) == Field(radius=7, shift_invariant=True)
        assert_tiles_are_exact(file)


@pytest.mark.parametrize("name", NAMES)
def test_tiles_are_exact_for_every_network(name: str) -> None:
    network = PLAIN_NETWORKS[name]()
    integer = IntegerNetwork(lower(calibrated(network)))
    scale, channels = integer.graph.scale, integer.graph.input.channels
    for file in (of_module(integer, integer, scale, channels), of_module(network, network, scale, channels)):
        field = receptive_field(file)
        assert field is not None
        if field.shift_invariant:
            assert_tiles_are_exact(file, (40, 64))
        else:
            assert scale == 3


def test_the_overlap_is_as_small_as_can_be(model: Path) -> None:
    """One pixel less, and the zeros at the tiles' inner borders show."""
    (file,) = open_networks(model, kernels="xnnpack", threads=2)
    image = noise(*SIDES)
    whole = Upscaler(file, tile=0).pixels(image)
    assert not np.array_equal(Upscaler(file, tile=40, overlap=6).pixels(image), whole)
    assert np.array_equal(Upscaler(file, tile=40, overlap=9).pixels(image), whole)


def test_a_file_for_one_size_takes_larger_pictures(folder: Callable[[int], Path]) -> None:
    one, any_size = (folder(3) / f"abpn_x3_int8{end}.tflite" for end in (f"_{SIZE}", ""))
    for height, width in [(48, 64), (97, 131), (48, 65), (90, 64)]:
        image = noise(height, width, seed=width)
        expected = open_upscaler(any_size, tile=0).pixels(image)
        assert np.array_equal(open_upscaler(one).pixels(image), expected)
    with pytest.raises(
        DataError, match=r"takes images of 48x64, .* but the image is 47x64; use the file for any"
    ):
        open_upscaler(one).pixels(noise(47, 64))


@pytest.mark.parametrize(
    "kind",
    ["sesr.pth", "sesr_m5_x2_int8.tflite", pytest.param("sesr_m5_x2_qdq.onnx", marks=pytest.mark.slow)],
)
def test_colour_through_luma_in_tiles(luma: Path, tmp_path: Path, kind: str) -> None:
    """Tiles change nothing, and the result is what validation and benchmarks compute."""
    Image.fromarray(noise(*SIDES)).save(tmp_path / "a.png")
    for tile in (0, 50):
        assert (
            run(tmp_path / "a.png", "--model", luma / kind, "--tile", tile, "--out", tmp_path / f"{tile}")
            == 0
        )
    results = [np.array(Image.open(tmp_path / f"{tile}" / "a_x2.png")) for tile in (0, 50)]
    first, *_ = open_candidates(luma / kind, kernels="xnnpack", threads=2)
    assert np.array_equal(results[0], first.upscale(noise(*SIDES)))
    assert np.array_equal(*results)


def test_a_network_that_cannot_be_cut_stays_whole(tmp_path: Path) -> None:
    class Global(nn.Module):
        num_in_ch = 3

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.interpolate(x - x.mean(), scale_factor=2.0) + 0.5

    network = Global()
    upscaler = Upscaler(of_module(network, network, 2, 3), tile=40)
    image = noise(*SIDES)
    assert upscaler.field is None
    assert np.array_equal(upscaler.pixels(image), to_pixels(network(to_tensor(image[None])))[0])
    assert "--overlap" in str(upscaler.note(SIDES))
    assert upscaler.note((40, 40)) is None


def test_tiles_must_be_larger_than_their_overlap(model: Path) -> None:
    with pytest.raises(
        OptionError, match="tiles of 14 pixels are no larger than their overlap, 7 on each side"
    ):
        open_upscaler(model, tile=14).pixels(noise(40, 40))


# Files


def save(path: Path, array: np.ndarray, **options: Any) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff"])
def test_formats(model: Path, tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"a.{suffix}", noise(30, 41))
    assert run(tmp_path / f"a.{suffix}", "--model", model, "--out", tmp_path / "out") == 0
    (made,) = (tmp_path / "out").iterdir()
    assert made.name == f"a_x3.{suffix}"
    with Image.open(made) as result, Image.open(tmp_path / f"a.{suffix}") as given:
        assert result.format == given.format
        expected = open_upscaler(model).pixels(np.array(given.convert("RGB")))
        difference = np.abs(np.array(result).astype(int) - expected)
        assert difference.max() == 0 if suffix in ("png", "bmp", "tiff") else difference.mean() < LOSSY


def test_another_format_and_a_single_file(model: Path, tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", noise(20, 20))
    assert run(tmp_path / "a.jpg", "--model", model, "--format", "png", "--out", tmp_path) == 0
    assert run(tmp_path / "a.jpg", "--model", model, "--out", tmp_path / "new" / "big.png") == 0
    made = [np.array(Image.open(tmp_path / name)) for name in ("a_x3.png", "new/big.png")]
    assert np.array_equal(*made)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_reset(model: Path, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010F] = orientation, "maker"
    save(tmp_path / "a.png", noise(20, 30), exif=exif)
    assert run(tmp_path / "a.png", "--model", model, "--out", tmp_path) == 0
    from PIL import ImageOps

    with Image.open(tmp_path / "a.png") as given, Image.open(tmp_path / "a_x3.png") as made:
        upright = np.array(ImageOps.exif_transpose(given))
        assert np.array_equal(np.array(made), open_upscaler(model).pixels(upright))
        assert made.getexif().get(ORIENTATION, 1) == 1
        assert made.getexif()[0x010F] == "maker"


def test_grey_stays_grey_and_alpha_and_profile_stay(model: Path, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgb = noise(24, 32)
    alpha = np.zeros((24, 32), np.uint8)
    alpha[:, 16:] = 255
    save(tmp_path / "grey.png", rgb[:, :, 0])
    save(tmp_path / "both.png", np.dstack([rgb[:, :, 0], alpha]))
    save(tmp_path / "clear.png", np.dstack([rgb, alpha]), icc_profile=profile)
    Image.fromarray(rgb).quantize(16).save(tmp_path / "palette.png")
    assert run(*tmp_path.glob("*.png"), "--model", model, "--out", tmp_path / "out") == 0
    made = {path.stem: Image.open(path) for path in (tmp_path / "out").iterdir()}
    assert {name: image.mode for name, image in made.items()} == {
        **{"grey_x3": "L", "both_x3": "LA", "clear_x3": "RGBA", "palette_x3": "RGB"}
    }
    clear = np.array(made["clear_x3"])
    assert np.array_equal(clear[:, :, :3], open_upscaler(model).pixels(rgb))
    assert np.array_equal(np.array(made["both_x3"])[:, :, 1], clear[:, :, 3])
    assert (clear[:, :44, 3] < 10).all()
    assert (clear[:, 52:, 3] > 245).all()
    assert made["clear_x3"].info["icc_profile"] == profile
    grey = open_upscaler(model).pixels(np.repeat(rgb[:, :, :1], 3, axis=2)).astype(float).mean(axis=2)
    assert np.abs(np.array(made["grey_x3"]) - grey).max() <= 0.5


def sixteen_bits(path: Path, image: np.ndarray, profile: bytes | None = None) -> Path:
    if path.suffix == ".tiff":
        tifffile.imwrite(path, image, iccprofile=profile)
    else:
        cv2.imwrite(str(path), image[:, :, ::-1] if image.ndim == 3 else image)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("grey", [False, True])
def test_sixteen_bits(
    folder: Callable[[int], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    suffix: str,
    grey: bool,
) -> None:
    """Kept by float networks, in all 16 bits; rounded for integers, which is said."""
    deep = (noise(24, 32).astype(np.uint16) << 8) + np.arange(32, dtype=np.uint16)[None, :, None] * 7
    deep = deep[:, :, 0] if grey else deep
    sixteen_bits(tmp_path / f"a{suffix}", deep)
    for kind in ("fp32.tflite", "int8.tflite"):
        arguments = ("--model", folder(3) / f"abpn_x3_{kind}", "--out", tmp_path / kind)
        assert run(tmp_path / f"a{suffix}", *arguments) == 0
    said = capsys.readouterr().out
    assert said.count("16 bits were rounded to 8") == 1
    made = cv2.imread(str(tmp_path / "fp32.tflite" / f"a_x3{suffix}"), cv2.IMREAD_UNCHANGED)
    assert made.dtype == np.uint16
    assert len(np.unique(made & 255)) > 200
    floating = checkpoint.restore(folder(3).parent / "models" / "net_g_latest.pth").float_network
    assert floating is not None
    rgb = np.repeat(deep[:, :, None], 3, axis=2) if grey else deep
    with torch.inference_mode():
        real = floating(torch.from_numpy(rgb.astype(np.float32).transpose(2, 0, 1)[None]) / 65535)[0].numpy()
    expected = real.mean(axis=0) if grey else real.transpose(1, 2, 0)[:, :, ::-1]
    assert np.abs(made / 65535 - expected).max() < 1e-4
    rounded = np.array(Image.open(tmp_path / "int8.tflite" / f"a_x3{suffix}"))
    assert rounded.dtype == np.uint8
    assert rounded.ndim == made.ndim


def test_a_profile_survives_in_sixteen_bits(folder: Callable[[int], Path], tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    deep = noise(16, 16).astype(np.uint16) << 8
    sixteen_bits(tmp_path / "a.tiff", deep, profile)
    for form in ("png", "tiff"):
        arguments = ("--model", folder(3) / "abpn_x3.onnx", "--format", form, "--out", tmp_path)
        assert run(tmp_path / "a.tiff", *arguments) == 0
        with Image.open(tmp_path / f"a_x3.{form}") as made:
            assert made.info["icc_profile"] == profile


def test_folders_globs_and_going_on(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for index in range(3):
        save(tmp_path / "in" / f"{index}.png", noise(16, 18, index))
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    assert run("in", "--model", model) == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "upscaled").iterdir()}
    assert sorted(first) == ["0_x3.png", "1_x3.png", "2_x3.png"]
    (tmp_path / "upscaled" / "1_x3.png").unlink()
    capsys.readouterr()
    assert run("in/[01].png", "in", "--model", model, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    states = {Path(each["input"]).name: each["state"] for each in summary["results"]}
    assert states == {"0.png": "skipped", "1.png": "made", "2.png": "skipped"}
    assert (summary["scale"], summary["kind"]) == (3, "int8")
    assert {path.name: path.read_bytes() for path in (tmp_path / "upscaled").iterdir()} == first
    assert run("in", "--model", model, "--overwrite", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    # results beside their inputs are no inputs themselves
    assert run("in", "--model", model, "--out", "in") == 0
    assert run("in", "--model", model, "--out", "in") == 0
    assert len(list((tmp_path / "in").glob("*.png"))) == 6


# Failures


def test_without_a_model_it_says_how_to_get_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 1
    line = stated(capsys)
    assert all(word in line for word in ("make demo", "mobilesr import", "mobilesr-export"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "missing.png does not exist"),
        (["empty"], "empty holds no picture and no video"),
        (["*.gif"], "*.gif matches no picture and no video"),
        (["notes.txt"], "notes.txt is no picture and no video by its name"),
        (["a.png", "--out", "a.png"], "a.png would be overwritten by its result"),
        (["a.png", "b/a.png"], "a.png and b/a.png would both become upscaled/a_x3.png"),
        (["a.png", "b/a.png", "--out", "c.png"], "--out c.png names one file, but there are 2 inputs"),
        (["a.png", "--out", "c.mp4"], "--out c.mp4: a picture can be written to .png"),
        (["a.png", "--format", "gif"], "format is 'gif'; it must be one of png"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b", "empty"):
        (tmp_path / name).mkdir()
    for name in ("a.png", "b/a.png"):
        save(tmp_path / name, noise(8, 8))
    (tmp_path / "notes.txt").write_text("no picture")
    assert run(*arguments, "--model", model) == 1
    assert message in stated(capsys)
    assert not (tmp_path / "upscaled").exists()


def test_damaged_pictures_do_not_stop_the_others(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, form in enumerate(["PNG", "JPEG", "WEBP", "TIFF", "BMP"]):
        stream = io.BytesIO()
        Image.fromarray(noise(64, 64, index)).save(stream, form)
        half = stream.getvalue()[: len(stream.getvalue()) // 2]
        (tmp_path / f"{index}.{form.lower()}").write_bytes(half)
    (tmp_path / "5.png").write_bytes(b"")
    (tmp_path / "6.png").write_text("<html>not found</html>")
    deep = sixteen_bits(tmp_path / "7.png", noise(64, 64).astype(np.uint16) << 8)
    deep.write_bytes(deep.read_bytes()[:4000])
    save(tmp_path / "good.png", noise(16, 16))
    assert run(tmp_path, "--model", model, "--out", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good_x3.png"]
    failed = [line for line in said.err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 8
    assert "8 of 9 inputs failed" in said.err.splitlines()[-1]
    assert sum("is damaged or cut short" in line for line in failed) >= 5
    assert any("is empty" in line for line in failed)


def tflite_of(build: Callable[[Any], Any], *specs: Any) -> bytes:
    import tensorflow as tf

    function = tf.function(build, input_signature=[tf.TensorSpec(*spec) for spec in specs])
    return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()]).convert()


def test_a_foreign_file_works_if_its_contract_is_clear(tmp_path: Path) -> None:
    """Explicit padding, a valid convolution and a nearest resize, in float32, for one size."""
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32)

    def build(x: Any) -> Any:
        padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        made = tf.nn.relu(tf.nn.conv2d(padded, kernel, 1, "VALID"))
        return tf.clip_by_value(tf.image.resize(x + made, [80, 96], method="nearest"), 0, 1)

    path = tmp_path / "foreign.tflite"
    path.write_bytes(tflite_of(build, ((1, 40, 48, 3), tf.float32)))
    save(tmp_path / "a.png", noise(*SIDES))
    assert run(tmp_path / "a.png", "--model", path, "--out", tmp_path) == 0
    image = tf.constant(noise(*SIDES)[None].astype(np.float32) / 255)
    padded = tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "SAME")) + image
    expected = np.rint(np.clip(padded.numpy()[0], 0, 1).repeat(2, 0).repeat(2, 1) * 255)
    made = np.array(Image.open(tmp_path / "a_x2.png")).astype(int)
    assert np.abs(made - expected).max() <= 1
    assert open_upscaler(path).field == Field(radius=1, shift_invariant=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two", "has 2 inputs; it must have one, an image"),
        ("flat", "takes (1, 40, 3); it must be an image (1, H, W, 1 or 3)"),
        ("first", "takes (1, 3, 40, 40); it must be an image (1, H, W, 1 or 3), channels last"),
        ("same", "it is no upscaling network"),
        ("int32", "takes int32; it must be uint8, int8 or float32"),
        ("half", "is not a TFLite file that this machine can run"),
        ("text", "is not a TFLite file that this machine can run"),
    ],
)
def test_what_a_foreign_file_lacks_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Path, name: str, message: str
) -> None:
    import tensorflow as tf

    image = ((1, 40, 40, 3), tf.float32)
    made: dict[str, Callable[[], bytes]] = {
        "two": lambda: tflite_of(lambda x, y: tf.tile(x + y, [1, 2, 2, 1]), image, image),
        "flat": lambda: tflite_of(lambda x: tf.tile(x, [1, 2, 1]), ((1, 40, 3), tf.float32)),
        "first": lambda: tflite_of(lambda x: tf.tile(x, [1, 1, 2, 2]), ((1, 3, 40, 40), tf.float32)),
        "same": lambda: tflite_of(lambda x: x[:, :30] + 1.0, image),
        "int32": lambda: tflite_of(lambda x: tf.tile(x, [1, 2, 2, 1]), ((1, 40, 40, 3), tf.int32)),
        "half": lambda: model.read_bytes()[:3000],
        "text": lambda: b"<html>not found</html>",
    }
    path = tmp_path / "foreign.tflite"
    path.write_bytes(made[name]())
    save(tmp_path / "a.png", noise(40, 40))
    assert run(tmp_path / "a.png", "--model", path, "--out", tmp_path / "out") == 1
    assert message in stated(capsys)
    assert not (tmp_path / "out").exists()


def limited(limit: int) -> Callable[[], None]:
    """What a process is started with so that it can write no file of more than ``limit`` bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.slow
def test_a_disk_that_fills_up(model: Path, tmp_path: Path) -> None:
    """A file may not grow beyond 40 kB: the small result is kept, of the large one nothing is left."""
    save(tmp_path / "a.png", np.zeros((16, 16, 3), np.uint8))
    save(tmp_path / "b.png", noise(200, 200))
    out = tmp_path / "out"
    arguments = command(tmp_path / "a.png", tmp_path / "b.png", "--model", model, "--out", out)
    done = subprocess.run(
        arguments, env=environment(), capture_output=True, text=True, preexec_fn=limited(40_000), check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"{out / 'b_x3.png'} cannot be written: File too large" in done.stderr.splitlines()[-1]
    assert [path.name for path in out.iterdir()] == ["a_x3.png"]


@pytest.mark.slow
def test_ctrl_c_leaves_whole_files_only(model: Path, tmp_path: Path) -> None:
    for index in range(200):
        save(tmp_path / f"{index:03d}.png", noise(100, 100, index))
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(tmp_path, "--model", model, "--out", out),
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests may run in the background
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    until = time.monotonic() + 60
    while not (out.is_dir() and len(list(out.glob("*.png"))) >= 2):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert error.splitlines()[-1].startswith("mobilesr: interrupted")
    made = sorted(out.iterdir())
    assert 2 <= len(made) < 200
    for path in made:
        assert not path.name.startswith(".")
        with Image.open(path) as image:
            assert np.array(image).shape == (300, 300, 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["_int8.tflite", "_fp32.tflite", ".onnx"])
@pytest.mark.parametrize("upscale", [3, 4])
def test_a_4k_picture_takes_less_than_2_gb(
    folder: Callable[[int], Path], tmp_path: Path, kind: str, upscale: int
) -> None:
    assert peak_of_4k(folder(upscale) / f"abpn_x{upscale}{kind}", tmp_path) < 2_000_000_000


@pytest.mark.slow
def test_a_4k_picture_through_luma_takes_less_than_2_gb(luma: Path, tmp_path: Path) -> None:
    assert peak_of_4k(luma / "sesr_m5_x2_int8.tflite", tmp_path) < 2_000_000_000


def peak_of_4k(path: Path, tmp_path: Path) -> int:
    """Peak resident memory in bytes of upscaling 3840x2160, as the system counts it for the process."""
    block = noise(216, 384)
    save(tmp_path / "large.png", np.tile(block, (10, 10, 1)), compress_level=1)
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    arguments = command(tmp_path / "large.png", "--model", path, "--out", tmp_path / "out", "--quiet")
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    with Image.open(next((tmp_path / "out").iterdir())) as made:
        assert made.width in (3840 * 2, 3840 * 3, 3840 * 4)
    return int(done.stdout.split()[-1]) * 1024
