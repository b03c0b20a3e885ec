"""The project's option files, found in a checkout and in an installed package, and written out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobilesr_plugin.data.images import write_bytes
from mobilesr_plugin.errors import DataError, OptionError

_PACKAGE = Path(__file__).resolve().parent.parent
# In a wheel, where setup.py puts them; in a checkout, where they are kept.
_FOLDERS = (_PACKAGE / "option_files", _PACKAGE.parent / "options")


def option_files() -> dict[str, bytes]:
    """Returns the content of all option files by name, such as ``abpn_x3.yml`` and ``demo/abpn_x3.yml``.

    Raises:
        DataError: the installation lacks them.
    """
    for folder in _FOLDERS:
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.yml")}
        if files:
            return dict(sorted(files.items(), key=lambda item: ("/" in item[0], item[0])))
    raise DataError(f"there are no option files in {_FOLDERS[0]}; install mobilesr-plugin again")


def write_option_files(
    out: Path, *, only: Sequence[str] = (), force: bool = False
) -> list[tuple[Path, bool]]:
    """Writes option files below ``out``; each is whole or not there.

    Args:
        out: Folder; it is made where it is missing.
        only: Texts; of the files, those are written whose name contains one of them.
        force: Replace files of another content.

    Returns:
        Path of each file, and whether it was written: one that is there already, the same, is left alone.

    Raises:
        OptionError: no name contains what ``only`` says.
        DataError: a file is there with another content (nothing is written then), or one cannot be written.
    """
    every = option_files()
    files = {name: data for name, data in every.items() if not only or any(text in name for text in only)}
    if not files:
        raise OptionError(
            f"--only is {' '.join(only)}; no option file's name has that (names are like "
            f"{next(iter(every))} and demo/abpn_x3.yml)"
        )
    there = {name: _content(out / name) for name in files}
    changed = [out / name for name, data in files.items() if there[name] not in (None, data)]
    if changed and not force:
        more = f" and {len(changed) - 1} more" if changed[1:] else ""
        raise DataError(
            f"{changed[0]}{more} is there already with another content; nothing was written: choose another "
            "folder with --out, or replace it with --force"
        )
    written = []
    for name, data in files.items():
        if there[name] != data:
            write_bytes(out / name, data)
        written.append((out / name, there[name] != data))
    return written


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error
