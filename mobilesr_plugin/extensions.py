"""``import:`` of an option file: Python files of the user's own, which register networks in BasicSR.

Only option files that the user names are asked; a checkpoint never decides what is imported.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from mobilesr_plugin.errors import OptionError

EXPECTED = "it must be the path of a .py file, the name of an installed module, or a list of such"


def load_extensions(named: Any) -> None:
    """Imports what ``import:`` names; what is there already is not imported again.

    A file can import others that lie beside it, as a script can.

    Args:
        named: Path of a .py file, seen from the working directory, or name of a module; or a list of them.

    Raises:
        OptionError: there is no such file or module, or it fails.
    """
    names = [] if named is None else named if isinstance(named, list) else [named]
    for name in names:
        if not isinstance(name, str) or not name:
            raise OptionError(f"import: {name!r}; {EXPECTED}")
        if name.endswith(".py"):
            _load_file(Path(name).resolve(), name)
        else:
            _load(name, name)


def _load_file(path: Path, name: str) -> None:
    if not path.is_file():
        raise OptionError(f"import: {name} does not exist (working directory: {Path.cwd()}); {EXPECTED}")
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    importlib.invalidate_caches()
    module = _load(path.stem, name)
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != path:
        raise OptionError(
            f"import: {name} has the name of another module ({found or path.stem}); rename the file"
        )


def _load(module: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise OptionError(f"import: there is no module {name}; {EXPECTED}") from error
        raise _failed(name, error) from error
    except Exception as error:  # whatever the user's code may raise
        raise _failed(name, error) from error


def _failed(name: str, error: Exception) -> OptionError:
    """Names the line of the user's code where it happened."""
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
    else:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename}, line {last.lineno}"
    reason = " ".join(str(error).split())
    return OptionError(f"import: {name} failed ({where}): {type(error).__name__}: {reason}")
