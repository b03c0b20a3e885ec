"""The most memory that a process and its descendants hold at once, sampled while they run."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

# Reading takes a few milliseconds of the processor that is measured.
_SECONDS = 0.5


class PeakMemory:
    """Samples until the block ends: ``with PeakMemory(pid) as memory: ...; memory.peak``.

    Counted are anonymous and shared memory, the latter in equal parts for those who share it (PSS in
    proc(5)). Pages of mapped files are not: the system takes them back when it needs room.

    Args:
        pid: The process.

    Attributes:
        peak: Bytes; None where there is no /proc/PID/smaps_rollup.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak: int | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(_SECONDS):
            held = sum(_held(pid) for pid in _family(self.pid))
            if held:
                self.peak = max(held, self.peak or 0)


def _family(pid: int) -> list[int]:
    """Returns a process and all that it has started, as far as they live."""
    members = [pid]
    for member in members:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                members += map(int, (task / "children").read_text(encoding="utf-8").split())
    return members


def _held(pid: int) -> int:
    kinds = ("Pss_Anon:", "Pss_Shmem:")
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(kinds))
    return 0
