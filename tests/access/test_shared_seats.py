"""The seats of several replicas in a real Redis, which is killed, frozen and emptied: T-41, T-43."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Literal, TypeVar

import pytest

from notifier.access.seats import SeatLimits, Seats
from notifier.access.shared import Shared
from notifier.access.shared_seats import SharedSeats
from notifier.core.errors import LimitExceeded
from notifier.core.identity import Identity, Tenant
from tests.core.builders import identity
from tests.redis import RedisServer

ROOMY = SeatLimits(per_address=5_000, per_tenant=10_000, per_user=10_000)
AWAY_SECONDS = 0.2
PATIENCE_SECONDS = 2.0  # The machine of the tests is busy.
ACME = Tenant("acme")
Answer = TypeVar("Answer")


class Hurried(Shared):
    """One whose process has no time for answers, or not even for questions, when told so."""

    misses: Literal["nothing", "answers", "questions"] = "nothing"

    async def ask(self, question: Callable[[], Awaitable[Answer]]) -> Answer | None:
        if self.misses == "questions":
            return None
        answer = await super().ask(question)
        return answer if self.misses == "nothing" else None


class Member:
    """One replica's seats, and the sessions that it was told to close."""

    def __init__(
        self, redis: RedisServer, prefix: str, limits: SeatLimits, lives_seconds: float, patience: float
    ) -> None:
        self.closed: list[str] = []
        self.shared = Hurried(redis.url, prefix=prefix, patience_seconds=patience, away_seconds=AWAY_SECONDS)
        self.register = SharedSeats(
            self.shared, seats=lambda: self.seats, evict=self._evict, lives_seconds=lives_seconds
        )
        self.seats = Seats(limits, close=self._close, shared=self.register)

    def _close(self, session: str) -> None:
        self.closed.append(session)
        self.seats.leave(ACME, session)

    def _evict(self, session: str) -> None:
        self.seats.evict(session)

    async def take(self, user: str = "ann", address: str = "192.0.2.1") -> str:
        session = await self.seats.take(someone(user), address)
        taken_at = time.time()
        await until(lambda: time.time() - taken_at > 0.001)  # Who was first is told by milliseconds.
        return session

    async def is_full(self, user: str = "ann") -> bool:
        """Whether there is no seat for the user now."""
        try:
            self.seats.leave(ACME, await self.take(user))
        except LimitExceeded:
            return True
        return False


def someone(user: str) -> Identity:
    return identity(user, tenant=ACME)


def users_of(keys: Iterable[bytes]) -> set[str]:
    return {key.decode().split(":")[-2] for key in keys}


async def until(holds: Callable[[], bool], within_seconds: float = 5.0) -> None:
    async with asyncio.timeout(within_seconds):
        while not holds():  # noqa: ASYNC110 - Redis tells nobody
            await asyncio.sleep(0.01)


async def until_free(member: Member, user: str = "ann", within_seconds: float = 5.0) -> None:
    async with asyncio.timeout(within_seconds):
        while await member.is_full(user):  # noqa: ASYNC110 - Redis tells nobody
            await asyncio.sleep(0.01)


@asynccontextmanager
async def members(
    redis: RedisServer,
    prefix: str,
    count: int,
    limits: SeatLimits = ROOMY,
    *,
    lives_seconds: float = 10.0,
    patience: float = PATIENCE_SECONDS,
) -> AsyncIterator[list[Member]]:
    """So many replicas that have reached Redis."""
    joined = [Member(redis, prefix, limits, lives_seconds, patience) for _ in range(count)]
    tasks = [asyncio.create_task(member.register.run()) for member in joined]
    try:
        await until(lambda: all(member.shared.is_there for member in joined))
        yield joined
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("kind", ["user", "tenant", "address"])
async def test_a_limit_holds_across_replicas_and_a_freed_seat_is_taken_elsewhere(
    redis: RedisServer, prefix: str, kind: str
) -> None:
    """T-41: one that is given back is free on every replica within a second."""
    numbers = {"address": 99, "tenant": 99, "user": 99, kind: 2}
    limits = SeatLimits(numbers["address"], numbers["tenant"], numbers["user"])
    async with members(redis, prefix, 2, limits) as (one, two):
        first = await one.take()
        await two.take()

        assert await one.is_full()
        assert await two.is_full()
        assert two.seats.refused == {(kind,): 1}
        one.seats.leave(ACME, first)
        await until_free(two, within_seconds=1)


async def test_the_oldest_session_gives_way_wherever_it_is(redis: RedisServer, prefix: str) -> None:
    limits = SeatLimits(per_address=99, per_tenant=99, per_user=2, evicts=True)
    async with members(redis, prefix, 3, limits) as (one, two, three):
        oldest, second = await one.take(), await two.take()

        third = await three.take()
        await until(lambda: one.closed == [oldest], within_seconds=2)
        fourth = await two.take()
        fifth = await two.take()

        await until(lambda: two.closed == [second], within_seconds=0.5)  # At once: it is here.
        await until(lambda: three.closed == [third], within_seconds=2)
        assert [seat.session for seat in two.seats] == [fourth, fifth]
        assert sum(len(member.seats) for member in (one, two, three)) == 2


async def test_those_who_come_at_once_do_not_all_find_the_last_seat(redis: RedisServer, prefix: str) -> None:
    limits = SeatLimits(per_address=99, per_tenant=99, per_user=5)
    async with members(redis, prefix, 3, limits) as all_three:
        takes = [member.take() for member in all_three for _ in range(10)]
        outcomes = await asyncio.gather(*takes, return_exceptions=True)

        assert sum(isinstance(outcome, str) for outcome in outcomes) == 5
        assert {type(outcome) for outcome in outcomes} == {str, LimitExceeded}


async def test_the_sessions_of_a_replica_that_crashed_are_free_after_a_while(redis: RedisServer, prefix: str) -> None:
    """Ten seconds, as replicas are set; here two."""
    limits = SeatLimits(per_address=99, per_tenant=99, per_user=1)
    async with members(redis, prefix, 1, limits, lives_seconds=2) as (survivor,):
        async with members(redis, prefix, 1, limits, lives_seconds=2) as (crashed,):
            await crashed.take()
            assert await survivor.is_full()

        await until_free(survivor)


async def test_what_was_taken_while_redis_was_away_is_entered_when_it_is_back(redis: RedisServer, prefix: str) -> None:
    """T-43: killed, with all that it held. More than a call carries, and given back meanwhile."""
    limits = SeatLimits(per_address=9_999, per_tenant=9_999, per_user=2)
    async with members(redis, prefix, 2, limits) as (one, two):
        await one.take()
        for number in range(600):
            await one.seats.take(someone(f"user-{number}"), f"2001:db8:0:{number:x}::1")
        redis.kill()
        assert not await two.is_full()
        await until(lambda: not one.shared.is_there and not two.shared.is_there)
        await one.take()
        assert await one.is_full()  # By its own count.
        assert not await two.is_full()

        redis.start()
        await until(lambda: one.shared.is_there and two.shared.is_there)

        assert await two.is_full()
        assert [member.shared.losses for member in (one, two)] == [1, 1]


@pytest.mark.parametrize("evicts", [False, True])
async def test_a_frozen_redis_costs_a_moment_once_and_no_limit(redis: RedisServer, prefix: str, evicts: bool) -> None:
    """T-43: 50 ms, for those who ask at that moment."""
    limits = SeatLimits(per_address=99, per_tenant=99, per_user=1, evicts=evicts)
    async with members(redis, prefix, 1, limits, patience=0.05) as (member,):
        redis.suspend()
        try:
            loop = asyncio.get_running_loop()
            began = loop.time()
            first = await member.take()
            assert loop.time() - began < 0.5
            began = loop.time()
            with suppress(LimitExceeded):
                await member.take()
            assert loop.time() - began < 0.04

            assert (len(member.seats), member.closed) == (1, [first] if evicts else [])
        finally:
            redis.resume()
        await until(lambda: member.shared.is_there)
        member.seats.leave(ACME, next(iter(member.seats)).session)
        await until_free(member, within_seconds=2)  # It does not count twice, under the name that it had before.


async def test_the_oldest_gives_way_though_nobody_heard_the_answer(redis: RedisServer, prefix: str) -> None:
    """Redis has forgotten it by then: it would stay open, and no limit would count it."""
    limits = SeatLimits(per_address=99, per_tenant=99, per_user=2, evicts=True)
    async with members(redis, prefix, 2, limits) as (one, two):
        oldest, second = await one.take(), await two.take()

        one.shared.misses = "answers"
        third = await one.take()

        await until(lambda: one.closed == [oldest], within_seconds=2)
        assert [seat.session for member in (one, two) for seat in member.seats] == [third, second]
        assert one.seats.evicted == {("shared",): 1}


async def test_a_late_seat_that_is_left_before_it_was_entered_is_free(redis: RedisServer, prefix: str) -> None:
    """It comes and goes while Redis is told of another: entered after it was freed, it would count for ever."""
    async with members(redis, prefix, 1) as (member,):
        left = await member.take()
        redis.suspend()
        try:
            member.seats.leave(ACME, left)
            await until(lambda: not member.shared.woken.is_set())  # Redis is being told.
            member.shared.misses = "questions"
            member.seats.leave(ACME, await member.take("brief"))
            await member.take("stays", "192.0.2.2")
        finally:
            redis.resume()

        async with asyncio.timeout(5):
            while users_of(await member.shared.client.keys(f"{prefix}:seats:user:*")) != {"stays"}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # Between two looks: Redis tells nobody.


async def test_a_redis_that_lost_everything_is_told_again(redis: RedisServer, prefix: str) -> None:
    """As one that was restarted between two questions, or was flushed."""
    limits = SeatLimits(per_address=99, per_tenant=99, per_user=1)
    async with members(redis, prefix, 2, limits) as (one, two):
        await one.take()
        await one.shared.client.flushall()

        await until(lambda: one.shared.losses == two.shared.losses == 1, within_seconds=3)
        await until(lambda: one.shared.is_there and two.shared.is_there)

        assert await two.is_full()


async def test_a_wrong_password_is_no_error_for_anybody(redis: RedisServer, prefix: str) -> None:
    shared = Shared(redis.url.replace("of-the-tests", "wrong"), prefix=prefix, away_seconds=AWAY_SECONDS)
    register = SharedSeats(shared, seats=lambda: iter(()), evict=lambda _: None)
    seats = Seats(ROOMY, close=lambda _: None, shared=register)
    running = asyncio.create_task(register.run())
    try:
        await seats.take(someone("ann"), None)
        await asyncio.wait([running], timeout=AWAY_SECONDS * 2)

        assert not running.done()
        assert not shared.is_there
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_seats_that_come_and_go_without_end_leave_nothing_behind(redis: RedisServer, prefix: str) -> None:
    async with members(redis, prefix, 2) as (one, two):
        users = itertools.cycle(f"user-{number}" for number in range(7))
        for member in (one, two) * 150:
            member.seats.leave(ACME, await member.seats.take(someone(next(users)), None))

        async with asyncio.timeout(5):
            while keys := await one.shared.client.keys(f"{prefix}:seats:*"):  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.01)
        assert keys == []
