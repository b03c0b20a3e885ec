"""``mobilesr bench``: measurements."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from mobilesr_plugin.cli.bench_accuracy import accuracy
from mobilesr_plugin.cli.bench_latency import latency
from mobilesr_plugin.cli.bench_nodes import nodes
from mobilesr_plugin.cli.bench_training import dataset, training
from mobilesr_plugin.cli.command import Command, new_group
from mobilesr_plugin.cli.console import print_json, progress_bar
from mobilesr_plugin.cli.flags import Json, Quiet, Threads

bench_app = new_group("Measure checkpoints and exported files.")
bench_app.command(cls=Command)(accuracy)
bench_app.command(cls=Command)(latency)
bench_app.command(cls=Command)(nodes)
bench_app.command(cls=Command)(training)
bench_app.command(cls=Command)(dataset)


@bench_app.command("training-step", cls=Command)
def training_step(
    variant: Annotated[str, typer.Option(help="SESR variant: M3, M5, M7, M11 or XL.")] = "M5",
    threads: Threads = 1,
    runs: Annotated[int, typer.Option(min=1, help="Rounds that count.")] = 5,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare SESR's training step, collapsed against expanded: time, memory, multiply-accumulates.

    Batch 32 of 64x64, both forms alternating in one process.

    Examples:
    mobilesr bench training-step --variant M5
    """
    import mobilesr_plugin

    mobilesr_plugin.register()
    from mobilesr_plugin.bench.training_step import measure

    with progress_bar("rounds") as update:
        result = measure(variant=variant, threads=threads, runs=runs, progress=update)
    if as_json:
        print_json(dataclasses.asdict(result))
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
