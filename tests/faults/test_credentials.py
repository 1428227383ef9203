"""T-26: the broker no longer takes the password of a replica, or no longer lets it do what it must."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from notifier.broker.topology import Names
from tests.faults.cluster import Baseline, Cluster, Place
from tests.faults.conftest import BROKER_PASSWORD, Report, Scale, broker_user
from tests.service.client import eventually

pytestmark = pytest.mark.asyncio(loop_scope="package")

NOTICE_SECONDS = 15.0
UNREACHABLE = "degraded: journal_unavailable"
DEAF_SECONDS = 22.5  # One and a half times the silence after which a consumer is built anew.
RECOVERY_SECONDS = 15.0


async def test_what_the_broker_refuses_is_said_and_is_mended_without_a_restart(
    proxied_cluster: Cluster, scale: Scale, report: Report
) -> None:
    """One replica may not read any more; meanwhile the others lose their passwords, and then the right to write."""
    cluster = proxied_cluster
    keeps, deaf, fails = cluster.places
    broker, names, baseline = cluster.broker, Names(cluster.prefix), await Baseline.of(cluster)
    load = {"sessions": scale(30, 300), "rate": scale(20.0, 100.0), "seconds": scale(10.0, 40.0), "seed": 26}
    async with cluster.proof(retry_seconds=90.0, **load) as proof, _given_back(cluster):
        await proof.sent(20)
        await _change(broker.set_permissions, deaf, read=_all_but(names.stream))

        for place in (keeps, fails):
            await _change(broker.change_password, place, "another password")
        await asyncio.gather(
            *(_said(place, "ACCESS_REFUSED", "Login was refused") for place in (keeps, fails)),
            _says(keeps, 200, UNREACHABLE),
            _says(fails, 503, UNREACHABLE),
        )
        for place in (keeps, fails):
            await _change(broker.change_password, place, BROKER_PASSWORD)
        await asyncio.gather(*(_says(place, 200, "ok") for place in (keeps, fails)))

        for place in (keeps, fails):
            await _change(broker.set_permissions, place, write=_all_but(names.journal))
        await asyncio.gather(
            *(_said(place, "ACCESS_REFUSED", names.journal, broker_user(place)) for place in (keeps, fails)),
            _says(keeps, 200, UNREACHABLE),
            _says(fails, 503, UNREACHABLE),
        )
        for place in (keeps, fails):
            await _change(broker.set_permissions, place)

        await _said(deaf, "ACCESS_REFUSED", names.stream, broker_user(deaf))
        await _says(deaf, 503, "deaf", within_seconds=DEAF_SECONDS + NOTICE_SECONDS)
        assert [(await place.probe("/livez"))[0] for place in cluster.places] == [200] * 3
        await _change(broker.set_permissions, deaf)
        await cluster.all_following(within_seconds=RECOVERY_SECONDS)
        await proof.all_restored(within_seconds=RECOVERY_SECONDS)
        await proof.settle()
        verdict = proof.verdict()
    report(verdict)

    assert verdict.is_clean, verdict
    assert verdict.unknown == 0
    assert proof.closed_codes == Counter()
    assert BROKER_PASSWORD not in str([place.log_lines() for place in cluster.places])
    await baseline.restored(within_seconds=RECOVERY_SECONDS)
    assert cluster.complaints() == []


async def _change(change: Callable[..., None], place: Place, *arguments: str, **patterns: str) -> None:
    """Change something about the user of a replica, and end its connections: open ones go by what they were granted."""
    assert place.proxy is not None
    await asyncio.to_thread(change, broker_user(place), *arguments, **patterns)
    place.proxy.reset_connections()


@asynccontextmanager
async def _given_back(cluster: Cluster) -> AsyncIterator[None]:
    """Give every user back what is its own, however the block ends."""
    try:
        yield
    finally:
        for place in cluster.places:
            await asyncio.to_thread(cluster.broker.change_password, broker_user(place), BROKER_PASSWORD)
            await asyncio.to_thread(cluster.broker.set_permissions, broker_user(place))


async def _says(place: Place, status: int, journal: str, *, within_seconds: float = NOTICE_SECONDS) -> None:
    """Wait until `/readyz` answers so, and says so of the journal."""

    async def does_say() -> bool:
        answered, state = await place.probe("/readyz")
        return (answered, state["checks"]["journal"]) == (status, journal)

    await eventually(does_say, within_seconds)


async def _said(place: Place, *words: str) -> None:
    """Wait until one line of the log has all of the words in its reason."""

    async def does_say() -> bool:
        reasons = [str(line.get("reason")) for line in place.log_lines()]
        return any(all(word in reason for word in words) for reason in reasons)

    await eventually(does_say, NOTICE_SECONDS)


def _all_but(name: str) -> str:
    """A permission for everything but one name."""
    return f"^(?!{re.escape(name)}$)"
