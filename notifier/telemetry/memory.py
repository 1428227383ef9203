"""How much memory this process may take, as its control group says, and how much it takes."""

import resource
from math import inf
from pathlib import Path
from typing import Final

GROUPS: Final = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file",
    ),
)
"""By version of control groups: the limit, what is taken, and what part of that the kernel would give back."""
UNLIMITED_BYTES: Final = 2**60  # The first version of control groups says a number near 2**63 for none.


def memory_limit_bytes() -> float:
    """The limit in bytes; infinite without one, so that a share of it is nothing."""
    for path, *_ in GROUPS:
        try:
            limit = int(Path(path).read_text())
        except (OSError, ValueError):  # Not this version, or `max`.
            continue
        return limit if limit < UNLIMITED_BYTES else inf
    return inf


def memory_share(limit_bytes: int = 0) -> float:
    """The part of the memory that is taken: of the control group, buffers of its sockets included, or of a given limit.

    What the kernel would give back at once, pages of files that nobody used lately, is not counted.
    """
    if limit_bytes:
        return _resident_bytes() / limit_bytes
    most_bytes = memory_limit_bytes()
    return 0.0 if most_bytes == inf else _group_bytes() / most_bytes


def _group_bytes() -> int:
    for _, current, stat, idle in GROUPS:
        try:
            used, numbers = int(Path(current).read_text()), Path(stat).read_text().split()
        except (OSError, ValueError):
            continue
        return used - int(dict(zip(numbers[::2], numbers[1::2], strict=False)).get(idle, 0))
    return _resident_bytes()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
