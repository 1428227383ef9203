"""Closing at a pace: each session is told to come back, then closed, one after the other."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from notifier.core.drain import close_paced
from notifier.core.hub import Hub
from notifier.core.ports import CloseReason
from notifier.core.session import Session
from notifier.core.window import Window
from tests.core.builders import at, identity
from tests.core.fakes import BoundedOutlet, PlainFrames

CLOCK_GRAIN_SECONDS = 0.02


class TimedOutlet(BoundedOutlet):
    """Notes when it was closed, on the loop's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.closed_at = 0.0

    def close(self, reason: CloseReason) -> None:
        super().close(reason)
        self.closed_at = asyncio.get_running_loop().time()


@pytest.fixture
def hub() -> Hub:
    return Hub(Window(at(7), opened_at_ms=0), PlainFrames())


def opened(hub: Hub, number: int) -> tuple[list[Session], list[TimedOutlet]]:
    outlets = [TimedOutlet() for _ in range(number)]
    sessions = [Session(f"s{at}", identity(), (), outlet) for at, outlet in enumerate(outlets)]
    for session in sessions:
        hub.register(session, None)
    return sessions, outlets


async def drain(hub: Hub, sessions: Sequence[Session], *, over_seconds: float = 0.0) -> int:
    return await close_paced(hub, PlainFrames(), sessions, CloseReason.DRAIN, over_seconds=over_seconds)


async def test_each_session_is_told_when_and_where_to_go_on_and_then_closed(hub: Hub) -> None:
    sessions, outlets = opened(hub, 30)

    closed = await drain(hub, sessions)

    assert (closed, len(hub)) == (30, 0)
    for outlet in outlets:
        (frame,) = outlet.written  # A closed outlet takes nothing, so it came before the close.
        assert (frame.kind, frame.position) == ("reconnect", at(7))
        assert (outlet.closed, outlet.closes) == (CloseReason.DRAIN, 1)


async def test_those_who_come_back_are_spread(hub: Hub) -> None:
    sessions, outlets = opened(hub, 200)

    await drain(hub, sessions)

    waits = [outlet.written[0].number for outlet in outlets]
    assert min(waits) >= 100
    assert len(set(waits)) > 50


async def test_the_closes_are_paced_over_the_time(hub: Hub) -> None:
    sessions, outlets = opened(hub, 10)
    began = asyncio.get_running_loop().time()

    await drain(hub, sessions, over_seconds=0.5)

    for number, outlet in enumerate(outlets):
        assert outlet.closed_at - began >= 0.5 * number / 10 - CLOCK_GRAIN_SECONDS


async def test_a_loop_that_was_held_up_does_not_close_all_that_was_due_at_once(hub: Hub) -> None:
    """T-09. 100 in a second, and half a second in which nothing could be done: a quarter of one is made up for."""
    sessions, outlets = opened(hub, 100)
    draining = asyncio.create_task(drain(hub, sessions, over_seconds=1.0))
    await asyncio.sleep(0.1)  # So far into its time the loop is held up.
    time.sleep(0.5)  # noqa: ASYNC251 - what holds up the loop
    held_up_until = asyncio.get_running_loop().time()

    assert await draining == 100
    at_once = sum(0 <= outlet.closed_at - held_up_until < CLOCK_GRAIN_SECONDS for outlet in outlets)
    assert 10 <= at_once <= 25 + 5


async def test_a_session_that_left_by_itself_meanwhile_is_left_alone(hub: Hub) -> None:
    sessions, outlets = opened(hub, 3)
    draining = asyncio.create_task(drain(hub, sessions, over_seconds=0.3))
    await asyncio.sleep(0)

    hub.remove(sessions[2])

    assert await draining == 2
    assert [outlet.closes for outlet in outlets] == [1, 1, 0]


async def test_who_is_asked_to_leave_is_no_longer_counted_among_those_who_stay(hub: Hub) -> None:
    """3 leave and are open until their turn comes; a limit that counted them would refuse them at the next replica."""
    sessions, _ = opened(hub, 5)
    draining = asyncio.create_task(drain(hub, sessions[:3], over_seconds=0.3))
    await asyncio.sleep(0)

    assert (len(hub), hub.staying) == (4, 2)
    assert [hub.is_leaving(session) for session in sessions] == [False, True, True, False, False]
    await draining
    assert (len(hub), hub.staying) == (2, 2)


async def test_a_session_that_is_gone_is_not_leaving(hub: Hub) -> None:
    sessions, _ = opened(hub, 2)
    hub.remove(sessions[0])

    hub.mark_leaving(sessions)

    assert (len(hub), hub.staying) == (1, 0)


async def test_a_session_that_takes_nothing_is_closed_all_the_same(hub: Hub) -> None:
    outlet = BoundedOutlet(limit_bytes=0)
    session = Session("s", identity(), (), outlet)
    hub.register(session, None)
    outlet.write(PlainFrames().heartbeat(at(7)))

    assert await drain(hub, [session]) == 1
    assert outlet.closed is CloseReason.DRAIN


async def test_nobody_to_close_is_done_at_once(hub: Hub) -> None:
    assert await drain(hub, [], over_seconds=3600) == 0


def test_whoever_leaves_or_is_gone_holds_no_place_any_more() -> None:
    """The limits of entry go by it; who leaves is told of twice, since it is gone later."""
    vacated: list[str] = []
    hub = Hub(Window(at(7), opened_at_ms=0), PlainFrames(), vacated=lambda session: vacated.append(session.id))
    leaving, going = [Session(name, identity(), (), BoundedOutlet()) for name in ("leaving", "going")]
    for session in (leaving, going):
        hub.register(session, None)

    hub.mark_leaving([leaving])
    hub.remove(going)
    hub.remove(going)
    hub.remove(leaving)

    assert vacated == ["leaving", "going", "leaving"]
