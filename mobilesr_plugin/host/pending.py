"""Registration that waits when it would meet a module of ours in the middle of its own import.

``import mobilesr_plugin.archs`` imports BasicSR, whose import hook wants to import
``mobilesr_plugin.models``, which may need a class that ``mobilesr_plugin.archs`` has not defined yet.
In that case registration is put off to the first look into one of BasicSR's registries.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_waiting: list[Callable[[], None]] = []


def run_when_possible(action: Callable[[], None]) -> None:
    """Call ``action`` now, or at the first look into a registry of BasicSR.

    Args:
        action: Imports modules of this package.
    """
    if not _being_imported():
        action()
        return
    _waiting.append(action)
    from basicsr.utils.registry import Registry

    for method in ("get", "keys", "__contains__", "__iter__"):
        look = getattr(Registry, method)
        if not hasattr(look, "mobilesr"):
            setattr(Registry, method, _after_pending(look))


def _being_imported() -> list[str]:
    """Names of this package's modules whose bodies are running now, apart from this folder's own."""
    names = [name for name in list(sys.modules) if name.startswith("mobilesr_plugin.")]
    return [
        name
        for name in names
        if not name.startswith("mobilesr_plugin.host")
        and getattr(getattr(sys.modules[name], "__spec__", None), "_initializing", False)
    ]


def _after_pending(look: Callable[..., Any]) -> Callable[..., Any]:
    def look_after_pending(*arguments: Any, **options: Any) -> Any:
        while _waiting and not _being_imported():
            _waiting.pop()()
        return look(*arguments, **options)

    look_after_pending.mobilesr = True  # type: ignore[attr-defined]
    return look_after_pending
