"""What `make bench` and `make bench-peers` share: notifier's own figures, and what both ask of machine and options."""

from collections.abc import Callable
from functools import partial
from typing import Final

from tests.benchmarks import broker, machine, sending
from tests.benchmarks.figure import Figure
from tests.benchmarks.holding import holding
from tests.benchmarks.load import LoadFailed
from tests.benchmarks.resuming import resume

Benchmark = Callable[[], list[Figure]]

MANY_SESSIONS: Final = [1_000, 5_000, 15_000]
SPARE_FILES: Final = 1_000  # Beside the sessions, in the server and in the load.


def own_benchmarks(idle: int) -> dict[str, Benchmark]:
    """What is measured of the service alone, for the targets too; `idle` sessions where many are meant."""
    return {
        "post": sending.post,
        "batch": sending.batch,
        "latency": sending.latency,
        "queue": broker.queue_to_screen,
        "following": broker.following,
        "holding": partial(holding, idle),
        "resume": partial(resume, idle),
    }


def require_files(count: int) -> None:
    """Allow as many open files as the system lets us. Raises LoadFailed when so many sessions do not fit."""
    files = machine.raise_file_limit()
    if count + SPARE_FILES > files:
        raise LoadFailed(f"{count:,} sessions do not fit into {files:,} open files (ulimit -Hn)")


def positive(text: str) -> int:
    """Read an option that is a number above 0."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
