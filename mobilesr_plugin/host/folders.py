"""Where BasicSR writes ``experiments``, ``results`` and ``tb_logger``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mobilesr_plugin.errors import MobileSRError

INSTALLED = {"site-packages", "dist-packages"}


def redirect(root: str) -> str:
    """The root folder to write under: the working directory instead of a folder of installed packages.

    Fault: BasicSR's train.py and test.py write beside the folder that they lie in. For the installed
    package that is site-packages. To see it: ``python .../site-packages/basicsr/train.py -opt F``.

    Args:
        root: The root that BasicSR chose.
    """
    return str(Path.cwd()) if Path(root).name in INSTALLED else root


def check_writable(opt: dict[str, Any]) -> None:
    """Check that the folder for this run's results can be made and written.

    Raises:
        MobileSRError: It cannot.
    """
    key = "experiments_root" if opt["is_train"] else "results_root"
    wanted = Path(opt["path"][key])
    nearest = next(folder for folder in (wanted, *wanted.parents) if folder.exists())
    if not nearest.is_dir():
        raise MobileSRError(f"cannot write results to {wanted}: {nearest} is a file; move it away")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise MobileSRError(f"cannot write results to {wanted}: no permission to write in {nearest}")
