"""``mobilesr bench latency``: time and memory of checkpoints and exported files."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mobilesr_plugin.cli.console import print_json, progress_bar
from mobilesr_plugin.cli.flags import AllThreads, ImageSize, Json, Kernels, OptionFile, Quiet, Runs
from mobilesr_plugin.cpus import usable_cpus
from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.options import parse_size

if TYPE_CHECKING:
    from mobilesr_plugin.bench.latency import Latency
    from mobilesr_plugin.bench.npu import NpuEstimate
    from mobilesr_plugin.bench.per_operator import PerOperator


def latency(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help=".tflite, .onnx and .pth files; the first is the base of the ratios."
        ),
    ],
    size: ImageSize = "360x640",
    threads: AllThreads = None,
    runs: Runs = 21,
    kernels: Kernels = "xnnpack",
    per_op: Annotated[
        bool, typer.Option("--per-op", help="Time each operator of the .tflite files too.")
    ] = False,
    npu: Annotated[
        str | None,
        typer.Option(help="Estimate the .tflite files for an Arm NPU, such as ethos-u65-512, with Vela."),
    ] = None,
    opt: OptionFile = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Time files alternately in one process: median, spread, ratio to the first, peak memory.

    A checkpoint (.pth) is timed as its float network in PyTorch. Memory is measured in a fresh process
    for each file. For .tflite files the table says which operators XNNPACK took, and which it left.

    Examples:
    mobilesr bench latency published.tflite export/abpn_x3_int8_360x640.tflite
    mobilesr bench latency export/abpn_x3_int8_360x640.tflite --per-op --json
    """
    from mobilesr_plugin.bench.latency import measure

    threads = threads or usable_cpus()
    tflite = [path for path in files if path.suffix == ".tflite"]
    if (per_op or npu) and not tflite:
        raise OptionError("--per-op and --npu need a .tflite file; mobilesr-export writes it")
    if npu:
        from mobilesr_plugin.bench.npu import check_accelerator

        check_accelerator(npu)
    settings: dict[str, Any] = {
        "size": parse_size(size),
        "threads": threads,
        "runs": runs,
        "kernels": kernels,
    }
    with progress_bar("rounds") as update:
        results = measure(files, with_memory=True, opt_path=opt, progress=update, **settings)
    operators = _per_operator(tflite, settings) if per_op else {}
    estimates = _estimates(tflite, npu) if npu else {}
    if as_json:
        rows = [dataclasses.asdict(result) for result in results]
        for path, row in zip(files, rows, strict=True):
            if path in operators:
                row["per_operator"] = dataclasses.asdict(operators[path])
            if path in estimates:
                row["npu"] = dataclasses.asdict(estimates[path])
        print_json(rows)
        return
    typer.echo(f"{size}, {threads} threads, {kernels}, median of {runs} alternating runs")
    typer.echo(_files_table(results))
    for path, found in operators.items():
        typer.echo(f"\n{path.name}\n{_operators_table(found)}")
    if estimates:
        typer.echo(f"\n{_npu_table(estimates)}")


def _per_operator(files: Sequence[Path], settings: dict[str, Any]) -> dict[Path, PerOperator]:
    from mobilesr_plugin.bench.per_operator import measure

    found = {}
    for path in files:
        with progress_bar(f"{path.name}, cut after each operator") as update:
            found[path] = measure(path, progress=update, **settings)
    return found


def _estimates(files: Sequence[Path], accelerator: str) -> dict[Path, NpuEstimate]:
    from mobilesr_plugin.bench.npu import estimate

    found = {}
    with progress_bar("Vela") as update:
        for path in files:
            found[path] = estimate(path, accelerator)
            update(len(found), len(files))
    return found


def _files_table(results: Sequence[Latency]) -> str:
    lines = [
        "| file | median ms | 10 % | 90 % | ratio | peak MB | XNNPACK took | left to TFLite |",
        "|---|---:|---:|---:|---:|---:|---|---|",
    ]
    for result in results:
        name = f"{result.file} ({result.part})" if result.part else result.file
        times = " | ".join(f"{value:.1f}" for value in (result.median, result.low, result.high))
        peak = "" if result.peak_bytes is None else f"{result.peak_bytes / 1e6:.0f}"
        taken = f"{_counted(result.xnnpack)} | {_counted(result.builtin)}"
        lines.append(f"| {name} | {times} | {result.ratio:.3f} | {peak} | {taken} |")
    return "\n".join(lines)


def _operators_table(found: PerOperator) -> str:
    lines = ["| operator | output | kernels | ms | share |", "|---|---|---|---:|---:|"]
    for each in found.operators:
        shape = "x".join(map(str, each.shape[1:]))
        lines.append(
            f"| {each.kind} | {shape} | {each.kernels} | {each.milliseconds:.2f} | {100 * each.share:.1f} % |"
        )
    lines.append(f"| sum | | | {found.total:.2f} | {100 * found.total / found.whole:.1f} % |")
    lines.append(f"| the whole file | | | {found.whole:.2f} | 100 % |")
    if found.bare_convolutions is not None:
        share = 100 * found.bare_convolutions / found.whole
        lines.append(f"| its convolutions alone | | | {found.bare_convolutions:.2f} | {share:.1f} % |")
        lines.append(f"| the whole / its convolutions | | | {found.ratio:.3f} | |")
    return "\n".join(lines)


def _npu_table(estimates: dict[Path, NpuEstimate]) -> str:
    lines = [
        "| file | NPU, as Vela sees it | ms | million cycles | MHz | SRAM, kB | DRAM, kB | left to the CPU |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for path, each in estimates.items():
        figures = (
            f"{each.milliseconds:.2f} | {each.cycles / 1e6:.2f} | {each.megahertz:.0f} | "
            f"{each.sram_bytes / 1e3:.0f} | {each.dram_bytes / 1e3:.0f}"
        )
        where = f"{each.accelerator} ({each.system})"
        lines.append(f"| {path.name} | {where} | {figures} | {_counted(each.cpu_operators)} |")
    reasons = {f"- {path.name}: {reason}" for path, each in estimates.items() for reason in each.reasons}
    return "\n".join([*lines, *(["", *sorted(reasons)] if reasons else [])])


def _counted(operators: Sequence[str] | None) -> str:
    counts = Counter(operators or ())
    return ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in counts.items())
