"""Sessions per address, tenant and user on one replica: T-41."""

import asyncio
from collections.abc import Sequence

import pytest

from notifier.access.seats import Claim, Seat, SeatLimits, Seats
from notifier.core.errors import LimitExceeded
from notifier.core.identity import Identity, Tenant
from tests.core.builders import identity

ROOMY = SeatLimits(per_address=100, per_tenant=100, per_user=100)


class Registry:
    """A register of all replicas that answers as it is told, and notes what it hears."""

    def __init__(self, answers: Sequence[Claim | None]) -> None:
        self.answers = list(answers)
        self.freed: list[str] = []

    async def claim(self, seat: Seat, limits: SeatLimits) -> Claim | None:
        return self.answers.pop(0)

    def free(self, seat: Seat) -> None:
        self.freed.append(seat.session)


def limited(kind: str, count: int, *, evicts: bool = False) -> SeatLimits:
    numbers = {"address": 100, "tenant": 100, "user": 100, kind: count}
    return SeatLimits(numbers["address"], numbers["tenant"], numbers["user"], evicts=evicts)


def someone(user: str, tenant: str = "acme") -> Identity:
    return identity(user, tenant=Tenant(tenant))


async def refused(seats: Seats, identity: Identity, address: str = "192.0.2.1") -> LimitExceeded:
    with pytest.raises(LimitExceeded) as refusal:
        await seats.take(identity, address)
    return refusal.value


@pytest.mark.parametrize("kind", ["user", "tenant", "address"])
async def test_one_more_than_the_limit_is_refused_and_a_freed_seat_is_taken(kind: str) -> None:
    limits = limited(kind, 2)
    seats = Seats(limits, close=lambda _: None)
    first, _ = [await seats.take(someone("ann"), "192.0.2.1") for _ in range(2)]

    error = await refused(seats, someone("ann"))
    assert error.code == "too_many_sessions"
    assert 2 <= error.retry_after.total_seconds() <= 10
    assert seats.refused == {(kind,): 1}

    seats.leave(Tenant("acme"), first)
    await seats.take(someone("ann"), "192.0.2.1")


async def test_limits_are_of_a_tenants_user_and_of_a_network() -> None:
    """Checklist 3.1.7."""
    seats = Seats(SeatLimits(per_address=2, per_tenant=100, per_user=1), close=lambda _: None)

    await seats.take(someone("ann"), "2001:db8::1")
    await seats.take(someone("ann", "other"), "2001:db8::2")
    await refused(seats, someone("ben"), "2001:db8::3")

    await seats.take(someone("ben"), "2001:db8:0:1::1")
    assert (len(seats), len(list(seats))) == (3, 3)


async def test_a_seat_is_given_back_once() -> None:
    seats = Seats(ROOMY, close=lambda _: None)
    taken = await seats.take(someone("ann"), None)
    await seats.take(someone("ann"), None)

    for _ in range(2):
        seats.leave(Tenant("acme"), taken)
        seats.leave(Tenant("nobody"), taken)

    assert len(seats) == 1


@pytest.mark.parametrize("kind", ["user", "tenant"])
async def test_the_oldest_gives_way_where_that_is_the_rule(kind: str) -> None:
    closed: list[str] = []
    limits = limited(kind, 2, evicts=True)
    seats = Seats(limits, close=closed.append)
    users = ["ann", "ann", "ann"] if kind == "user" else ["ann", "ben", "cat"]

    taken = [await seats.take(someone(user), "192.0.2.1") for user in users]

    assert closed == taken[:1]
    assert [seat.session for seat in seats] == taken[1:]
    assert seats.evicted == {(kind,): 1}


async def test_a_session_does_not_open_whose_seat_was_given_away_in_its_handshake() -> None:
    """Nobody could close it yet; it would hold no seat, and no limit would count it."""
    seats = Seats(limited("user", 1, evicts=True), close=lambda _: None)
    first, second, third = [await seats.take(someone("ann"), None) for _ in range(3)]

    assert [seats.occupy(session) for session in (first, second, third)] == [False, False, True]
    assert [seat.session for seat in seats] == [third]


async def test_who_leaves_in_the_handshake_is_forgotten() -> None:
    seats = Seats(ROOMY, close=lambda _: None)
    taken = await seats.take(someone("ann"), None)

    seats.leave(Tenant("acme"), taken)

    assert not seats.occupy(taken)


@pytest.mark.parametrize("answer", [Claim(None), None])
async def test_a_seat_that_is_given_away_while_all_replicas_are_asked_is_free_on_all_of_them(
    answer: Claim | None,
) -> None:
    """Redis counts it once it has answered, or was to, whatever it was told before."""
    asked, answered = asyncio.Event(), asyncio.Event()

    class Slow(Registry):
        async def claim(self, seat: Seat, limits: SeatLimits) -> Claim | None:
            asked.set()
            await answered.wait()
            return await super().claim(seat, limits)

    registry = Slow([answer])
    seats = Seats(limited("user", 1, evicts=True), close=lambda _: None, shared=registry)
    taking = asyncio.create_task(seats.take(someone("ann"), None))
    await asked.wait()
    (seat,) = seats
    seats.evict(seat.session)
    registry.freed.clear()

    answered.set()

    assert not seats.occupy(await taking)
    assert registry.freed == [seat.session]
    assert len(seats) == 0


async def test_an_address_never_makes_another_give_way() -> None:
    """Else whoever shares an address with you could end your session without a token of yours."""
    closed: list[str] = []
    seats = Seats(SeatLimits(per_address=1, per_tenant=9, per_user=9, evicts=True), close=closed.append)
    await seats.take(someone("ann"), "192.0.2.1")

    await refused(seats, someone("ben"), "192.0.2.1")

    assert closed == []


async def test_what_all_replicas_count_is_what_holds() -> None:
    registry = Registry([Claim("user"), Claim(None), None])
    seats = Seats(ROOMY, close=lambda _: None, shared=registry)

    assert (await refused(seats, someone("ann"))).code == "too_many_sessions"
    assert (len(seats), len(registry.freed)) == (0, 1)
    await seats.take(someone("ann"), "192.0.2.1")
    await seats.take(someone("ann"), "192.0.2.1")
    assert len(seats) == 2


async def test_without_an_answer_this_replica_counts_for_itself() -> None:
    """T-43: never an error, and never no limit."""
    for evicts in (False, True):
        closed: list[str] = []
        limits = SeatLimits(per_address=9, per_tenant=9, per_user=1, evicts=evicts)
        seats = Seats(limits, close=closed.append, shared=Registry([None, None]))
        await seats.take(someone("ann"), None)

        if evicts:
            await seats.take(someone("ann"), None)
            assert (len(closed), len(seats)) == (1, 1)
        else:
            await refused(seats, someone("ann"))
