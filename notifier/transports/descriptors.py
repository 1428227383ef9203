"""Open files: how many connections there may be, so that probes, the broker and files find room."""

import resource
from typing import Final

RESERVED: Final = 64


def most_connections() -> int:
    """Take as many open files as the system grants, and say how many connections that leaves room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    granted = 1_048_576 if hard == resource.RLIM_INFINITY else hard
    return max(granted - RESERVED, granted // 2)
