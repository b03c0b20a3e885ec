"""Writes docs/cli.md from the commands and docs/options.md from the option blocks.

Both are read off the code, so there is nothing to keep in step by hand. Run by ``make docs`` and ``make
reference``; a test compares.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

import mobilesr_plugin
from mobilesr_plugin.cli.main import app
from mobilesr_plugin.data.cache_options import CacheOptions
from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.options import ExportOptions, QuantizationOptions, SpeedOptions, TFLiteOptions

ROOT = Path(__file__).resolve().parent.parent

CLI_HEAD = """# Command line

This page is made from the code by `tools/make_reference.py`; `mobilesr COMMAND --help` says the same.
`mobilesr-export` is `mobilesr export`. Training and testing are BasicSR's scripts, see
[training.md](training.md).

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a stated failure: one line on stderr that begins with `mobilesr:` |
| 2 | wrong usage |
| 3 | a verification failed |

| command | what it does |
|---|---|
"""

OPTIONS_HEAD = """# Options

This page is made from the code by `tools/make_reference.py`. It has the keys that this plugin adds to
BasicSR's option files; an unknown key among them is an error that lists the known ones. `~` is YAML's word
for none. All other keys are
[BasicSR's](https://github.com/XPixelGroup/BasicSR/blob/master/docs/Config.md), and the files in `options/`
show them in use. Their types and ranges are checked before a run too; an unknown one is a warning, because
forks have more.

## import

One Python file or installed module, or a list of them, imported before BasicSR looks for networks, data sets
and models; so they can register their own. Files are seen from the working directory. Option files that are
given with `-opt` or `--opt` are asked, never one that lies beside a checkpoint. Example:
[architectures.md](architectures.md#add-an-architecture).
"""

# Heading, dataclass, and what is said of the block beside its docstring.
BLOCKS: tuple[tuple[str, type, str], ...] = (
    (
        "quantization",
        QuantizationOptions,
        "For `model_type: QATSRModel`. The scheme: [quantization.md](quantization.md).",
    ),
    (
        "export",
        ExportOptions,
        "Without this block training writes checkpoints only. See [export.md](export.md).",
    ),
    (
        "tflite",
        TFLiteOptions,
        "For `model_type: TFLiteSRModel`. See [export.md](export.md#running-the-file).",
    ),
    ("speed", SpeedOptions, "See [training-speed.md](training-speed.md#the-training-step)."),
    (
        "datasets: train, of type CachedPairedDataset",
        CacheOptions,
        "Beside the keys of BasicSR's `PairedImageDataset`. "
        "See [training-speed.md](training-speed.md#the-data-set).",
    ),
)
NETWORKS = ("ABPN", "SESR")

_TYPES = {
    "str": "text",
    "int": "integer",
    "float": "number",
    "bool": "true or false",
    "tuple[str, ...]": "list of texts",
    "None": "`~`",
}


def main() -> None:
    """Writes both pages."""
    for path, text in render().items():
        (ROOT / path).write_text(text, encoding="utf-8")
        print(path)


def render() -> dict[str, str]:
    """Returns the text of each page by its path below the repository's root."""
    return {"docs/cli.md": command_page(), "docs/options.md": options_page()}


# Commands


def command_page() -> str:
    """Returns the page on all commands: help, usage, arguments, options, examples."""
    rows, sections = "", ""
    for command, context in walk(typer.main.get_command(app)):
        name, summary = context.command_path, command.help.split("\n\n")[0]
        rows += f"| [`{name}`](#{name.replace(' ', '-')}) | {_cell(summary)} |\n"
        sections += _section(command, context)
    return f"{CLI_HEAD}{rows}{sections}"


def walk(command: Any, parent: Any = None, name: str = "mobilesr") -> Iterator[tuple[Any, Any]]:
    """Yields each command below a group, with its context."""
    context = command.context_class(command, info_name=name, parent=parent)
    if not hasattr(command, "commands"):
        yield command, context
        return
    for child in sorted(command.commands):
        yield from walk(command.commands[child], context, child)


def _section(command: Any, context: Any) -> str:
    params = [param for param in command.get_params(context) if param.name != "help"]
    arguments = [param for param in params if param.param_type_name == "argument"]
    options = [param for param in params if param.param_type_name == "option"]
    usage = [context.command_path, *map(_usage, arguments), *map(_usage, options)]
    line = " ".join(word.replace(" ", "\xa0") for word in usage)  # not broken within an option
    lines = textwrap.wrap(line, 96, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False)
    text = f"\n## {context.command_path}\n\n{_paragraphs(command.help)}\n\n"
    text += "```text\n" + "\n".join(lines).replace("\xa0", " ") + "\n```\n"
    if arguments:
        rows = (f"| `{_name(param)}` | {_cell(param.help)} |\n" for param in arguments)
        text += "\n| argument | meaning |\n|---|---|\n" + "".join(rows)
    if options:
        text += "\n| option | default | meaning |\n|---|---|---|\n" + "".join(map(_row, options))
    if command.examples:
        text += "\n```bash\n" + "\n".join(command.examples) + "\n```\n"
    return text


def _name(argument: Any) -> str:
    name: str = argument.metavar or argument.name.upper()
    return name + (" ..." if argument.nargs != 1 else "")


def _usage(param: Any) -> str:
    """A parameter in the usage line: in brackets where it may be left out."""
    if param.param_type_name == "argument":
        word = _name(param)
    else:
        word = f"{_longest(param.opts)} {param.metavar or ''}".strip()
    return word if param.required else f"[{word}]"


def _row(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    value = f" `{option.metavar}`" if option.metavar else ""
    meaning, default = _meaning_and_default(option)
    return f"| {names}{value} | {default} | {_cell(meaning)} |\n"


def _meaning_and_default(option: Any) -> tuple[str, str]:
    """A default that the code finds out later is told in the help."""
    told = re.fullmatch(r"(.*?)\s*\(default: (.*)\)", option.help, re.DOTALL)
    if told:
        return told[1], _cell(told[2])
    if option.required:
        return option.help, "required"
    if option.is_flag and option.secondary_opts:  # --latency/--no-latency
        return option.help, f"`{_longest(option.opts if option.default else option.secondary_opts)}`"
    if option.is_flag or option.default in (None, [], ()):
        return option.help, ""
    values = option.default if isinstance(option.default, (list, tuple)) else [option.default]
    return option.help, f"`{' '.join(map(str, values))}`"


def _longest(names: list[str]) -> str:
    return max(names, key=len)


def _paragraphs(help_text: str) -> str:
    """Help as Markdown; a paragraph with an indented line keeps its lines."""
    paragraphs = []
    for paragraph in help_text.strip("\n").split("\n\n"):
        if re.search(r"^ +\S", paragraph, re.MULTILINE):
            paragraphs.append(f"```text\n{textwrap.dedent(paragraph)}\n```")
        else:
            paragraphs.append(_prose(paragraph))
    return "\n\n".join(paragraphs)


# Option blocks


def options_page() -> str:
    """Returns the page on the blocks of an option file, and on the arguments of our networks."""
    mobilesr_plugin.register()
    from basicsr.utils.registry import ARCH_REGISTRY

    text = OPTIONS_HEAD
    for heading, block, remark in BLOCKS:
        text += f"\n## {heading}\n\n{_summary(block)} {remark}\n\n{_block_table(block)}"
    for name in NETWORKS:
        network = ARCH_REGISTRY.get(name)
        remark = "See [architectures.md](architectures.md)."
        text += f"\n## network_g: {name}\n\n{_summary(network)} {remark}\n\n{_network_table(network)}"
    return text


def _block_table(block: type) -> str:
    meanings = documented(block, "Attributes")
    text = "| key | value | default | meaning |\n|---|---|---|---|\n"
    for field in dataclasses.fields(block):
        cells = (f"`{field.name}`", _value(block, field), _yaml(field.default), meanings[field.name])
        text += f"| {' | '.join(map(_cell, cells))} |\n"
    return text


def _network_table(network: type) -> str:
    meanings = documented(network, "Args")
    text = "| key | default | meaning |\n|---|---|---|\n"
    for parameter in inspect.signature(network).parameters.values():
        text += f"| `{parameter.name}` | {_yaml(parameter.default)} | {_cell(meanings[parameter.name])} |\n"
    return text


def _value(block: type, field: Any) -> str:
    """The type of a key, and what is allowed beyond that."""
    kind = ", ".join(_TYPES[part.strip()] for part in str(field.type).split("|"))
    limits = allowed(block, field.name).removeprefix("an integer of ").removeprefix("a number ")
    return kind if limits in ("", kind) else f"{kind}; {limits}"


def allowed(block: type, key: str) -> str:
    """Returns what a block says that it allows, on being given what no key takes; '' if it takes all."""
    try:
        block(**{key: "?"})
    except OptionError as error:
        return str(error).split(" must be ")[-1].removeprefix("one of ")
    return ""


def documented(described: Any, section: str) -> Mapping[str, str]:
    """Returns the entries of a section of a docstring, such as Args, each on one line."""
    doc = inspect.getdoc(described) or ""
    (body,) = re.findall(rf"^{section}:\n((?:    .*\n?|\n)+)", doc, re.MULTILINE)
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", body, re.MULTILINE)
    return {name: _in_markdown(text) for name, text in entries}


def _in_markdown(text: str) -> str:
    """A docstring's text in Markdown, with YAML's word for none."""
    text = re.sub(r":\w+:`(\w+)`", r"`\1`", text.replace("``", "`"))
    return re.sub(r"\bNone\b", "`~`", " ".join(text.split()))


def _summary(described: Any) -> str:
    return _prose(_in_markdown((inspect.getdoc(described) or "").split("\n\n")[0]))


def _yaml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"`[{', '.join(map(str, value))}]`"
    if value is None or isinstance(value, bool):
        return {None: "`~`", True: "`true`", False: "`false`"}[value]
    return f"`{value}`"


# Markdown


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")


def _prose(text: str) -> str:
    """One line of Markdown: flags as code, other markup escaped."""
    text = re.sub(r"(?<![`\w-])(--[a-z][a-z-]*)(?![`\w])", r"`\1`", " ".join(text.split()))
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([<*])", r"\\\1", part) for part in parts)


if __name__ == "__main__":
    main()
