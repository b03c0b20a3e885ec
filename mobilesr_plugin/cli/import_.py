"""``mobilesr import``: another project's checkpoint as one of ours."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from mobilesr_plugin.cli.console import print_json, say, stages
from mobilesr_plugin.cli.flags import Json, Quiet
from mobilesr_plugin.importers.formats import FORMATS

STAGES = 2  # of import_checkpoint
_DESCRIBED = ("num_feat", "num_block", "num_conv", "variant", "activation", "act_type")


def import_command(
    format: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="; ".join(f"{name}: {row.source}" for name, row in FORMATS.items()) + ".",
            autocompletion=lambda: list(FORMATS),
        ),
    ],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The checkpoint: a folder, prefix or file.")],
    out: Annotated[Path, typer.Option(help="The .pth to write; one that is there is replaced.")],
    act_type: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="relu or leakyrelu, for srvgg without slopes: both have no weights to tell by.",
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn another project's checkpoint into a .pth for training and export.

    The imported network runs beside the original on sample images. A difference of more than one step of
    1/255 is an error, exit code 3, and nothing is written.

    Examples:
    mobilesr import tf-abpn experiment/base7_D4C28_bs16ps64_lr1e-3/best_status --out abpn_x3.pth
    mobilesr import srvgg realesr-animevideov3.pth --out srvgg_x4.pth
    """
    if format not in FORMATS:
        raise typer.BadParameter(f"{format!r} is not one of {', '.join(FORMATS)}", param_hint="FORMAT")
    with stages(STAGES, "starting") as begin:
        from mobilesr_plugin.importers.importing import import_checkpoint

        imported = import_checkpoint(format, source, out, act_type=act_type, progress=begin)
    network_g = imported.network_g
    if as_json:
        print_json(
            {
                "file": str(imported.path),
                "network_g": network_g,
                "weights": imported.num_weights,
                "verified_against": imported.judged_by,
                "largest_difference": imported.steps,  # in steps of 1/255
                "psnr": imported.psnr if math.isfinite(imported.psnr) else None,
                "notes": list(imported.notes),
            }
        )
    details = ", ".join(f"{key} {network_g[key]}" for key in _DESCRIBED if key in network_g)
    say(
        f"{imported.path}  {network_g['type']} x{network_g['upscale']}, {details}; "
        f"{imported.num_weights:,} weights"
    )
    for note in imported.notes:
        say(f"note: {note}")
    say(
        f"verified against {imported.judged_by}: largest difference {imported.steps:.2g} of 1/255, "
        f"PSNR {imported.psnr:.1f} dB"
    )
