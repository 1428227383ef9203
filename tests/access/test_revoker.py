"""The revoker on a hub: which sessions end, in how many stretches, and what its caller hears."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from notifier.access.revocations import Revocations
from notifier.access.revoker import AHEAD_SECONDS, KIND, Revoker, Wish
from notifier.core.control import Control, ControlRecord
from notifier.core.errors import InvalidNotification, NotFound, Unavailable
from notifier.core.ports import CloseReason
from notifier.journal.control import MemoryControl
from tests.core.builders import ACME, OTHER, identity
from tests.core.world import Client, World

LIFE = 100.0


class Replica:
    """A hub and its revoker; `control` is shared by those that are one installation."""

    def __init__(self, control: Control, *, capacity: int = 100) -> None:
        self.world = World()
        self.revocations = Revocations(capacity=capacity, clock=self.world.clock)
        self.revoker = Revoker(
            control,
            self.revocations,
            self.world.hub,
            token_life_seconds=LIFE,
            clock=self.world.clock,
            later=self.world.loop.call_later,
        )

    def join(self, user: str, token_id: str = "t", *, issued_at: float = 900.0, tenant: str = ACME) -> Client:
        who = replace(identity(user, tenant=tenant), token_id=token_id, issued_at=issued_at)  # type: ignore[arg-type]
        client = self.world.join(who)
        self.world.connect(client)
        return client


@asynccontextmanager
async def running(**options: int) -> AsyncIterator[Replica]:
    control = Control(MemoryControl())
    replica = Replica(control, **options)
    tasks = [asyncio.create_task(control.follow_control()), asyncio.create_task(replica.revoker.run())]
    try:
        yield replica
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def ended(*clients: Client) -> list[CloseReason | None]:
    return [client.outlet.closed for client in clients]


REVOKED = CloseReason.TOKEN_REVOKED


async def test_a_user_ends_by_name_and_tenant_and_by_when_its_tokens_were_issued() -> None:
    async with running() as replica:
        one, two = replica.join("alice"), replica.join("alice", issued_at=950.0)
        bob, namesake = replica.join("bob"), replica.join("alice", tenant=OTHER)
        await replica.revoker.revoke(Wish(ACME, "user", "alice", 940.0))
        before = ended(one, two, bob, namesake)
        receipt = await replica.revoker.revoke(Wish(ACME, "user", "alice"))

    assert before == [REVOKED, None, None, None]
    assert ended(one, two, bob, namesake) == [REVOKED, REVOKED, None, None]
    assert (receipt.expires_at, receipt.is_durable) == (1_001 + LIFE, False)


async def test_a_session_that_went_on_under_a_fresh_token_stays() -> None:
    """The token it began with was revoked since: that is none of its business any more."""
    async with running() as replica:
        alice = replica.join("alice", "old")
        assert alice.session is not None
        replica.world.hub.refresh(alice.session, replace(alice.session.identity, token_id="new"), frozenset())
        await replica.revoker.revoke(Wish(ACME, "token", "old"))
        before = ended(alice)
        await replica.revoker.revoke(Wish(ACME, "token", "new"))

    assert (before, ended(alice)) == ([None], [REVOKED])


async def test_everyone_of_a_tenant_ends_in_stretches() -> None:
    """Thousands of them must not hold the event loop; who comes between two stretches is refused."""
    async with running() as replica:
        clients = [replica.join(f"u{number}", f"t{number}") for number in range(50)]
        other = replica.join("u0", tenant=OTHER)
        replica.world.monotonic.now += 1
        await replica.revoker.revoke(Wish(ACME, "everyone", "", 1_000.0))
        refused = replica.revoker.covers(replace(identity("late"), issued_at=999.0))
        while any(client.outlet.closed is None for client in clients):
            replica.world.loop.turn()

    assert set(ended(*clients)) == {REVOKED}
    assert (refused, ended(other)) == (True, [None])


async def test_a_session_is_revoked_with_its_token_by_the_replica_that_has_it() -> None:
    async with running() as replica:
        alice, elsewhere = replica.join("alice", "hers"), replica.join("alice", "hers", tenant=OTHER)
        assert alice.session is not None
        assert elsewhere.session is not None
        await replica.revoker.revoke(Wish(ACME, "session", alice.session.id))
        again = await replica.revoker.revoke(Wish(ACME, "session", alice.session.id))
        with pytest.raises(NotFound):
            await replica.revoker.revoke(Wish(ACME, "session", elsewhere.session.id))

    assert (ended(alice, elsewhere), again.tenant) == ([REVOKED, None], ACME)
    assert replica.revoker.covers(alice.identity)


async def test_what_cannot_be_held_is_refused_before_anybody_is_told() -> None:
    async with running(capacity=2) as replica:
        await replica.revoker.revoke(Wish(ACME, "user", "a"))
        with pytest.raises(Unavailable, match="revocations_full"):
            await replica.revoker.revoke(Wish(ACME, "user", "b"))
        with pytest.raises(InvalidNotification, match="issued_before"):
            await replica.revoker.revoke(Wish(ACME, "user", "a", 1_000.0 + AHEAD_SECONDS + 1))

    assert len(replica.revocations) == 1


async def test_a_record_that_says_nothing_is_passed_over() -> None:
    async with running() as replica:
        control = replica.revoker._control
        await control.tell(ControlRecord(KIND, {"by": "user"}))
        await replica.revoker.revoke(Wish(ACME, "user", "alice"))

    assert (control.skipped, len(replica.revocations)) == (1, 1)
