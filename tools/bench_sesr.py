"""Size, latency and parity of every SESR variant's int8 file (x2, luma); prints a Markdown table.

Run by ``make bench-sesr``. The weights are seeded, not trained: size and latency do not depend on them,
and parity must hold for any.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import fx

import mobilesr_plugin
from mobilesr_plugin.bench.latency import measure
from mobilesr_plugin.colour import rgb_to_ycbcr
from mobilesr_plugin.data.bicubic import downscale
from mobilesr_plugin.data.images import list_images, read_image
from mobilesr_plugin.data.samples import sample_images
from mobilesr_plugin.export.onnx_file import write_onnx
from mobilesr_plugin.export.tflite_file import TensorFlowModel
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.graph.ops import Graph
from mobilesr_plugin.options import QuantizationOptions
from mobilesr_plugin.quantization.calibrate import calibrate
from mobilesr_plugin.quantization.insert import insert_quantizers
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import TFLiteRunner
from mobilesr_plugin.verify.parity import Parity, compare, network_runner, to_tensor

SIZE = (1080, 1920)
SCALE = 2
RUNS = 15


def main() -> None:
    """Measures all variants in one process, alternating."""
    parser = argparse.ArgumentParser(description="Measures the int8 files of all SESR variants at x2.")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders of HR pictures for parity")
    folders = parser.parse_args().data
    mobilesr_plugin.register()
    from mobilesr_plugin.archs.sesr_arch import VARIANTS

    with tempfile.TemporaryDirectory() as scratch:
        files, parities = [], []
        for variant in VARIANTS:
            graph = _quantized(variant)
            files.append(Path(scratch) / f"sesr_{variant.lower()}_x{SCALE}_int8_1080x1920.tflite")
            onnx = Path(scratch) / "ranges.onnx"
            write_onnx(graph, onnx, integer_weights=False, shifted_image=True)
            model = TensorFlowModel(onnx)
            files[-1].write_bytes(model.int8_file(size=SIZE))
            parities.append([_parity(graph, model.int8_file(), folder) for folder in folders])
        latencies = measure(files, size=SIZE, runs=RUNS)
        _print(list(VARIANTS), files, latencies, parities, [_name(folder) for folder in folders])


def _quantized(variant: str) -> Graph:
    from mobilesr_plugin.archs.sesr_arch import SESR

    torch.manual_seed(0)
    network = SESR(1, variant=variant, upscale=SCALE, activation="relu").eval()
    quantized: fx.GraphModule = insert_quantizers(network, QuantizationOptions())
    calibrate(quantized, (to_tensor(_luma(image)[None]) for image in sample_images().values()))
    return lower(quantized)


def _luma(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (H, W, 1) uint8 Y."""
    luma = rgb_to_ycbcr(to_tensor(image[None]))[0, :1]
    return torch.round(luma * 255).byte().permute(1, 2, 0).numpy()


def _parity(graph: Graph, content: bytes, folder: Path) -> Parity:
    pictures = (_luma(downscale(read_image(path), SCALE)) for path in list_images(folder))
    return compare(network_runner(IntegerNetwork(graph)), TFLiteRunner(content), pictures)


def _name(folder: Path) -> str:
    return folder.parent.name if folder.name == "HR" else folder.name


def _print(variants: list, files: list, latencies: list, parities: list, sets: list[str]) -> None:
    print(f"int8, x{SCALE}, input {SIZE[0]}x{SIZE[1]}, 2 threads, XNNPACK, median of {RUNS} alternating runs")
    head = [
        "variant",
        "bytes",
        "median ms",
        "10 %",
        "90 %",
        "ratio to M3",
        *(f"differing in {name}" for name in sets),
    ]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for variant, file, latency, parity in zip(variants, files, latencies, parities, strict=True):
        times = [f"{value:.1f}" for value in (latency.median, latency.low, latency.high)]
        counts = [f"{found.mismatched} of {found.pixels:,}" for found in parity]
        row = [variant, f"{file.stat().st_size:,}", *times, f"{latency.ratio:.2f}", *counts]
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
