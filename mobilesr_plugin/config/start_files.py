"""The files that a run starts from, and the folder that its export ends in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mobilesr_plugin.errors import OptionError


def check_files(opt: Mapping[str, Any]) -> None:
    """Checks that the files which a run starts from are there.

    Raises:
        OptionError: one line that names the key and the file.
    """
    if (started_from := (opt.get("path") or {}).get("pretrain_network_g")) is not None and not Path(
        started_from
    ).exists():
        raise OptionError(
            f"path: pretrain_network_g: {started_from} does not exist; train or export what writes it first"
        )
    export = opt.get("export") or {}
    if (calib := export.get("calib")) is not None and not Path(calib).exists():
        raise OptionError(f"export: calib: {calib} does not exist; give a folder or LMDB of LR images")
    if (out := export.get("out")) is not None:
        _check_folder(Path(out))


def _check_folder(folder: Path) -> None:
    """Checks that a folder can be made and written, as far as that can be told without doing so."""
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not nearest.is_dir():
        raise OptionError(f"export: out: {folder} cannot be made: {nearest} is a file; choose another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OptionError(f"export: out: no permission to write in {nearest}; choose another folder")
