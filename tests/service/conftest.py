"""Fixtures of the service tests: replicas in processes of their own, and an HTTP client to send with."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext

from tests.replica import Replica
from tests.service.browser import open_browser
from tests.service.tabs import profile
from tests.tokens import bearer

StartReplica = Callable[..., Replica]


on_both_paths = pytest.mark.parametrize("module", ["notifier", "tests.ordinary"], indirect=True, scope="module")
"""For modules about sessions: once as our server keeps them, and once as any other would."""


@pytest.fixture(scope="module", autouse=True)
def module(request: pytest.FixtureRequest) -> str:
    """The module that replicas run: the service itself, unless a test asks for another."""
    name: str = getattr(request, "param", "notifier")
    return name


@pytest.fixture
def start_replica(tmp_path: Path, module: str) -> Iterator[StartReplica]:
    """A function that starts a replica; settings are keyword arguments without the NOTIFIER_ prefix."""
    replicas: list[Replica] = []

    def start(**settings: str) -> Replica:
        named = {f"NOTIFIER_{name}": value for name, value in settings.items()}
        replicas.append(Replica(tmp_path / f"replica-{len(replicas)}.log", named, module=module))
        return replicas[-1]

    yield start
    for replica in replicas:
        replica.stop()


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory, module: str) -> Iterator[Replica]:
    """One replica for all tests of a module; each takes users, topics or tenants of its own."""
    replica = Replica(tmp_path_factory.mktemp("replica") / "replica.log", module=module)
    yield replica
    replica.stop()


@pytest.fixture
async def backend(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    """A backend that may send and broadcast, talking to the module's replica."""
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer(), verify=False) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A real Chromium for all tests of a module, which run in one loop."""
    async with open_browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """What the tabs of one user share."""
    async with profile(browser) as context:
        yield context
