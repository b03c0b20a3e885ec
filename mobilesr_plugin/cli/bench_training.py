"""``mobilesr bench training`` and ``mobilesr bench dataset``: how fast training and its data are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from mobilesr_plugin.cli.console import print_json, progress_bar
from mobilesr_plugin.cli.flags import Json, Quiet, Threads
from mobilesr_plugin.errors import OptionError

SETTINGS = (
    *("stock", "float32", "qat-float32", "compiled", "qat-compiled", "bfloat16", "qat-bfloat16"),
    *("fast", "qat-fast"),
)

HR = Annotated[Path, typer.Option(help="HR images: a folder or an LMDB.")]
LR = Annotated[Path, typer.Option(help="LR images: a folder or an LMDB.")]
Scale = Annotated[int, typer.Option(help="Factor between the two.")]
Batch = Annotated[int, typer.Option(min=1, help="Patches in a batch.")]
Patch = Annotated[int, typer.Option(min=1, help="Side of an LR patch.")]
Rounds = Annotated[int, typer.Option(help="Rounds; the median over them counts.")]


def training(
    gt: HR,
    lq: LR,
    scale: Scale = 3,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME ...",
            help=f"Ways to train, of {', '.join(SETTINGS)}; the first is what others are compared with. "
            "(default: stock fast qat-fast)",
        ),
    ] = None,
    iterations: Annotated[int, typer.Option(help="Iterations that count, after the warm-up.")] = 100,
    warm_up: Annotated[int, typer.Option(help="Iterations before them; compilation is among these.")] = 20,
    runs: Rounds = 3,
    batch: Batch = 16,
    patch: Patch = 64,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes of stock BasicSR's loader.")] = 2,
    gpu: Annotated[bool, typer.Option("--gpu", help="Train on a GPU.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Time BasicSR's train.py with ABPN: stock, and with what this plugin adds.

    Each way runs in a process of its own, in turn; iterations per second come from BasicSR's log. Memory is
    the most that a process and its workers held at once, without pages of mapped files.

    Examples:
    mobilesr bench training --gt train_HR_sub.lmdb --lq train_LR_bicubic_X3_sub.lmdb
    """
    from mobilesr_plugin.bench import training_speed

    names = setting or ["stock", "fast", "qat-fast"]
    for name in names:
        if name not in training_speed.SETTINGS:
            raise OptionError(f"--setting is {name}; it must be one of {', '.join(SETTINGS)}")
    with progress_bar("trainings", unit="") as update:
        results = training_speed.measure(
            gt,
            lq,
            network={"type": "ABPN", "upscale": scale},
            scale=scale,
            settings=[training_speed.SETTINGS[name] for name in names],
            iterations=iterations,
            warm_up=warm_up,
            runs=runs,
            batch=batch,
            gt_size=patch * scale,
            workers=workers,
            num_gpu=int(gpu),
            progress=update,
        )
    if as_json:
        print_json([dataclasses.asdict(result) for result in results])
        return
    typer.echo(
        f"ABPN x{scale}, batch {batch} of {patch}x{patch}, median of {runs} alternating runs of {iterations} "
        "iterations"
    )
    typer.echo("| training | iterations/s | ratio | peak memory, MB |\n|---|---:|---:|---:|")
    for found in results:
        peak = "" if found.peak_bytes is None else f"{found.peak_bytes / 1e6:.0f}"
        typer.echo(f"| {found.name} | {found.iterations_per_second:.2f} | {found.ratio:.2f} | {peak} |")


def dataset(
    gt: HR,
    lq: LR,
    scale: Scale = 3,
    batch: Batch = 16,
    patch: Patch = 64,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes of the loader.")] = 0,
    threads: Threads = 1,
    runs: Rounds = 5,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Time the training data alone: BasicSR's PairedImageDataset against CachedPairedDataset.

    Random patches with flips and transpositions, through BasicSR's loader, up to float32 tensors on the
    processor; all kinds alternate in one process.

    Examples:
    mobilesr bench dataset --gt train_HR_sub.lmdb --lq train_LR_bicubic_X3_sub.lmdb
    """
    import mobilesr_plugin

    mobilesr_plugin.register()
    from mobilesr_plugin.bench.dataset_speed import measure

    with progress_bar("rounds") as update:
        results = measure(
            gt,
            lq,
            scale=scale,
            gt_size=patch * scale,
            batch=batch,
            workers=workers,
            runs=runs,
            threads=threads,
            progress=update,
        )
    if as_json:
        print_json([dataclasses.asdict(result) for result in results])
        return
    typer.echo(f"x{scale}, patches of {patch}x{patch}, {workers} workers, median of {runs} alternating runs")
    typer.echo("| data set | samples/s | ratio |\n|---|---:|---:|")
    for found in results:
        typer.echo(f"| {found.kind} | {found.samples_per_second:.0f} | {found.ratio:.1f} |")
