"""Checks of the option file and ``--force_yml`` before BasicSR reads them.

BasicSR loads YAML with a loader that can construct any Python object, and applies ``--force_yml`` with
``exec`` and ``eval``. After these checks both see nothing but plain data.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path
from typing import Any

from mobilesr_plugin.errors import OptionError

REQUIRED = ("name", "num_gpu", "datasets", "path")
PLAIN_KEY = re.compile(r"[^\"'\\\[\]\n]+")


def read_command_line() -> dict[str, Any] | None:
    """Read the option file that ``sys.argv`` names, and apply its overrides as BasicSR will.

    A command line that is wrong in itself is left to BasicSR's own parser, which exits with code 2.

    Returns:
        The options as plain data; None if the command line names no file.

    Raises:
        OptionError: The file cannot be read or is no option file, or an override does not fit it.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("-opt")
    parser.add_argument("--force_yml", nargs="+", default=[])
    try:
        arguments, _ = parser.parse_known_args(sys.argv[1:])
    except argparse.ArgumentError:
        return None
    if arguments.opt is None:
        return None
    options = read(Path(arguments.opt))
    for entry in arguments.force_yml:
        _override(options, entry, arguments.opt)
    return options


def read(path: Path) -> dict[str, Any]:
    """Read an option file as plain data.

    Raises:
        OptionError: It is missing, is not YAML, or lacks one of BasicSR's main keys.
    """
    import yaml

    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OptionError(f"there is no option file {path} (working directory: {Path.cwd()})") from error
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"cannot read the option file {path}: {_first_line(error)}") from error
    except yaml.YAMLError as error:
        raise OptionError(f"{path} is not a valid YAML file: {_where(error)}") from error
    if not isinstance(options, dict):
        raise OptionError(f"{path} is not an option file: it has no `key: value` lines")
    missing = [f"`{key}`" for key in REQUIRED if key not in options]
    if missing:
        raise OptionError(f"{path} lacks {', '.join(missing)}, which every BasicSR option file has")
    for key in ("datasets", "path"):
        if not isinstance(options[key], dict):
            raise OptionError(f"{path}: `{key}` must hold `key: value` lines, not {options[key]!r}")
    return options


def check_devices(opt: dict[str, Any]) -> None:
    """Check that the asked GPUs exist.

    Raises:
        OptionError: ``num_gpu`` is above 0 on a machine where torch sees no GPU, or batches are to be fetched
            to a GPU in a run without one.
    """
    import torch

    train = opt["datasets"].get("train") or {}
    if opt["num_gpu"] == 0 and opt["is_train"] and train.get("prefetch_mode") == "cuda":
        raise OptionError(
            "datasets: train: prefetch_mode is cuda, but the run has no GPU (num_gpu is 0); write cpu or ~"
        )
    if opt["num_gpu"] != 0 and not torch.cuda.is_available():
        raise OptionError(
            f"`num_gpu: {opt['num_gpu']}`, but torch sees no GPU here: use `num_gpu: auto`, or add "
            "--force_yml num_gpu=0"
        )


def _override(options: dict[str, Any], entry: str, file: str) -> None:
    """Apply one ``key:key=value`` of ``--force_yml``. The last key may be new, its parents may not."""
    from basicsr.utils.options import _postprocess_yml_value

    if entry.count("=") != 1:
        raise OptionError(f"--force_yml {entry!r}: expected key:key=value, as in train:ema_decay=0.999")
    keys, value = (part.strip() for part in entry.split("="))
    *parents, last = keys.split(":")
    inside: Any = options
    for parent in parents:
        if not isinstance(inside, dict) or parent not in inside:
            known = ", ".join(map(str, inside)) if isinstance(inside, dict) else "none"
            raise OptionError(f"--force_yml {entry!r}: {file} has no key {parent!r} there; it has: {known}")
        inside = inside[parent]
    if not isinstance(inside, dict) or not PLAIN_KEY.fullmatch(last):
        raise OptionError(f"--force_yml {entry!r}: {last!r} cannot be set under {':'.join(parents) or file}")
    if value.startswith("["):
        try:
            ast.literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise OptionError(f"--force_yml {entry!r}: {value} is not a list of plain values") from error
    try:
        inside[last] = _postprocess_yml_value(value)
    except ValueError as error:
        raise OptionError(f"--force_yml {entry!r}: {value} is not a number") from error


def _first_line(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).split("\n")[0]


def _where(error: Any) -> str:
    """The place and the problem of a YAML error, in one line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or _first_line(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem
