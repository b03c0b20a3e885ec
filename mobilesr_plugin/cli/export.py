"""``mobilesr export``: a checkpoint to verified device files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mobilesr_plugin.cli.console import print_json, say, stages, warn
from mobilesr_plugin.cli.flags import KERNEL_NAMES, Json, OptionFile, Quiet
from mobilesr_plugin.options import ExportOptions

STAGES = 5  # of pipeline.export


def export(
    ckpt: Annotated[Path, typer.Option(help="Checkpoint (.pth) of BasicSR or of QATSRModel.")],
    opt: OptionFile = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder. (default: export/ in the experiment's folder)")
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HxW ...",
            help="Sizes of int8 files for one size each. "
            "(default: 360x640; 1080x1920 for luma networks of scale 2)",
        ),
    ] = None,
    io: Annotated[
        str,
        typer.Option(
            metavar="TYPE",
            help="Type of the int8 files' ends: uint8, int8 or float32.",
            autocompletion=lambda: ["uint8", "int8", "float32"],
        ),
    ] = "uint8",
    calib: Annotated[
        Path | None, typer.Option(help="LR images (folder or LMDB) to calibrate a float checkpoint with.")
    ] = None,
    kernels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME ...",
            help=f"Kernels to verify the int8 files for: {', '.join(KERNEL_NAMES)}. (default: both)",
            autocompletion=lambda: list(KERNEL_NAMES),
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write int8 TFLite, float TFLite and ONNX files of a checkpoint, and verify them.

    The int8 files give, byte for byte, the pixels that int8 validation saw. A file that does not is
    kept beside a file named UNVERIFIED, and the exit code is 3.

    Examples:
    mobilesr-export --ckpt experiments/abpn_x3_qat/models/net_g_latest.pth
    mobilesr-export --ckpt net_g.pth --opt abpn_x3.yml --calib datasets/LR --size 360x640 720x1280
    """
    options = ExportOptions(
        sizes=tuple(size) if size else None,
        io=io,
        calib=str(calib) if calib else None,
        out=str(out) if out else None,
        **({"kernels": tuple(kernels)} if kernels else {}),
    )
    with stages(STAGES, "starting") as begin:
        from mobilesr_plugin.pipeline import export as run

        exported = run(ckpt, options, opt_path=opt, progress=begin)
    if as_json:
        print_json({"folder": str(exported.folder), **exported.report})
    parity = exported.report["parity"]
    for file in exported.report["files"]:
        notes = [
            f"{kernels}: {checked['mismatched']:,} of {checked['pixels']:,} values differ"
            for kernels, files in parity.items()
            if (checked := files.get(file["name"]))
        ]
        say(f"{exported.folder / file['name']}  {file['bytes']:,} bytes  {'; '.join(notes)}".rstrip())
    if exported.left_over:
        warn(f"not of this export, and not in its report: {', '.join(exported.left_over)}")
    say(f"{exported.folder / 'report.md'}  verified in {exported.report['seconds']} s")
