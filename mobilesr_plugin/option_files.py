"""Option files that describe the network of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mobilesr_plugin.errors import CheckpointError


def options_beside(path: Path) -> Path:
    """Returns the YAML copy that BasicSR leaves in an experiment's folder, two levels above a checkpoint.

    Raises:
        CheckpointError: there is none, or more than one.
    """
    folder = path.resolve().parent.parent
    found = sorted(folder.glob("*.yml"))
    if len(found) == 1:
        return found[0]
    what = "several option files lie" if found else "no option file lies"
    raise CheckpointError(
        f"{path} does not describe its network, and {what} in {folder}; give one with --opt"
    )


def read_options(path: Path) -> Mapping[str, Any]:
    """Returns an option file as plain data.

    Raises:
        CheckpointError: it cannot be read, or has no network.
    """
    import yaml

    try:
        opt = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid YAML: {reason(error)}") from error
    if not isinstance(opt, dict) or not isinstance(opt.get("network_g"), dict):
        raise CheckpointError(
            f"{path} has no block network_g; give the option file that the network was trained with"
        )
    return opt


def reason(error: Exception) -> str:
    """Returns why something failed, in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
