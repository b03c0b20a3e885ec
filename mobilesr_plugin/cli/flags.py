"""Options that several commands share, so that they are spelt and explained alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

KERNEL_NAMES = ("xnnpack", "tflite_builtin")

Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress and no remarks: only errors and what was asked for."),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document to standard output, and nothing else.")
]
Threads = Annotated[int, typer.Option(min=1, help="Processor threads.")]
AllThreads = Annotated[
    int | None, typer.Option(min=1, help="Processor threads. (default: the number of CPUs)")
]
Kernels = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"Arithmetic of int8 checkpoints and .tflite files: {' or '.join(KERNEL_NAMES)}.",
        autocompletion=lambda: list(KERNEL_NAMES),
    ),
]
OptionFile = Annotated[
    Path | None,
    typer.Option(
        "--opt",
        metavar="YAML",
        help="Option file of a checkpoint that does not describe itself, or of a network of your own.",
    ),
]
ImageSize = Annotated[str, typer.Option(metavar="HxW", help="Height and width of the input image.")]
Runs = Annotated[int, typer.Option(help="Rounds that count.")]
