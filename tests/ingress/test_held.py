"""Messages that wait for the allowance of their tenants."""

from datetime import timedelta
from math import inf
from typing import Any, cast

from notifier.core.errors import LimitExceeded
from notifier.core.identity import Tenant
from notifier.ingress.held import HELD_BYTES, Held
from notifier.ingress.requests import Taken
from tests.core.builders import envelope


class Message:
    """As much of a message as is looked at."""

    def __init__(self, body: bytes) -> None:
        self.body = body


class Allowance:
    """What each tenant may still send; more comes when told."""

    def __init__(self, **left: int) -> None:
        self.left = left
        self.now = 100.0

    async def spend(self, tenant: Tenant, cost: int) -> None:
        if self.left.get(tenant, 0) < cost:
            raise LimitExceeded("rate_limited", "", retry_after=timedelta(seconds=1))
        self.left[tenant] -= cost

    def held(self, capacity: int = 10) -> Held:
        return Held(self.spend, capacity=capacity, monotonic=lambda: self.now)


def taken(tenant: str, body: bytes = b"{}", count: int = 1) -> Taken:
    return Taken(cast(Any, Message(body)), [envelope(tenant=Tenant(tenant))] * count)


async def test_one_tenant_waits_in_its_order_and_the_others_pass() -> None:
    allowance = Allowance(red=1, blue=9)
    held = allowance.held()
    reds, blues = [taken("red") for _ in range(4)], [taken("blue") for _ in range(4)]

    passed = [each for pair in zip(reds, blues, strict=True) for each in pair if await held.passes(each)]
    assert passed == [reds[0], *blues]
    assert (len(held), held.due_at) == (3, 101.0)

    allowance.left["red"] = 2
    assert await held.due() == []
    allowance.now = 101.0
    assert await held.due() == reds[1:3]
    assert not await held.passes(late := taken("red"))
    allowance.left["red"], allowance.now = 9, 102.0
    assert await held.due() == [reds[3], late]
    assert (len(held), held.due_at) == (0, inf)


async def test_what_comes_behind_one_that_waits_waits_as_well_though_there_is_enough_for_it() -> None:
    allowance = Allowance(red=5)
    held = allowance.held()

    assert not await held.passes(taken("red", count=6))
    assert not await held.passes(taken("red"))


async def test_what_cannot_be_sent_costs_nothing_and_does_not_wait() -> None:
    held = Allowance().held()
    await held.passes(taken("red"))

    assert await held.passes(
        Taken(cast(Any, Message(b"no json")), error=LimitExceeded("e", "", retry_after=timedelta(0)))
    )


async def test_there_is_room_for_so_many_and_for_so_much() -> None:
    for body, capacity in ((b"{}", 2), (b"x" * (HELD_BYTES // 2), 10)):
        held = Allowance().held(capacity)
        await held.passes(taken("red", body))
        assert held.has_room
        await held.passes(taken("red", body))
        assert not held.has_room

        held.clear()
        assert (held.has_room, len(held), held.due_at) == (True, 0, inf)
