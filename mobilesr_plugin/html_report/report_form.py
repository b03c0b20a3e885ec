"""The form of report.json, as far as the page reads it."""

from __future__ import annotations

from typing import Any

Number = (int, float)
_FILE = {"name": str, "bytes": int, "sha256": str}
_PARITY = {"pixels": int, "mismatched": int, "max_abs_diff": Number}
_IO = {"dtype": str}
#: A type or types; a list of one kind; ``{"*": kind}`` for a dict of any keys; else keys that must be there.
FORM: Any = {
    "model": str,
    "verified": bool,
    "problems": [str],
    "scale": int,
    "params": int,
    "macs": {"*": int},
    "source": {"checkpoint": str, "sha256": str},
    "io": {"colour": str, "input": _IO, "output": _IO},
    "parity": {"*": {"*": _PARITY}},
    "files": [_FILE],
    "versions": {"mobilesr-plugin": str, "*": str},
}
#: The same for keys that may be absent.
OPTIONAL: Any = {"notes": [str], "ops": {"*": [str]}, "command": str}


def first_problem(report: Any) -> str | None:
    """Returns what is wrong with a report's content, such as ``files[0].name is 3``; None if nothing is."""
    problem = _problem("the file", report, FORM)
    if problem is None:
        there = {key: form for key, form in OPTIONAL.items() if key in report}
        problem = _problem("the file", report, there)
    return problem


def _problem(name: str, value: Any, form: Any) -> str | None:
    if isinstance(form, list):
        if not isinstance(value, list):
            return f"{name} is {_shown(value)}, not a list"
        inside = [(f"{name}[{index}]", each, form[0]) for index, each in enumerate(value)]
    elif isinstance(form, dict):
        if not isinstance(value, dict):
            return f"{name} is {_shown(value)}, not an object"
        inside = []
        for key, kind in form.items():
            if key == "*":
                inside += [(_inside(name, own), each, kind) for own, each in value.items()]
            elif key not in value:
                return f"{_inside(name, key)} is missing"
            else:
                inside.append((_inside(name, key), value[key], kind))
    else:
        fits = isinstance(value, form) and (form is bool or not isinstance(value, bool))
        return None if fits else f"{name} is {_shown(value)}"
    return next((problem for each in inside if (problem := _problem(*each))), None)


def _inside(name: str, key: str) -> str:
    return key if name == "the file" else f"{name}.{key}"


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
