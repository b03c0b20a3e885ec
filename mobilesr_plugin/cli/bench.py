"""``mobilesr bench``: measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mobilesr_plugin.cli.console import progress_bar
from mobilesr_plugin.options import parse_size

bench_app = typer.Typer(
    help="Measure exported files.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@bench_app.callback()
def _bench() -> None:
    """Measure exported files."""


@bench_app.command()
def latency(
    files: Annotated[
        list[Path], typer.Argument(help=".tflite and .onnx files; the first is the base of the ratios.")
    ],
    size: Annotated[str, typer.Option(help="HxW of the input image.")] = "360x640",
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 2,
    runs: Annotated[int, typer.Option(help="Rounds that count.")] = 21,
    kernels: Annotated[str, typer.Option(help="xnnpack or tflite_builtin.")] = "xnnpack",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time files alternately in one process: median, spread and ratio to the first.

    Example: mobilesr bench latency published.tflite export/abpn_x3_int8_360x640.tflite
    """
    from mobilesr_plugin.bench.latency import measure

    with progress_bar("rounds") as update:
        results = measure(
            files, size=parse_size(size), threads=threads, runs=runs, kernels=kernels, progress=update
        )
    if as_json:
        typer.echo(json.dumps([vars(result) for result in results], indent=2))
        return
    typer.echo(f"{size}, {threads} threads, {kernels}, median of {runs} alternating runs")
    typer.echo("| file | median ms | 10 % | 90 % | ratio |\n|---|---:|---:|---:|---:|")
    for result in results:
        times = " | ".join(f"{value:.1f}" for value in (result.median, result.low, result.high))
        typer.echo(f"| {result.file} | {times} | {result.ratio:.3f} |")
