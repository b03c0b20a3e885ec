"""docs/architectures.md: its worked example runs as it stands there, through to a verified int8 file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import networks  # registers the plugin
import pytest
import torch
import yaml
from basicsr.utils.registry import ARCH_REGISTRY
from test_docs import blocks, fences, shell, table, with_scripts

from mobilesr_plugin.archs import ABPN

PAGE = "docs/architectures.md"
pytestmark = pytest.mark.slow  # trains twice and exports
EXPORT = "experiments/demo_separable_x2_qat/export"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the files of the page were written and its commands were run, in its order."""
    folder = with_scripts(tmp_path_factory.mktemp("architecture"))
    for fence in fences():
        if fence.file != PAGE:
            continue
        if fence.title:
            (folder / fence.title).write_text(fence.text)
        elif fence.language == "bash":
            done = shell(f"set -e\n{fence.text}", folder)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
            (folder / "last_errors.txt").write_text(done.stderr)
    return folder


def test_the_example_ends_with_a_verified_file(example: Path) -> None:
    report = json.loads((example / EXPORT / "report.json").read_text())
    assert (example / EXPORT / "report.md").read_text().startswith("# separablenet_x2: verified\n")
    for kernels in ("xnnpack", "tflite_builtin"):
        compared = {name: each for name, each in report["parity"][kernels].items() if "_int8" in name}
        assert set(compared) == {f"separablenet_x2_int8{size}.tflite" for size in ("", "_270x480")}
        for each in compared.values():
            assert each["mismatched"] == 0
            assert each["pixels"] > 1_000_000
    shown = {operator: int(number) for operator, number, _ in table(PAGE, "| operator ")}
    counted = Counter(report["ops"]["separablenet_x2_int8.tflite"])
    assert {name: counted[name] for name in shown} == shown
    assert set(counted) - set(shown) <= {"QUANTIZE", "DEQUANTIZE"}


def test_the_second_export_names_what_the_first_one_left(example: Path) -> None:
    name = "separablenet_x2_int8_360x640.tflite"
    assert (example / EXPORT / name).exists()
    expected = f"not of this export, and not in its report: {name}\n"
    assert (example / "last_errors.txt").read_text().endswith(expected)


def test_the_file_gives_the_pixels_of_the_checkpoint(example: Path) -> None:
    """Once more from outside, on a validation picture, in a process that knows nothing of the export."""
    code = """
import sys
import numpy as np, torch
from PIL import Image
import mobilesr_plugin
mobilesr_plugin.register()
import separable_arch
from pathlib import Path
from mobilesr_plugin import checkpoint
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import TFLiteRunner, to_uint8

image = np.asarray(Image.open("datasets/demo/valid_LR_bicubic/X2/coffee.png").convert("RGB"))
restored = checkpoint.restore(Path("experiments/demo_separable_x2_qat/models/net_g_latest.pth"))
network = IntegerNetwork(lower(restored.quantized_network))
with torch.no_grad():
    result = network(torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255)
validated = to_uint8(result.permute(0, 2, 3, 1).numpy())
device = TFLiteRunner(Path(sys.argv[1]))(image[None])
different = np.count_nonzero(device != validated)
print(device.shape[1] / image.shape[0], device.dtype, different, device.std() > 10)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, f"{EXPORT}/separablenet_x2_int8.tflite"],
        cwd=example,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["2.0", "uint8", "0", "True"], done.stderr


def test_the_block_on_the_page_is_that_of_the_option_files(example: Path) -> None:
    (block,) = blocks(PAGE, "yaml")
    for name in ("separable_x2.yml", "separable_x2_qat.yml"):
        options = yaml.safe_load((example / name).read_text())
        assert options["network_g"] == yaml.safe_load(block)["network_g"]
        assert options["import"] == "separable_arch.py"


def test_sizes_of_abpn() -> None:
    assert networks and "ABPN" in ARCH_REGISTRY
    for scale, parameters in table(PAGE, "| scale "):
        network = ABPN(upscale=int(scale.removeprefix("x")))
        with torch.no_grad():
            assert network(torch.zeros(1, 3, 4, 5)).shape[2:] == (4 * network.upscale, 5 * network.upscale)
        assert f"{sum(weight.numel() for weight in network.parameters()):,}" == parameters
