"""What all commands share: help that reads well, and one meaning of --quiet and --json."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperGroup

from mobilesr_plugin.cli.console import output
from mobilesr_plugin.cli.many_values import ManyValues

# What help says of a value, by the type that Typer shows.
_VALUES = {
    "bool": "",
    "int": "N",
    "int range": "N",
    "float": "X",
    "float range": "X",
    "str": "TEXT",
    "path": "PATH",
    "Path": "PATH",
}


class Command(ManyValues):
    """A command.

    Lines below ``Examples:`` at the end of its docstring are shown unwrapped, so that they can be copied.
    Parameters ``quiet`` and ``as_json`` silence ``console``, and let only JSON onto standard output.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.help, self.examples = split_help(self.help or "")

    def get_params(self, ctx: Any) -> Any:
        """Names the values of options in plain words."""
        return _in_words(super().get_params(ctx), ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Puts the examples last."""
        super().format_help(ctx, formatter)
        _write_examples(self.examples, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command, as silent as was asked for."""
        with output(quiet=ctx.params.get("quiet", False), as_json=ctx.params.get("as_json", False)):
            return super().invoke(ctx)


class Group(TyperGroup):
    """A group of commands; its help is that of a command."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.help, self.examples = split_help(self.help or "")

    def get_params(self, ctx: Any) -> Any:
        """Names the values of options in plain words."""
        return _in_words(super().get_params(ctx), ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Puts the examples last."""
        super().format_help(ctx, formatter)
        _write_examples(self.examples, formatter)


def new_group(help: str) -> typer.Typer:
    """Returns an empty group of commands; ``help`` is like a command's docstring."""
    return typer.Typer(
        cls=Group,
        help=help,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def split_help(text: str) -> tuple[str, list[str]]:
    """Splits a docstring into its paragraphs, each on one line, and its examples.

    A paragraph with an indented line is left as it is.
    """
    text, _, examples = text.partition("\nExamples:\n")
    paragraphs = [
        paragraph if re.search(r"^ +\S", paragraph, re.MULTILINE) else " ".join(paragraph.split())
        for paragraph in text.strip("\n").split("\n\n")
    ]
    return "\n\n".join(paragraphs), [line.strip() for line in examples.splitlines() if line.strip()]


def _write_examples(examples: list[str], formatter: Any) -> None:
    if examples:
        formatter.write("".join(["Examples:\n", *(f"  {line}\n" for line in examples)]))


def _in_words(params: Any, ctx: Any) -> Any:
    for param in params:
        kind = (param.display_type_rich(ctx) or "").strip("<>")
        single = kind.removeprefix("list[").removesuffix("]")
        if single not in _VALUES:
            continue  # a metavar of its own
        if param.param_type_name == "argument":
            param.display_type_rich = lambda ctx: ""  # its name says what it is
        else:
            param.metavar = _VALUES[single] + (" ..." if single != kind else "")
    return params
