"""``mobilesr upscale``: pictures and videos through a network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mobilesr_plugin.cli.console import print_json, progress_bar, say
from mobilesr_plugin.cli.flags import AllThreads, Json, Kernels, OptionFile, Quiet
from mobilesr_plugin.errors import DataError, OptionError

if TYPE_CHECKING:
    from mobilesr_plugin.upscaling.run import Result

NO_MODEL = (
    "no --model was given; get one with `make demo` (it trains one in minutes and writes it to "
    "experiments/demo_abpn_x3_qat/export/), `mobilesr import` (another project's weights) or "
    "`mobilesr-export` (.tflite and .onnx files of a checkpoint)"
)


def upscale(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Pictures, videos, folders and quoted globs.")
    ],
    model: Annotated[
        Path | None, typer.Option(help="Network: .tflite, .onnx or .pth (one with int8 ranges in integers).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; or a file, for one input. (default: upscaled/)")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="Pictures' format: png, jpg, webp, bmp, tiff. (default: the input's)"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make anew what exists; else it is skipped.")
    ] = False,
    codec: Annotated[
        str | None, typer.Option(help="Video encoder of PyAV. (default: libx264, else mpeg4)")
    ] = None,
    crf: Annotated[
        int, typer.Option(min=0, max=63, help="Quality of videos, smaller is better and larger.")
    ] = 23,
    preset: Annotated[
        str | None,
        typer.Option(help="Preset of libx264 and libx265, ultrafast to veryslow. (default: ultrafast)"),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(min=0, help="Longest side of a tile; 0: the whole image at once. (default: by memory)"),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            min=0, help="Border of tiles, for a file whose receptive field is not known. (default: exact)"
        ),
    ] = None,
    kernels: Kernels = "xnnpack",
    opt: OptionFile = None,
    threads: AllThreads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Upscale pictures and videos with a network.

    Large pictures go through it in tiles, with the same pixels as in one piece. Grey, alpha, colour
    profile and EXIF are kept; of videos also frame times, sound and subtitles. What exists is skipped, so
    a run that was stopped goes on where it was.

    Examples:
    mobilesr upscale photo.jpg --model export/abpn_x3_int8.tflite
    mobilesr upscale photos/ 'more/*.png' clip.mp4 --model net_g_latest.pth --out large/
    """
    if model is None:
        raise OptionError(NO_MODEL)
    from mobilesr_plugin.data.workers import default_workers
    from mobilesr_plugin.upscaling.inputs import plan
    from mobilesr_plugin.upscaling.run import VideoOptions, upscale_all
    from mobilesr_plugin.upscaling.upscaler import open_upscaler

    upscaler = open_upscaler(
        model,
        kernels=kernels,
        threads=threads or default_workers(),
        opt_path=opt,
        tile=tile,
        overlap=overlap,
    )
    jobs = plan(inputs, out, upscaler.scale, form)
    with _bars(many=len(jobs) > 1) as progress:
        results = upscale_all(
            jobs,
            upscaler,
            overwrite=overwrite,
            video=VideoOptions(codec, crf, preset),
            progress=progress,
            finished=_tell,
        )
    if as_json:
        print_json(_summary(upscaler.file, results))
    failed = [result for result in results if result.state == "failed"]
    if failed:
        more = f" ({len(failed)} of {len(results)} inputs failed; this is the first)" if failed[1:] else ""
        raise DataError(f"{failed[0].notes[0]}{more}")


@contextlib.contextmanager
def _bars(*, many: bool) -> Any:
    """One bar: the frames of a video while it runs, else the files, if there are many."""
    with contextlib.ExitStack() as shown:
        current: list[tuple[str, Callable[[int, int], None]]] = []

        def update(what: str, done: int, total: int) -> None:
            if what == "files" and not many:
                return
            if not current or current[0][0] != what:
                shown.close()  # rich shows one bar at a time
                current[:] = [(what, shown.enter_context(progress_bar(what)))]
            current[0][1](done, total)

        yield update


def _tell(result: Result) -> None:
    match result.state:
        case "made":
            assert result.size is not None
            width, height = result.size
            frames = f", {result.frames} frames" if result.frames is not None else ""
            say(f"{result.target}: {width}x{height}{frames}, {result.seconds:.1f} s")
            for note in result.notes:
                say(f"  note: {note}")
        case "skipped":
            say(f"{result.target}: exists already, skipped (--overwrite makes it anew)")
        case _:
            typer.echo(f"failed: {result.notes[0]}", err=True)


def _summary(file: Any, results: list[Result]) -> dict[str, Any]:
    return {
        "model": str(file.path),
        "sha256": file.sha256,
        "kind": file.kind,
        "kernels": file.kernels,
        "scale": file.scale,
        "results": [
            {
                "input": str(result.source),
                "output": str(result.target),
                "state": result.state,
                "size": list(result.size) if result.size else None,
                "frames": result.frames,
                "seconds": round(result.seconds, 3),
                "notes": list(result.notes),
            }
            for result in results
        ],
    }
