"""Host memory: the machine's, or what the container's control groups allow."""

from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def host_memory() -> tuple[int, int]:
    """(total, free) bytes."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    for limit, used in cgroup_limits():
        total, free = min(total, limit), min(free, max(0, limit - used))
    return total, free


def cgroup_limits(root: Path = CGROUP_ROOT, own_cgroup: Path = OWN_CGROUP) -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of every control group above this process that limits its memory.

    Page cache that can be dropped does not count as used. Reads both versions of control groups.
    """
    try:
        lines = own_cgroup.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = base / path.lstrip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(base):
                yield from _read_limit(group, *names)


def _read_limit(group: Path, limit_file: str, usage_file: str, cache_key: str) -> Iterator[tuple[int, int]]:
    try:
        limit = int((group / limit_file).read_text())
        used = int((group / usage_file).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or no limit ("max")
        return
    yield limit, used - int(stat.get(cache_key, "0"))
