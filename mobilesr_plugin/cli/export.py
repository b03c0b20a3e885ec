"""``mobilesr export``: a checkpoint to verified device files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mobilesr_plugin.cli.console import status
from mobilesr_plugin.options import ExportOptions


def export(
    ckpt: Annotated[Path, typer.Option(help="Checkpoint (.pth) of BasicSR or of QATSRModel.")],
    opt: Annotated[
        Path | None, typer.Option(help="Option file, if the checkpoint does not describe itself.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; default: export/ in the experiment's folder.")
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="HxW of a fixed-size int8 file; may be repeated. "
            "(default: 360x640; 1080x1920 for luma networks of scale 2)"
        ),
    ] = None,
    io: Annotated[str, typer.Option(help="Type of the int8 files' ends: uint8, int8 or float32.")] = "uint8",
    calib: Annotated[
        Path | None, typer.Option(help="LR images (folder or LMDB) to calibrate a float checkpoint with.")
    ] = None,
    kernels: Annotated[
        list[str] | None,
        typer.Option(
            help="Kernels to verify the int8 files for: xnnpack, tflite_builtin; may be repeated. "
            "(default: both)"
        ),
    ] = None,
) -> None:
    """Write int8 TFLite, float TFLite and ONNX files of a checkpoint, and verify them.

    The int8 files give, byte for byte, the pixels that int8 validation saw. A file that does not is
    kept beside a file named UNVERIFIED, and the exit code is 3.

    Example: mobilesr-export --ckpt experiments/abpn_x3_qat/models/net_g_latest.pth
    """
    options = ExportOptions(
        sizes=tuple(size) if size else None,
        io=io,
        calib=str(calib) if calib else None,
        out=str(out) if out else None,
        **({"kernels": tuple(kernels)} if kernels else {}),
    )
    with status("starting") as update:
        from mobilesr_plugin.pipeline import export as run

        exported = run(ckpt, options, opt_path=opt, progress=update)
    parity = exported.report["parity"]
    for file in exported.report["files"]:
        notes = [
            f"{kernels}: {checked['mismatched']:,} of {checked['pixels']:,} values differ"
            for kernels, files in parity.items()
            if (checked := files.get(file["name"]))
        ]
        typer.echo(f"{exported.folder / file['name']}  {file['bytes']:,} bytes  {'; '.join(notes)}".rstrip())
    typer.echo(f"{exported.folder / 'report.md'}  verified in {exported.report['seconds']} s")
