"""Replacing a function of BasicSR wherever it is already bound to a name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any


def replace_everywhere(old: Callable[..., Any], new: Callable[..., Any]) -> None:
    """Bind ``new`` to every global name of BasicSR that is bound to ``old``.

    BasicSR's modules import functions by name (``from basicsr.utils.options import parse_options``), so
    a change in the defining module alone would not reach them.
    """
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "basicsr":
            continue
        for key, value in list(vars(module).items()):
            if value is old:
                setattr(module, key, new)


def innermost(function: Callable[..., Any]) -> FunctionType:
    """The function below decorators that used ``functools.wraps``."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    assert isinstance(function, FunctionType)
    return function


def mentions(function: Callable[..., Any], name: str) -> bool:
    """Whether the function's own code uses ``name`` as a global, an attribute or a variable.

    This is how a repair sees whether the fault it knows is present.
    """
    code = innermost(function).__code__
    return name in code.co_names or name in code.co_varnames
