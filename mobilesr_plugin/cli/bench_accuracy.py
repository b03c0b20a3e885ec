"""``mobilesr bench accuracy``: PSNR of checkpoints and exported files, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mobilesr_plugin.cli.console import print_json, progress_bar
from mobilesr_plugin.cli.flags import AllThreads, Json, Kernels, OptionFile, Quiet
from mobilesr_plugin.errors import OptionError

FORMATS = (".md", ".json")


def accuracy(
    data: Annotated[list[Path], typer.Option(help="Folders of HR images; LR is made from them.")],
    model: Annotated[
        list[Path] | None, typer.Option(help=".pth, .onnx and .tflite files; bicubic is always compared.")
    ] = None,
    protocol: Annotated[
        list[str],
        typer.Option(help="rgb_crop1 (RGB, 1 pixel cropped) or y_crop_scale (Y, scale pixels cropped)."),
    ] = ["rgb_crop1"],  # noqa: B006  (typer needs a plain list)
    scale: Annotated[int | None, typer.Option(min=2, help="Upscaling factor. (default: the models')")] = None,
    kernels: Kernels = "xnnpack",
    ssim: Annotated[bool, typer.Option("--ssim", help="SSIM, as BasicSR computes it, beside PSNR.")] = False,
    out: Annotated[
        list[Path] | None,
        typer.Option(help="Write the tables (.md), or everything, each image too (.json); takes several."),
    ] = None,
    opt: OptionFile = None,
    threads: AllThreads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare models on folders of HR images: PSNR in dB, one table for each protocol.

    LR images are made on the fly (MATLAB's bicubic, rounded to uint8). --model, --data and --protocol
    take several values. An int8 checkpoint runs in integers, as on the device, and its float network
    gets a row of its own; `loss` is float minus int8, means over the sets.

    Examples:
    mobilesr bench accuracy --model net_g_latest.pth abpn_x3_int8.tflite --data Set5/HR Set14/HR
    mobilesr bench accuracy --model abpn_x3_int8.tflite --data Set5/HR --out accuracy.md accuracy.json
    """
    for path in out or []:
        if path.suffix not in FORMATS:
            raise OptionError(f"--out is {path}; its name must end in one of {', '.join(FORMATS)}")
    from mobilesr_plugin.bench.accuracy import evaluate
    from mobilesr_plugin.bench.accuracy_result import markdown, to_json
    from mobilesr_plugin.data.images import write_bytes
    from mobilesr_plugin.data.workers import default_workers

    with progress_bar("images") as update:
        result = evaluate(
            model or [],
            data,
            protocol,
            scale=scale,
            kernels=kernels,
            threads=threads or default_workers(),
            with_ssim=ssim,
            opt_path=opt,
            progress=update,
        )
    content = to_json(result)
    table = markdown(content)
    everything = json.dumps(content, indent=2, allow_nan=False) + "\n"
    for path in out or []:
        write_bytes(path, (table if path.suffix == ".md" else everything).encode())
    if as_json:
        print_json(content)
    else:
        typer.echo(table, nl=False)
