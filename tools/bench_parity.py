"""Every value of test sets, on the device's runtime and in validation, for many networks.

Run by ``make bench-parity DATA=...``. Prints a Markdown table; exit code 1 if one value differs. The
weights are seeded, not trained: parity must hold for any.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import mobilesr_plugin
from mobilesr_plugin.colour import rgb_to_ycbcr
from mobilesr_plugin.data.bicubic import downscale, mod_crop
from mobilesr_plugin.data.images import list_images, read_image
from mobilesr_plugin.export.onnx_file import write_onnx
from mobilesr_plugin.export.tflite_file import TensorFlowModel
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.options import KERNELS, QuantizationOptions
from mobilesr_plugin.quantization.calibrate import calibrate
from mobilesr_plugin.quantization.insert import insert_quantizers
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import TFLiteRunner
from mobilesr_plugin.verify.parity import compare, network_runner, to_tensor

CALIBRATION_IMAGES = 5

SRVGG = {"type": "SRVGGNetCompact", "num_feat": 64, "num_conv": 16}
ECBSR = {"type": "ECBSR", "num_in_ch": 1, "num_out_ch": 1, "num_block": 4, "num_channel": 16}
NETWORKS: dict[str, dict[str, Any]] = {
    **{f"ABPN x{scale}": {"type": "ABPN", "upscale": scale} for scale in (2, 3, 4)},
    **{
        f"SESR-{variant} x{scale}": {
            "type": "SESR",
            "variant": variant,
            "upscale": scale,
            "activation": "relu",
        }
        for variant in ("M5", "XL")
        for scale in (2, 4)
    },
    "SRVGGNetCompact x4, PReLU": {**SRVGG, "upscale": 4, "act_type": "prelu"},
    "ECBSR-M4C16 x2": {**ECBSR, "with_idt": False, "act_type": "prelu", "scale": 2},
    "MSRResNet x4": {"type": "MSRResNet", "num_feat": 32, "num_block": 4, "upscale": 4},
}


def main() -> None:
    """Compares all networks on all folders, on both sets of kernels."""
    parser = argparse.ArgumentParser(description="Parity of int8 files on folders of HR pictures.")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of HR pictures")
    parser.add_argument("--only", nargs="*", default=list(NETWORKS), help="names of networks")
    arguments = parser.parse_args()
    mobilesr_plugin.register()
    print(f"| network | values | {' | '.join(f'differing, {kernels}' for kernels in KERNELS)} |")
    print("|---|---:|" + "---:|" * len(KERNELS), flush=True)
    differing = 0
    for name in arguments.only:
        values, counts = _compare(NETWORKS[name], arguments.data)
        differing += sum(counts)
        print(f"| {name} | {values:,} | {' | '.join(f'{count:,}' for count in counts)} |", flush=True)
    sys.exit(f"{differing} values differ" if differing else None)


def _compare(network_g: dict[str, Any], folders: list[Path]) -> tuple[int, list[int]]:
    network, scale = _seeded(network_g), network_g.get("upscale") or network_g["scale"]
    luma = getattr(network, "num_in_ch", 3) == 1
    quantized = insert_quantizers(network, QuantizationOptions(observer="minmax"))
    first = [image for _, image in zip(range(CALIBRATION_IMAGES), _low(folders, scale, luma), strict=False)]
    calibrate(quantized, (to_tensor(image[None]) for image in first))
    graph = lower(quantized)
    with tempfile.TemporaryDirectory() as scratch:
        onnx = Path(scratch) / "ranges.onnx"
        write_onnx(graph, onnx, integer_weights=False, shifted_image=True)
        content = TensorFlowModel(onnx).int8_file()
    found = [
        compare(
            network_runner(IntegerNetwork(graph, kernels)),
            TFLiteRunner(content, kernels=kernels),
            _low(folders, scale, luma),
        )
        for kernels in KERNELS
    ]
    return found[0].pixels, [parity.mismatched for parity in found]


def _seeded(network_g: dict[str, Any]) -> nn.Module:
    """Builds a network whose activations neither vanish nor explode."""
    from basicsr.archs import build_network

    torch.manual_seed(0)
    network: nn.Module = build_network(dict(network_g)).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and network_g["type"] != "SESR":
            nn.init.normal_(module.weight, std=(1.6 / module.weight[0].numel()) ** 0.5)
    return network


def _low(folders: list[Path], scale: int, luma: bool) -> Iterator[np.ndarray]:
    """Yields LR pictures, (H, W, C) uint8."""
    for folder in folders:
        for path in list_images(folder):
            image = downscale(mod_crop(read_image(path), scale), scale)
            yield _luma(image) if luma else image


def _luma(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (H, W, 1) uint8 Y."""
    luma = rgb_to_ycbcr(to_tensor(image[None]))[0, :1]
    return torch.round(luma * 255).byte().permute(1, 2, 0).numpy()


if __name__ == "__main__":
    main()
