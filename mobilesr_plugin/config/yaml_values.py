"""Values as YAML writes them, and numbers that it reads as text."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation

import yaml

_LONGEST = 12  # characters of a number written out
_SHOWN = 60  # characters of a value in a message


def shown(value: object) -> str:
    """Returns a value for a message: as YAML writes ~, true and false, else as Python does, cut short."""
    if value is None or isinstance(value, bool):
        return {None: "~", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def hint(value: object) -> str:
    """Returns how to write a number that came as text, as the end of a message; empty for anything else.

    YAML 1.1, which PyYAML reads, wants a point in a number with an exponent, and a sign in the exponent:
    ``1e-3`` and ``1.0e3`` are text.
    """
    if not isinstance(value, str):
        return ""
    if value.lower() == "none":
        return ". For none, YAML has ~"
    text = value.strip().removeprefix("!!float").strip()
    try:
        number = Decimal(text)
    except InvalidOperation:
        return ""
    if not math.isfinite(number):
        return ""
    ways = [
        way for way in (format(number, "f"), _with_point(text)) if len(way) <= _LONGEST and _is_number(way)
    ]
    if text in ways:
        return f". It is text here; write {ways[0]} without quotes"
    return f". YAML reads {value} as text; write {' or '.join(ways)}"


def _with_point(text: str) -> str:
    """Returns ``1e-3`` as ``1.0e-3``."""
    match = re.fullmatch(r"([-+]?\d+)(\.\d*)?[eE]([-+]?)(\d+)", text)
    if not match:
        return text
    whole, fraction, sign, exponent = match.groups()
    return f"{whole}{fraction or '.0'}e{sign or '+'}{exponent}"


def _is_number(text: str) -> bool:
    return isinstance(yaml.safe_load(text), (int, float))
