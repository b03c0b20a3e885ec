"""The published ABPN x3, imported: the float figures, the quantized ones, and parity on all pictures.

Needs the photographs and weights in ../shared; skipped where they are absent.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import ABPN, tensor

from mobilesr_plugin.bench.metrics import PROTOCOLS, psnr
from mobilesr_plugin.data.bicubic import downscale, mod_crop
from mobilesr_plugin.data.images import list_images, read_image
from mobilesr_plugin.export.onnx_file import write_onnx
from mobilesr_plugin.export.tflite_file import TensorFlowModel
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.graph.ops import Graph
from mobilesr_plugin.options import QuantizationOptions
from mobilesr_plugin.quantization.calibrate import calibrate
from mobilesr_plugin.quantization.insert import insert_quantizers
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import TFLiteRunner
from mobilesr_plugin.verify.parity import network_runner

SCALE = 3
# PSNR in dB as (rgb_crop1, y_crop_scale): the float network; then the published PTQ file, rgb_crop1.
FLOAT = {
    "Set5": (31.529, 33.539),
    "Set14": (27.682, 29.771),
    "DIV2K_valid_crop256": (28.701, 30.244),
    "Urban100_first20": (24.941, 26.418),
}
PUBLISHED_PTQ = {
    "Set5": 31.383,
    "Set14": 27.620,
    "DIV2K_valid_crop256": 28.575,
    "Urban100_first20": 24.903,
}

Pairs = dict[str, list[tuple[np.ndarray, np.ndarray]]]


@pytest.fixture(scope="module")
def pairs(shared_data: Path) -> Pairs:
    """(HR, LR) pictures of the four sets."""
    found = {}
    for name in FLOAT:
        pictures = [mod_crop(read_image(path), SCALE) for path in list_images(shared_data / name / "HR")]
        found[name] = [(picture, downscale(picture, SCALE)) for picture in pictures]
    return found


@pytest.fixture(scope="module")
def published(shared_data: Path) -> ABPN:
    """ABPN x3 with the published float weights, which are HWIO and for images in 0..255."""
    stored = np.load(shared_data.parent / "reference" / "abpn_x3_published_fp32.npz")
    network = ABPN(3, upscale=SCALE)
    convolutions = [network.conv_first, *network.body, network.conv_up, network.conv_last]
    colour_major = np.arange(27).reshape(9, 3).T.reshape(-1)  # its depth-to-space is TensorFlow's
    for index, conv in enumerate(convolutions):
        weight = stored[f"conv{index}.kernel_hwio"].transpose(3, 2, 0, 1)
        bias = stored[f"conv{index}.bias"] / 255
        if conv is network.conv_last:
            weight, bias = weight[colour_major], bias[colour_major]
        conv.weight.data = torch.from_numpy(np.ascontiguousarray(weight))
        conv.bias.data = torch.from_numpy(bias.astype(np.float32))
    return network.eval()


@pytest.fixture(scope="module")
def quantized(published: ABPN, shared_data: Path) -> Graph:
    """Post-training quantization with 100 training tiles, and default options."""
    tiles = list_images(shared_data / "train_photos_480")
    chosen = tiles[:: len(tiles) // 100][:100]
    network = insert_quantizers(published, QuantizationOptions())
    calibrate(network, (tensor(downscale(read_image(path), SCALE)) for path in chosen))
    return lower(network)


def mean_psnr(run: object, pairs: Pairs, name: str, protocol: str) -> float:
    scores = [psnr(run(lr[None])[0], hr, PROTOCOLS[protocol], SCALE) for hr, lr in pairs[name]]
    return float(np.mean(scores))


@pytest.mark.parametrize(
    "name", [name if name == "Set5" else pytest.param(name, marks=pytest.mark.slow) for name in FLOAT]
)
def test_float_reproduces_the_published_figures(published: ABPN, pairs: Pairs, name: str) -> None:
    run = network_runner(published)
    for protocol, expected in zip(("rgb_crop1", "y_crop_scale"), FLOAT[name], strict=True):
        assert mean_psnr(run, pairs, name, protocol) == pytest.approx(expected, abs=0.002)


@pytest.mark.slow
def test_post_training_quantization_beats_the_published_file(quantized: Graph, pairs: Pairs) -> None:
    run = network_runner(IntegerNetwork(quantized))
    reached = {name: mean_psnr(run, pairs, name, "rgb_crop1") for name in PUBLISHED_PTQ}
    assert np.mean(list(reached.values())) >= 28.120
    for name, published in PUBLISHED_PTQ.items():
        assert reached[name] >= published - 0.02, name


@pytest.mark.slow
def test_the_device_equals_validation_on_every_picture(
    quantized: Graph, pairs: Pairs, tmp_path: Path
) -> None:
    write_onnx(quantized, tmp_path / "ranges.onnx", integer_weights=False)
    device = TFLiteRunner(TensorFlowModel(tmp_path / "ranges.onnx").int8_file())
    validation = network_runner(IntegerNetwork(quantized))
    compared = 0
    for name, pictures in pairs.items():
        for _, lr in pictures:
            expected = validation(lr[None])
            assert np.array_equal(device(lr[None]), expected), name
            compared += expected.size
    assert compared == 78_886_467
