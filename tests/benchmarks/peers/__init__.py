"""The servers that notifier is compared with, each from Debian's package, in a configuration that suits it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from tests.benchmarks.load import Load
from tests.benchmarks.peers.mosquitto import mosquitto
from tests.benchmarks.peers.nats import nats
from tests.benchmarks.peers.nchan import nchan

__all__ = ["PEERS", "Peer"]

Peer = Callable[[], AbstractContextManager[Load]]
"""Starts the server on the servers' core, gives the load for it, and stops it."""

PEERS: Final[dict[str, Peer]] = {"nchan": nchan, "NATS": nats, "Mosquitto": mosquitto}
