"""``mobilesr bench accuracy``: PSNR of checkpoints and exported files, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mobilesr_plugin.cli.console import progress_bar


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
    kernels: Annotated[
        str, typer.Option(help="Arithmetic of int8 checkpoints and .tflite files: xnnpack or tflite_builtin.")
    ] = "xnnpack",
    ssim: Annotated[bool, typer.Option("--ssim", help="SSIM, as BasicSR computes it, beside PSNR.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything, each image too, to this file.")
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="Write the tables to this file.")
    ] = None,
    opt: Annotated[
        Path | None, typer.Option(help="Option file of checkpoints that do not describe themselves.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads. (default: the number of CPUs)")
    ] = None,
) -> None:
    """Compare models on folders of HR images: PSNR in dB, one table for each protocol.

    LR images are made on the fly (MATLAB's bicubic, rounded to uint8). --model, --data and --protocol
    take several values. An int8 checkpoint runs in integers, as on the device, and its float network
    gets a row of its own; `loss` is float minus int8, means over the sets.

    Example: mobilesr bench accuracy --model net_g_latest.pth abpn_x3_int8.tflite --data Set5/HR Set14/HR
    """
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
    typer.echo(table, nl=False)
    if json_file:
        write_bytes(json_file, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    if markdown_file:
        write_bytes(markdown_file, table.encode())
