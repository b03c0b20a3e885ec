"""``mobilesr report``: one HTML page on an export."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from mobilesr_plugin.cli.console import print_json, progress_bar, say, warn
from mobilesr_plugin.cli.flags import AllThreads, Json, Quiet


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of an experiment or of an export.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The page. (default: report.html in the export's folder)")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Folders of HR images to measure on. (default: four photographs of the demo)"),
    ] = None,
    latency: Annotated[bool, typer.Option(help="Time the files on this machine.")] = True,
    threads: AllThreads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write one HTML page on an export: pictures, accuracy, parity, training, operators, latency, files.

    The page is a single file that fetches nothing. --data takes several folders.

    Examples:
    mobilesr report experiments/abpn_x3_qat
    mobilesr report experiments/abpn_x3_qat --data Set5/HR Set14/HR --out abpn_x3.html
    """
    from mobilesr_plugin.data.workers import default_workers
    from mobilesr_plugin.html_report.page import write_report

    with ExitStack() as shown:
        bars = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in bars:
                shown.close()  # the bar of what came before
                bars[what] = shown.enter_context(progress_bar(what))
            bars[what](done, total)

        path, subject = write_report(
            folder,
            out,
            data=data or (),
            latency=latency,
            threads=threads or default_workers(),
            progress=update,
        )
    size = path.stat().st_size
    if as_json:
        problems = list(subject.problems)
        curves = subject.log is not None
        print_json({"file": str(path), "bytes": size, "training_curves": curves, "problems": problems})
    if subject.problems:
        warn(f"the export in {subject.export} is marked UNVERIFIED: {subject.problems[0]}")
    if subject.log is None:
        warn("no tensorboard log was found; the page has no training curves")
    say(f"{path}  {size:,} bytes")
