"""An option file checked before a run: types and ranges, then what keys have to do with each other.

The first thing found wrong is said in full, the places of all others beside it: one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from mobilesr_plugin.config.blocks import Place, blocks
from mobilesr_plugin.config.fields import Allowed
from mobilesr_plugin.config.relations import contradictions
from mobilesr_plugin.config.schema import Keys
from mobilesr_plugin.config.yaml_values import hint, shown
from mobilesr_plugin.errors import OptionError

MENTIONED = 3  # further places that are named


class Problem(NamedTuple):
    """Something wrong: where, and what, as in ``is 'abc'; it must be a number``."""

    place: Place
    text: str


def check(opt: Mapping[str, Any], *, training: bool) -> None:
    """Checks the keys that BasicSR reads.

    Args:
        opt: Options as YAML and ``--force_yml`` give them, before BasicSR changes them.
        training: Whether train.py reads them, or test.py.

    Raises:
        OptionError: one line: the place of a key, what was got and what is allowed.
    """
    problems = list(_keys_that_are_no_text(opt)) or list(_wrong_values(opt, training=training))
    if not problems:
        problems = [Problem(*each) for each in contradictions(opt, training=training)]
    if problems:
        raise OptionError(_one_line(problems))


def _one_line(problems: list[Problem]) -> str:
    first, *others = problems
    text = f"{': '.join(first.place)} {first.text}".strip()
    if not others:
        return text
    places = "; ".join(": ".join(problem.place) for problem in others[:MENTIONED])
    more = f" and {len(others) - MENTIONED} more" if len(others) > MENTIONED else ""
    return f"{text} (also wrong: {places}{more})"


def _wrong_values(opt: Mapping[str, Any], *, training: bool) -> Iterator[Problem]:
    for place, held, block in blocks(opt, training=training):
        try:
            block.model_validate(held)
        except ValidationError as failure:
            for error in failure.errors(include_url=False):
                yield _problem(place, block, error)


def _problem(place: Place, block: type[Keys], error: Any) -> Problem:
    if not error["loc"]:  # the block itself
        return Problem(place, f"is {shown(error['input'])}; it must be a block of keys")
    key = str(error["loc"][0])
    if error["type"] == "missing":
        allowed = _allowed(block, key)
        return Problem((*place, key), f"is missing; it must be {allowed}")
    value = error["input"]
    return Problem((*place, key), f"is {shown(value)}; it must be {error['msg']}{hint(value)}")


def _allowed(block: type[Keys], key: str) -> str:
    return next(each.text for each in block.model_fields[key].metadata if isinstance(each, Allowed))


def _keys_that_are_no_text(opt: Mapping[Any, Any], place: Place = ()) -> Iterator[Problem]:
    """BasicSR writes all options to its log, and joins keys as text."""
    for key, value in opt.items():
        if not isinstance(key, str):
            yield Problem((*place, str(key)), f"is a key that YAML reads as {key!r}, not as text; quote it")
        elif isinstance(value, Mapping):
            yield from _keys_that_are_no_text(value, (*place, key))
