"""Options that take several values at once: ``--model A B`` beside ``--model A --model B``."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class ManyValues(TyperCommand):
    """A command whose repeatable options take all values up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeats the option's name before each further value, then parses as usual."""
        repeatable = {name for each in self.params if getattr(each, "multiple", False) for name in each.opts}
        spread: list[str] = []
        option, served = "", False
        for argument in args:
            if argument.startswith("-"):
                option, equals, _ = argument.partition("=")
                served = bool(equals)
            elif option in repeatable and served:
                spread.append(option)
            else:
                served = True
            spread.append(argument)
        return super().parse_args(ctx, spread)
