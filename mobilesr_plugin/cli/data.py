"""``mobilesr data``: make data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mobilesr_plugin.cli.command import Command, new_group
from mobilesr_plugin.cli.console import print_json, progress_bar, say, warn
from mobilesr_plugin.cli.flags import Json, Quiet

if TYPE_CHECKING:
    from mobilesr_plugin.data.plan import Prepared

data_app = new_group(
    "Make data sets in BasicSR's layout, a small demo set or your own pictures, and write out option files."
)


@data_app.command("demo", cls=Command)
def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("datasets/demo"),
    scale: Annotated[list[int], typer.Option("--scale", help="Factors of the LR sets.")] = [2, 3, 4],  # noqa: B006  (typer needs a plain list)
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a small real data set from the photographs inside scikit-image; nothing is downloaded.

    Writes OUT/train_HR_sub.lmdb and OUT/train_LR_bicubic_X3_sub.lmdb for training, OUT/valid_HR and
    OUT/valid_LR_bicubic/X3 for validation (and the other scales). What is complete is left as it is.

    Examples:
    mobilesr data demo
    mobilesr data demo --out datasets/demo --scale 3
    """
    from mobilesr_plugin.data.demo import make_demo

    with progress_bar("demo set") as progress:
        results = make_demo(out, scales=scale, progress=progress)
    _tell(list(results), as_json)


@data_app.command("prepare", cls=Command)
def prepare_command(
    hr: Annotated[Path, typer.Option(help="Folder of HR pictures (PNG, JPEG, BMP, TIFF, WebP).")],
    out: Annotated[Path, typer.Option(help="Folder for the result, e.g. datasets/DIV2K.")],
    scale: Annotated[list[int], typer.Option("--scale", help="Factors of the LR sets.")],
    kind: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="KIND",
            help="What the set is for: train, valid or benchmark.",
            autocompletion=lambda: ["train", "valid", "benchmark"],
        ),
    ] = "train",
    name: Annotated[
        str | None,
        typer.Option(
            help="Start of the names (train, valid). (default: OUT's own name with _train or _valid)"
        ),
    ] = None,
    crop_size: Annotated[
        int | None,
        typer.Option(help="Cut HR into tiles of this side, such as 480 (train). (default: whole pictures)"),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(help="Distance of neighbouring HR tiles (train). (default: half of --crop-size)"),
    ] = None,
    min_side: Annotated[
        int,
        typer.Option(help="Pictures with a shorter side are left out; --crop-size is always enough (train)."),
    ] = 256,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes. (default: the number of CPUs)")
    ] = None,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave unreadable pictures out, and list them at the end.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make bicubic LR pictures and BasicSR data sets from a folder of HR pictures.

    A run that was stopped goes on where it was; what is complete is left as it is. The HR set serves every
    scale: run again with another --scale, and only LR is made.

      --as train      OUT/NAME_HR.lmdb, OUT/NAME_LR_bicubic_X3.lmdb
      --as valid      OUT/NAME_HR/, OUT/NAME_LR_bicubic/X3/   (PNG)
      --as benchmark  OUT/GTmod12/, OUT/LRbicx3/              (PNG)

    Pictures stay whole. With --crop-size the training set is of tiles, in OUT/NAME_HR_sub.lmdb and
    OUT/NAME_LR_bicubic_X3_sub.lmdb: BasicSR's own PairedImageDataset decodes a tile faster than a picture.

    Examples:
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
    _tell([result], as_json)


@data_app.command("options", cls=Command)
def options_command(
    out: Annotated[Path, typer.Option(help="Folder for the option files.")] = Path("options"),
    only: Annotated[
        list[str] | None, typer.Option(help="Only files whose name contains this, as demo or abpn_x3.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that you have changed.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the project's option files out, to train with or to change.

    They are for BasicSR's train and test scripts. A file that is there already with another content is an
    error, and then nothing is written.

    Examples:
    mobilesr data options --out options
    mobilesr data options --out options --only demo sesr_m5
    """
    from mobilesr_plugin.data.option_files import write_option_files

    files = write_option_files(out, only=only or (), force=force)
    found = [path for path, _ in files if path.parent.name == "demo"] or [path for path, _ in files]
    train = next((path for path in found if path.name == "abpn_x3.yml"), found[0])
    next_step = f"python -m basicsr.train -opt {train}"
    if as_json:
        print_json({"files": [{"file": str(path), "made": made} for path, made in files], "next": next_step})
    for path, made in files:
        say(f"{path}: {'made' if made else 'complete already'}")
    say(f"train next: {next_step}")


def _tell(results: list[Prepared], as_json: bool) -> None:
    outputs = [output for result in results for output in result.outputs]
    skipped = [str(error) for result in results for error in result.skipped]
    too_small = [str(path) for result in results for path in result.too_small]
    if as_json:
        sets: list[dict[str, Any]] = [
            {"path": str(output.path), "images": output.images, "made": output.made} for output in outputs
        ]
        print_json({"sets": sets, "skipped": skipped, "too_small": too_small})
    for output in outputs:
        say(f"{output.path}: {output.images} images, {'made' if output.made else 'complete already'}")
    for error in skipped:
        warn(f"skipped: {error}")
    for path in too_small:
        warn(f"left out, too small: {path}")
