"""The server under measurement: the real command on a core of its own, with limits out of the way."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.benchmarks.load import Load
from tests.benchmarks.machine import SERVER_CORE, pinned_to
from tests.replica import Replica

SETTINGS: Final = {
    # The limits are counted as ever; they are only never reached.
    "NOTIFIER_LIMITS__ADDRESS": "1000000/second",
    "NOTIFIER_LIMITS__SEND": "1000000/second",
    "NOTIFIER_LIMITS__BATCH": "1000000/second",
    "NOTIFIER_LIMITS__BROADCAST": "1000000/second",
    "NOTIFIER_SESSIONS__MAX_TOTAL": "100000",
    # The load answers no pings, and a heartbeat in some of the measured stretches would only blur them.
    "NOTIFIER_SESSIONS__HEARTBEAT_SECONDS": "600",
}


@contextmanager
def fresh_server() -> Iterator[Load]:
    """Start a replica, give the load for it, and stop it."""
    with TemporaryDirectory(prefix="notifier-bench-") as name:
        directory = Path(name)
        with pinned_to(SERVER_CORE):
            server = Replica(directory / "server.log", SETTINGS)
        try:
            yield Load(server, directory)
        finally:
            server.stop(signal.SIGKILL)  # An orderly end closes each session, and is not what is measured.
