"""MODEL_CARD.md of an export: its Python snippet is run as it stands, and gives the device's bytes."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from networks import calibrated, noise, seeded_sesr
from PIL import Image
from test_export import Export, exported

from mobilesr_plugin import checkpoint, pipeline
from mobilesr_plugin.colour import upscale_colour
from mobilesr_plugin.options import ExportOptions
from mobilesr_plugin.runtimes import TFLiteRunner
from mobilesr_plugin.verify.parity import to_tensor

__all__ = ["exported"]  # a fixture


def snippet(folder: Path, language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", (folder / "MODEL_CARD.md").read_text(), re.DOTALL)
    return str(found)


def run(code: str, folder: Path, tmp_path: Path, image: np.ndarray, scale: int) -> np.ndarray:
    """Runs a snippet in a folder that has the int8 file and a picture, and nothing else."""
    (file,) = re.findall(r'Interpreter\("(.*?)"', code)
    (tmp_path / file).symlink_to(folder / file)
    Image.fromarray(image).save(tmp_path / "picture.png")
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return np.asarray(Image.open(tmp_path / f"picture_x{scale}.png"))


@pytest.mark.parametrize("io", ["uint8", "int8", "float32"])
def test_python_snippet(exported: Export, tmp_path: Path, io: str) -> None:
    folder = exported(3, io=io).folder
    image = noise(37, 52)
    written = run(snippet(folder, "python"), folder, tmp_path, image, 3)
    expected = TFLiteRunner(exported(3).folder / "abpn_x3_int8.tflite")(image[None])[0]
    assert np.array_equal(written, expected)


def test_python_snippet_of_a_luma_network(tmp_path: Path) -> None:
    """Y is the device's, byte for byte; Cb and Cr are interpolated, by Pillow instead of PyTorch."""
    described = {"scale": 2, "network_g": {"type": "SESR", "num_in_ch": 1, "upscale": 2, "variant": "M3"}}
    network = seeded_sesr(variant="M3", activation="relu")
    described["network_g"]["activation"] = "relu"
    ckpt = tmp_path / "exp" / "models" / "net_g_latest.pth"
    ckpt.parent.mkdir(parents=True)
    entries = {"params": calibrated(network).state_dict(), "mobilesr": checkpoint.describe(described)}
    checkpoint.save(ckpt, entries)
    folder = pipeline.export(ckpt, ExportOptions(sizes=())).folder
    code = snippet(folder, "python") + '\nnp.save("luma.npy", upscaled)\nnp.save("pixels.npy", pixels)\n'
    image = noise(37, 52)
    written = run(code, folder, tmp_path, image, 2)
    device = TFLiteRunner(folder / "sesr_m3_x2_int8.tflite")
    pixels = np.load(tmp_path / "pixels.npy")
    assert np.array_equal(np.load(tmp_path / "luma.npy"), device(pixels))

    def on_device(luma: object) -> object:
        values = np.rint(luma.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)  # type: ignore[attr-defined]
        assert np.array_equal(values, pixels)
        return to_tensor(device(values))

    expected = upscale_colour(on_device, to_tensor(image[None]), 1)  # type: ignore[arg-type]
    difference = np.abs(written - expected[0].permute(1, 2, 0).numpy() * 255)
    assert difference.mean() < 2  # the two bicubic filters have other coefficients


def test_card_says_what_the_report_says(exported: Export) -> None:
    done = exported(3)
    card = (done.folder / "MODEL_CARD.md").read_text()
    device = [file for file in done.report["files"] if file["name"].endswith((".tflite", ".onnx"))]
    assert len(device) == 6
    for file in device:
        assert f"| {file['name']} | {file['bytes']:,} | {file['sha256']} |" in card
    (own,) = (file for file in done.report["files"] if file["name"] == "MODEL_CARD.md")
    assert own["sha256"] == hashlib.sha256(card.encode()).hexdigest()
    assert "| shape | (1, H, W, 3) | (1, 3 H, 3 W, 3) |" in card
    assert "0 differ." in card
    assert "built-in method" not in card
    assert "{" not in re.sub(r"```.*?```", "", card, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("io", "put", "get"),
    [
        ("uint8", "image.put((colour shr shift).toByte())", "(result.get().toInt() and 0xff)"),
        (
            "int8",
            "image.put(((colour shr shift) xor 0x80).toByte())",
            "((result.get().toInt() and 0xff) xor 0x80)",
        ),
        ("float32", "image.putFloat(((colour shr shift) and 0xff) / 255f)", "result.getFloat()"),
    ],
)
def test_kotlin_snippet_follows_the_contract(exported: Export, io: str, put: str, get: str) -> None:
    code = snippet(exported(3, io=io).folder, "kotlin")
    assert put in code
    assert get in code
    assert "buffer(width * height * channels * 9)" in code
    assert "allocateDirect(values * 4)" in code if io == "float32" else "allocateDirect(values)" in code
