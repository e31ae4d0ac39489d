"""What Linux says of memory: how much is free, under which limits, and what this process took."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["free_memory", "taken_memory"]


@dataclass(frozen=True)
class _Accounts:
    """The files in which a version of control groups keeps limits and use of memory."""

    mount: str
    limits: tuple[str, ...]
    used: str
    # Of the used bytes, those of files that the kernel drops when memory runs short.
    droppable: str


# Where systemd, Docker and Slurm mount them. Beyond memory.high the kernel slows a process down.
_UNIFIED = _Accounts(
    "sys/fs/cgroup", ("memory.max", "memory.high"), "memory.current", "inactive_file"
)
_MEMORY_ALONE = _Accounts(
    "sys/fs/cgroup/memory",
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    "total_inactive_file",
)


def taken_memory(root: Path = Path("/")) -> float:
    """Return the bytes of anonymous memory that this process holds; infinity if none says so.

    Examples
    --------
    >>> from zmanifold._base.free_memory import taken_memory
    >>> taken_memory() > 0
    True
    """
    return 1024 * _number(root / "proc/self/status", r"^RssAnon:\s*(\d+) kB")


def free_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process can take without swapping or a limit of its containers.

    A control group's limit holds for all processes of the group and of those within it, so that
    the least that is left in any of a process's groups, up to the outermost, is what it can take.
    Systems other than Linux have no such files. There the result is 2 GiB.

    Examples
    --------
    >>> from zmanifold._base.free_memory import free_memory
    >>> free_memory() > 0
    True
    """
    machine = 1024 * _number(root / "proc/meminfo", r"^MemAvailable:\s*(\d+) kB")
    free = min([machine, *(_left(folder, accounts) for folder, accounts in _groups(root))])
    return max(0, int(free)) if math.isfinite(free) else 2**31


def _groups(root: Path) -> Iterator[tuple[Path, _Accounts]]:
    """Yield the folders of this process's groups, each from the innermost to the outermost.

    A container sees its own group at the mount, but may be told its path outside: folders of that
    path that are missing here have no files, and the mount itself comes last.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        # number:controllers:path, where the unified hierarchy has no controllers.
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        accounts = _MEMORY_ALONE if controllers else _UNIFIED
        mount = root / accounts.mount
        # A process outside the part that is mounted has a path that begins with "..".
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts), -1, -1):
            yield mount.joinpath(*parts[:depth]), accounts


def _left(folder: Path, accounts: _Accounts) -> float:
    limit = min(_number(folder / name, r"^(\d+)") for name in accounts.limits)
    if math.isinf(limit):
        return limit
    used = _number(folder / accounts.used, r"^(\d+)")
    droppable = _number(folder / "memory.stat", rf"^{accounts.droppable} (\d+)")
    used -= droppable if math.isfinite(droppable) else 0
    return limit - used if math.isfinite(used) else limit


def _number(path: Path, pattern: str) -> float:
    """Return a number from a status file; infinity if the file or the number is absent."""
    try:
        found = re.search(pattern, path.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) if found else math.inf
