"""``mobilesr bench nodes``: int8 latency of single operators and of the kinds of residual."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mobilesr_plugin.cli.console import print_json, progress_bar
from mobilesr_plugin.cli.flags import AllThreads, ImageSize, Json, Quiet, Runs
from mobilesr_plugin.cpus import usable_cpus
from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.options import parse_size

FORMATS = (".md", ".json", ".png", ".svg")


def nodes(
    size: ImageSize = "360x640",
    channels: Annotated[
        int, typer.Option(help="Channels of the hidden layers, a multiple of 4. (ABPN: 28)")
    ] = 28,
    scale: Annotated[int, typer.Option(help="Upscaling factor.")] = 3,
    threads: AllThreads = None,
    runs: Runs = 21,
    out: Annotated[
        list[Path] | None,
        typer.Option(help="Write the tables (.md, .json) or the plot (.png, .svg); takes several."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Time each candidate for a network's graph in int8, to choose an architecture for a device.

    After the meta-node study of the ABPN paper: single operators, then whole networks with each kind of
    residual. All are built with TensorFlow and run alternately in one process, on this machine.

    Examples:
    mobilesr bench nodes --size 360x640 --out nodes.md nodes.png
    """
    for path in out or []:
        if path.suffix not in FORMATS:
            raise OptionError(f"--out is {path}; its name must end in one of {', '.join(FORMATS)}")
    from mobilesr_plugin.bench import nodes_result
    from mobilesr_plugin.bench.nodes import measure
    from mobilesr_plugin.data.images import write_bytes
    from mobilesr_plugin.versions import versions

    threads = threads or usable_cpus()
    height, width = parse_size(size)
    with progress_bar("candidates and rounds") as update:
        results = measure(
            size=(height, width), channels=channels, scale=scale, threads=threads, runs=runs, progress=update
        )
    settings = {
        "size": [height, width],
        "channels": channels,
        "scale": scale,
        "threads": threads,
        "runs": runs,
    }
    content = nodes_result.to_json(results, {**settings, "versions": versions()})
    title = f"int8 latency, {size}, {channels} channels, x{scale}, {threads} threads, median of {runs} runs"
    table = f"{title}\n\n{nodes_result.markdown(results)}"
    for path in out or []:
        match path.suffix:
            case ".md":
                data = table.encode()
            case ".json":
                data = (json.dumps(content, indent=2) + "\n").encode()
            case ".png":
                data = nodes_result.png(results, title)
            case _:
                data = nodes_result.svg(results, title)
        write_bytes(path, data)
    if as_json:
        print_json(content)
    else:
        typer.echo(table, nl=False)
