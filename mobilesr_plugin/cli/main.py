"""Entry points of the console scripts ``mobilesr`` and ``mobilesr-export``.

Exit codes: 0 done; 1 a stated failure (one line on stderr); 2 wrong usage; 3 a verification failed.
"""

from __future__ import annotations

import sys
from typing import Any

import typer

from mobilesr_plugin import __version__
from mobilesr_plugin.cli.bench import bench_app
from mobilesr_plugin.cli.command import Command, new_group
from mobilesr_plugin.cli.data import data_app
from mobilesr_plugin.cli.export import export
from mobilesr_plugin.cli.import_ import import_command
from mobilesr_plugin.cli.report import report
from mobilesr_plugin.cli.upscale import upscale
from mobilesr_plugin.cpus import settle_threads
from mobilesr_plugin.errors import MobileSRError

INTERRUPTED = 130  # what typer makes of Ctrl-C
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # Typer names only the class below it

app = new_group(
    """Super-resolution from PyTorch to a phone: data, training for int8, verified TFLite files.

Training itself is BasicSR's: python basicsr/train.py -opt options/abpn_x3.yml

Examples:
mobilesr data demo
mobilesr data options --out options
mobilesr export --ckpt experiments/abpn_x3_qat/models/net_g_latest.pth
mobilesr upscale photo.jpg --model experiments/abpn_x3_qat/export/abpn_x3_int8.tflite
"""
)
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")
app.command("export", cls=Command)(export)
app.command("upscale", cls=Command)(upscale)
app.command("import", cls=Command)(import_command)
app.command("report", cls=Command)(report)

export_app = typer.Typer(
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)
export_app.command(cls=Command)(export)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run ``mobilesr`` and leave the process with its exit code."""
    sys.exit(_run(app, "mobilesr", arguments))


def export_main() -> None:
    """Run ``mobilesr-export``, which is ``mobilesr export``."""
    sys.exit(_run(export_app, "mobilesr-export", None))


def _run(command: typer.Typer, name: str, arguments: list[str] | None) -> int:
    if (sys.argv[1:] if arguments is None else arguments)[:1] != ["bench"]:
        settle_threads()  # benchmarks measure libraries as they are
    try:
        code = command(arguments, prog_name=name, standalone_mode=False)
    except MobileSRError as error:
        typer.echo(f"mobilesr: {_one_line(error)}", err=True)
        return error.exit_code
    except UsageError as error:
        return _tell_usage(error, name)
    except typer.Abort:
        code = INTERRUPTED
    if code == INTERRUPTED:
        typer.echo("mobilesr: interrupted; no file is left half-written, run it again to go on", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _one_line(error: MobileSRError) -> str:
    """The message; a path in it may hold line breaks."""
    return str(error).replace("\r", "\\r").replace("\n", "\\n")


def _tell_usage(error: Any, name: str) -> int:
    """Says in one line what is wrong; a group without a command shows its help instead."""
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(message)
    else:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else name
        typer.echo(f"mobilesr: {' '.join(message.split()).rstrip('.')}; see {path} --help", err=True)
    return 2
