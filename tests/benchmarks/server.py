"""The server under measurement: the real command on a core of its own, with limits out of the way."""

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.benchmarks.load import Load, Target
from tests.benchmarks.machine import SERVER_CORE, pinned_to
from tests.replica import Replica

SETTINGS: Final = {
    # The limits are counted as ever; they are only never reached.
    "NOTIFIER_LIMITS__ADDRESS": "1000000/second",
    "NOTIFIER_LIMITS__ADDRESS_HANDSHAKES": "1000000/second",
    "NOTIFIER_LIMITS__HANDSHAKES": "1000000/second",
    "NOTIFIER_LIMITS__TENANT": "1000000/second",
    "NOTIFIER_SESSIONS__MAX_PER_ADDRESS": "100000",
    "NOTIFIER_OVERLOAD__LOOP_LAG_SECONDS": "60",
    "NOTIFIER_LIMITS__SEND": "1000000/second",
    "NOTIFIER_LIMITS__BATCH": "1000000/second",
    "NOTIFIER_LIMITS__BROADCAST": "1000000/second",
    "NOTIFIER_SESSIONS__MAX_TOTAL": "100000",
    # The load answers no pings, and a heartbeat in some of the measured stretches would only blur them.
    "NOTIFIER_SESSIONS__HEARTBEAT_SECONDS": "600",
}
WELCOME: Final = 1  # What a session receives before it is open.


@contextmanager
def fresh_server(
    template: bytes = b"", *, settings: Mapping[str, str] | None = None, module: str = "notifier"
) -> Iterator[Load]:
    """Start a replica, give the load for it, and stop it."""
    with TemporaryDirectory(prefix="notifier-bench-") as name:
        directory = Path(name)
        with pinned_to(SERVER_CORE):
            server = Replica(directory / "server.log", {**SETTINGS, **(settings or {})}, module=module)
        try:
            yield Load(target([server], template), directory)
        finally:
            server.stop(signal.SIGKILL)  # An orderly end closes each session, and is not what is measured.


def target(replicas: Sequence[Replica], template: bytes) -> Target:
    """Replicas as the load sees them: sessions go to each in turn, and the requests to the first."""
    return Target(
        ports=[replica.port for replica in replicas],
        pids=[replica.process.pid for replica in replicas],
        template=template,
        path="/ws",
        header="Sec-WebSocket-Protocol: notifier.v1",
        opening_messages=WELCOME,
        log_paths=[replica.log_path for replica in replicas],
    )


def resuming(load: Load, position: str, *, missed: int) -> Load:
    """The same server, to sessions that come back from a position and have missed so many notifications."""
    return replace(
        load,
        target=replace(load.target, path=f"/ws?position={position}", opening_messages=WELCOME + missed),
    )


def offering(load: Load, extension: str) -> Load:
    """The same server, to sessions that offer an extension and do not go on without it."""
    return replace(load, target=replace(load.target, extension=extension))
