"""``mobilesr data``: make data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mobilesr_plugin.cli.console import progress_bar

if TYPE_CHECKING:
    from mobilesr_plugin.data.plan import Prepared

data_app = typer.Typer(
    help="Make data sets in BasicSR's layout: a small demo set, or your own pictures.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@data_app.command("demo")
def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("datasets/demo"),
    scale: Annotated[
        list[int], typer.Option("--scale", help="Factor of an LR set; may be given more than once.")
    ] = [2, 3, 4],  # noqa: B006  (typer needs a plain list)
) -> None:
    """Make a small real data set from the photographs inside scikit-image; nothing is downloaded.

    Writes OUT/train_HR_sub.lmdb and OUT/train_LR_bicubic_X3_sub.lmdb for training, OUT/valid_HR and
    OUT/valid_LR_bicubic/X3 for validation (and the other scales). What is complete is left as it is.
    """
    from mobilesr_plugin.data.demo import make_demo

    with progress_bar("demo set") as progress:
        results = make_demo(out, scales=scale, progress=progress)
    for result in results:
        _summarize(result)


@data_app.command("prepare")
def prepare_command(
    hr: Annotated[Path, typer.Option(help="Folder of HR pictures (PNG, JPEG, BMP, TIFF, WebP).")],
    out: Annotated[Path, typer.Option(help="Folder for the result, e.g. datasets/DIV2K.")],
    scale: Annotated[
        list[int], typer.Option("--scale", help="Factor of an LR set; may be given more than once.")
    ],
    kind: Annotated[
        str,
        typer.Option("--as", help="What the set is for: train, valid or benchmark.", metavar="KIND"),
    ] = "train",
    name: Annotated[
        str | None,
        typer.Option(
            help="Start of the names (train, valid). (default: OUT's own name with _train or _valid)"
        ),
    ] = None,
    crop_size: Annotated[int, typer.Option(help="Side of an HR tile (train).")] = 480,
    step: Annotated[int, typer.Option(help="Distance of neighbouring HR tiles (train).")] = 240,
    min_side: Annotated[
        int,
        typer.Option(
            help="Pictures with a shorter side are left out; shorter than --crop-size, kept (train)."
        ),
    ] = 256,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes. (default: the number of CPUs)")
    ] = None,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave unreadable pictures out, and list them at the end.")
    ] = False,
) -> None:
    r"""Make bicubic LR pictures and BasicSR data sets from a folder of HR pictures.

    A run that was stopped goes on where it was; what is complete is left as it is. The HR set serves every
    scale: run again with another --scale, and only LR is made.

    \b
    --as train      OUT/NAME_HR_sub.lmdb, OUT/NAME_LR_bicubic_X3_sub.lmdb   (tiles)
    --as valid      OUT/NAME_HR/, OUT/NAME_LR_bicubic/X3/                   (whole pictures, PNG)
    --as benchmark  OUT/GTmod12/, OUT/LRbicx3/                              (whole pictures, PNG)

    \b
    mobilesr data prepare --hr DIV2K_train_HR --scale 3 --out datasets/DIV2K
    mobilesr data prepare --hr DIV2K_valid_HR --scale 3 --out datasets/DIV2K --as valid
    mobilesr data prepare --hr Set5/HR --scale 3 --out datasets/Set5 --as benchmark
    """
    from mobilesr_plugin.data.prepare import Kind, prepare

    if kind not in {member.value for member in Kind}:
        raise typer.BadParameter(f"{kind!r} is not one of train, valid, benchmark", param_hint="--as")
    with progress_bar(kind) as progress:
        result = prepare(
            hr,
            out,
            Kind(kind),
            scales=scale,
            name=name,
            crop_size=crop_size,
            step=step,
            min_side=min_side,
            workers=workers,
            skip_corrupt=skip_corrupt,
            progress=progress,
        )
    _summarize(result)


def _summarize(result: Prepared) -> None:
    for output in result.outputs:
        state = "made" if output.made else "complete already"
        typer.echo(f"{output.path}: {output.images} images, {state}")
    for error in result.skipped:
        typer.echo(f"skipped: {error}", err=True)
    for path in result.too_small:
        typer.echo(f"left out, too small: {path}", err=True)
