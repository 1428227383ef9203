"""Fixtures of the service tests: replicas in processes of their own, and an HTTP client to send with."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.replica import Replica
from tests.tokens import bearer

StartReplica = Callable[..., Replica]


@pytest.fixture
def start_replica(tmp_path: Path) -> Iterator[StartReplica]:
    """A function that starts a replica; settings are keyword arguments without the NOTIFIER_ prefix."""
    replicas: list[Replica] = []

    def start(**settings: str) -> Replica:
        named = {f"NOTIFIER_{name}": value for name, value in settings.items()}
        replicas.append(Replica(tmp_path / f"replica-{len(replicas)}.log", named))
        return replicas[-1]

    yield start
    for replica in replicas:
        replica.stop()


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """One replica for all tests of a module; each takes users, topics or tenants of its own."""
    replica = Replica(tmp_path_factory.mktemp("replica") / "replica.log")
    yield replica
    replica.stop()


@pytest.fixture
async def backend(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    """A backend that may send and broadcast, talking to the module's replica."""
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer(), verify=False) as client:
        yield client
