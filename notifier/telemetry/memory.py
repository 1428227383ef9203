"""How much memory this process may take, as its control group says."""

from math import inf
from pathlib import Path
from typing import Final

LIMIT_FILES: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
UNLIMITED_BYTES: Final = 2**60  # The first version of control groups says a number near 2**63 for none.


def memory_limit_bytes() -> float:
    """The limit in bytes; infinite without one, so that a share of it is nothing."""
    for path in LIMIT_FILES:
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):  # Not this version, or `max`.
            continue
        return limit if limit < UNLIMITED_BYTES else inf
    return inf
