"""``mobilesr bench``: measurements."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from mobilesr_plugin.cli.bench_accuracy import accuracy
from mobilesr_plugin.cli.bench_latency import latency
from mobilesr_plugin.cli.bench_nodes import nodes
from mobilesr_plugin.cli.console import progress_bar
from mobilesr_plugin.cli.many_values import ManyValues

bench_app = typer.Typer(
    help="Measure checkpoints and exported files.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@bench_app.callback()
def _bench() -> None:
    """Measure checkpoints and exported files."""


bench_app.command(cls=ManyValues)(accuracy)
bench_app.command()(latency)
bench_app.command(cls=ManyValues)(nodes)


@bench_app.command("training-step")
def training_step(
    variant: Annotated[str, typer.Option(help="SESR variant: M3, M5, M7, M11 or XL.")] = "M5",
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Rounds that count.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare SESR's training step, collapsed against expanded: time, memory, multiply-accumulates.

    Batch 32 of 64x64, both forms alternating in one process.

    Example: mobilesr bench training-step --variant M5
    """
    import mobilesr_plugin

    mobilesr_plugin.register()
    from mobilesr_plugin.bench.training_step import measure

    with progress_bar("rounds") as update:
        result = measure(variant=variant, threads=threads, runs=runs, progress=update)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(result), indent=2))
        return
    typer.echo(
        f"SESR-{variant} x2, batch 32 of 64x64, {threads} thread(s), median of {runs} alternating runs"
    )
    typer.echo("| form | step, ms | peak memory, MB | forward MACs, G |\n|---|---:|---:|---:|")
    for cost in (result.expanded, result.collapsed):
        figures = f"{cost.median:.0f} | {cost.peak_bytes / 1e6:.0f} | {cost.forward_macs / 1e9:.2f}"
        typer.echo(f"| {cost.linear_block} | {figures} |")
    ratios = f"{result.time_ratio:.1f} | {result.memory_ratio:.1f} | {result.mac_ratio:.1f}"
    typer.echo(f"| expanded / collapsed | {ratios} |")
