"""Which command makes a data set that is missing, read from its path."""

from __future__ import annotations

import re
from pathlib import Path

_LMDB = re.compile(r"(?P<name>.+)_(?:HR|LR_bicubic_X\d+)(?P<tiles>_sub)?\.lmdb")
_DEMO_SCALES = (2, 3, 4)


def command_for(path: Path, scale: int) -> str | None:
    """Return the ``mobilesr data`` command whose result has this path, or None if no command has.

    Args:
        path: LMDB or folder, as an option file names it.
        scale: of the option file.
    """
    if "demo" in path.parts[:-1]:
        return _demo(path, scale)
    match = _LMDB.fullmatch(path.name)
    if match:
        tiles = " --crop-size 480" if match["tiles"] else ""
        return _prepare(path.parent, scale, "train", match["name"]) + tiles
    if re.fullmatch(r"GTmod\d+|LRbicx\d+", path.name):
        return _prepare(path.parent, scale, "benchmark", None)
    if re.fullmatch(r"X\d+", path.name) and path.parent.name.endswith("_LR_bicubic"):
        return _prepare(path.parent.parent, scale, "valid", path.parent.name.removesuffix("_LR_bicubic"))
    if path.name.endswith("_HR"):
        return _prepare(path.parent, scale, "valid", path.name.removesuffix("_HR"))
    return None


def _demo(path: Path, scale: int) -> str:
    root = Path(*path.parts[: len(path.parts) - path.parts[::-1].index("demo")])
    out = "" if root == Path("datasets/demo") else f" --out {root}"
    return f"mobilesr data demo{out}" + ("" if scale in _DEMO_SCALES else f" --scale {scale}")


def _prepare(out: Path, scale: int, kind: str, name: str | None) -> str:
    command = f"mobilesr data prepare --hr DIR --scale {scale} --out {out}"
    if kind != "train":
        command += f" --as {kind}"
    if name is not None and name != f"{out.name}_{kind}":
        command += f" --name {name}"
    return command
