"""How much memory this process can still take."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")


def free_memory(cgroups: Path = _CGROUPS) -> int:
    """Returns the bytes of memory that this machine, or the container, has left for more.

    Args:
        cgroups: Where control groups are mounted. A container's limit stands in ``memory.max`` (version 2)
            or ``memory/memory.limit_in_bytes`` (version 1), https://docs.kernel.org/admin-guide/cgroup-v2.html.
    """
    free = int(psutil.virtual_memory().available)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # none, or "max"
            free = min(
                free,
                int((cgroups / limit).read_text(encoding="utf-8"))
                - int((cgroups / used).read_text(encoding="utf-8")),
            )
    return max(0, free)
