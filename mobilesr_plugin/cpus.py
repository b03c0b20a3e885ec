"""How many processors this process may use, and libraries kept from wasting them.

A machine may have many processors of which a container, a job or ``taskset`` leaves a process few. Threads
beyond those wait for each other: libraries that compute in threads let them spin, which takes the processor
from the thread that has the work.
"""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_WAITING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}  # how OpenMP's threads wait


def usable_cpus() -> int:
    """Returns how many processors this process may use: its affinity, limited by its control groups' quotas.

    Of a quota the whole processors count, and a part of one as one. At least 1.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:  # macOS and Windows
        allowed = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    quota = cgroup_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cgroup_quota(root: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> float | None:
    """Returns the processors' time per time that control groups leave this process; None without a limit.

    Limits of all groups above hold too. In a container its own group is the root.

    Args:
        root: Where control groups are mounted.
        own: The file that names this process's groups.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (``cpu.max``) and
    https://docs.kernel.org/scheduler/sched-bwc.html (``cpu.cfs_quota_us``).
    """
    try:
        named = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        named = []
    quotas = []
    for number, controllers, path in (parts for parts in named if len(parts) == 3):
        if number == "0" and not controllers:  # version 2
            quotas += [_quota_v2(folder) for folder in _groups(root, path)]
        elif "cpu" in controllers.split(","):  # version 1, mounted by the names of its controllers
            for mount in dict.fromkeys((controllers, "cpu")):
                quotas += [_quota_v1(folder) for folder in _groups(root / mount, path)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _groups(mount: Path, path: str) -> list[Path]:
    """The folders of a group and all above it; of those that are not mounted nothing can be read."""
    inside = Path(path.strip("/"))
    return [mount / part for part in (inside, *inside.parents)]


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return _ratio(quota, period)


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """None for ``max``, -1, and what is not there."""
    if not (quota.isdigit() and period.isdigit() and int(quota) and int(period)):
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def settle_threads(environ: MutableMapping[str, str] | None = None) -> None:
    """Lets OpenMP's threads sleep while they wait, and start no more than there are processors for.

    Beside another busy process a waiting thread that spins takes the processor from the one it waits for.
    Must be called before torch is imported: OpenMP reads its environment when it is loaded. What the user
    has set stays.

    Args:
        environ: The environment to change; by default this process's own.
    """
    environ = os.environ if environ is None else environ
    if not _WAITING & environ.keys():
        environ["OMP_WAIT_POLICY"] = "PASSIVE"
    quota = cgroup_quota()
    if quota is not None:  # which OpenMP does not ask; affinity it does
        environ.setdefault("OMP_NUM_THREADS", str(usable_cpus()))
