"""How much memory is free on this machine."""

from __future__ import annotations

import contextlib
from pathlib import Path


def free_memory() -> int:
    """Returns the bytes of memory that this machine, or the container, has left for more; 0: unknown."""
    free = 0
    with contextlib.suppress(OSError), Path("/proc/meminfo").open() as lines:
        free = next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), 0)
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            free = min(free, int(Path(limit).read_text()))
    return free
