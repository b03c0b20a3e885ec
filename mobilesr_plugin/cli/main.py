"""Entry points of the console scripts ``mobilesr`` and ``mobilesr-export``.

Exit codes: 0 done; 1 a stated failure (one line on stderr); 2 wrong usage; 3 a verification failed.
"""

from __future__ import annotations

import sys

import typer

from mobilesr_plugin import __version__
from mobilesr_plugin.cli.bench import bench_app
from mobilesr_plugin.cli.data import data_app
from mobilesr_plugin.cli.export import export
from mobilesr_plugin.cli.import_ import import_command
from mobilesr_plugin.cli.many_values import ManyValues
from mobilesr_plugin.cli.report import report
from mobilesr_plugin.cli.upscale import upscale
from mobilesr_plugin.errors import MobileSRError

INTERRUPTED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    name="mobilesr",
    help="Super-resolution from PyTorch to a phone: data, export, benchmarks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")
app.command("export")(export)
app.command("upscale")(upscale)
app.command("import")(import_command)
app.command("report", cls=ManyValues)(report)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run ``mobilesr`` and leave the process with its exit code."""
    try:
        app(arguments)
    except MobileSRError as error:
        typer.echo(f"mobilesr: {error}", err=True)
        sys.exit(error.exit_code)
    except SystemExit as done:
        if done.code == INTERRUPTED:
            typer.echo("mobilesr: interrupted; no file is left half-written, run it again to go on", err=True)
            sys.exit(1)
        raise


def export_main() -> None:
    """Run ``mobilesr-export``, which is ``mobilesr export``."""
    main(["export", *sys.argv[1:]])
