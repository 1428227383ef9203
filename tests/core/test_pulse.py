"""The wheel, turned by hand: heartbeats, the end of tokens, and clients that take nothing more."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from notifier.core.envelope import Envelope
from notifier.core.hub import Batch, Hub
from notifier.core.ports import CloseReason
from notifier.core.pulse import Pulse
from notifier.core.session import Session
from notifier.core.window import Window
from tests.core.builders import at, envelope, identity
from tests.core.fakes import BoundedOutlet, HandClock, HandLoop, PlainFrames

HEARTBEAT_SECONDS = 25.0
TICK_SECONDS = 1.0
EPOCH_SECONDS = 1_700_000_000.0  # What the wall clock shows when the monotonic one shows 0.


@dataclass
class Ward:
    """A hub under a pulse whose clocks are moved by hand, in step."""

    stall_seconds: float = 20.0
    monotonic: HandClock = field(default_factory=lambda: HandClock(50.0))

    def __post_init__(self) -> None:
        self.window = Window(at(0), opened_at_ms=0, max_age_seconds=3600)
        self.frames = PlainFrames()
        self.loop = HandLoop()
        self.hub = Hub(self.window, self.frames, clock=self.wall, monotonic=self.monotonic, later=self.loop.call_later)
        self.pulse = Pulse(
            self.hub,
            self.window,
            self.frames,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            stall_seconds=self.stall_seconds,
            clock=self.wall,
            monotonic=self.monotonic,
        )
        self.numbers = 0

    def wall(self) -> float:
        return EPOCH_SECONDS + self.monotonic()

    def open(self, *, life_seconds: float = 1e6, limit_bytes: int = 2**30) -> tuple[Session, BoundedOutlet]:
        self.numbers += 1
        outlet = BoundedOutlet(limit_bytes=limit_bytes, monotonic=self.monotonic)
        bearer = identity(expires_at=self.wall() + life_seconds)
        session = Session(f"s{self.numbers}", bearer, (), outlet)
        self.hub.register(session, None)
        self.pulse.add(session)
        outlet.drained = lambda: self.hub.advance(session)
        return session, outlet

    def deliver(self, *envelopes: Envelope) -> None:
        before = self.window.tail
        entries = [(at(before.offset + 1, index), item) for index, item in enumerate(envelopes)]
        for position, item in entries:
            self.window.append(position, item)
        self.hub.deliver(Batch(before, entries))

    def turn_until(self, seconds: float, *, step: float = 0.5) -> None:
        while self.monotonic.now < seconds:
            self.monotonic.now += step
            self.pulse.turn()


@pytest.fixture
def ward() -> Ward:
    return Ward()


def heard_at(ward: Ward, outlet: BoundedOutlet, kind: str, *, until: float) -> list[float]:
    """The times at which frames of this kind were written."""
    times: list[float] = []
    while ward.monotonic.now < until:
        had = outlet.kinds().count(kind)
        ward.turn_until(ward.monotonic.now + 0.5)
        times += [ward.monotonic.now] * (outlet.kinds().count(kind) - had)
    return times


def test_heartbeats_come_within_the_interval_and_never_twice(ward: Ward) -> None:
    _, outlet = ward.open()

    times = heard_at(ward, outlet, "heartbeat", until=400.0)

    gaps = [later - earlier for earlier, later in pairwise([50.0, *times])]
    assert max(gaps) <= HEARTBEAT_SECONDS + 2 * TICK_SECONDS
    assert min(gaps[1:]) >= HEARTBEAT_SECONDS - 2 * TICK_SECONDS
    assert len(times) >= 12


def test_sessions_that_came_together_do_not_beat_together(ward: Ward) -> None:
    outlets = [ward.open()[1] for _ in range(200)]
    counts = []
    while ward.monotonic.now < 50.0 + HEARTBEAT_SECONDS + 2 * TICK_SECONDS:
        ward.turn_until(ward.monotonic.now + 1)
        counts.append(sum(outlet.kinds().count("heartbeat") for outlet in outlets))

    assert counts[-1] == 200
    assert max(later - earlier for earlier, later in pairwise(counts)) < 100


def test_a_heartbeat_tells_how_far_its_session_stands() -> None:
    ward = Ward(stall_seconds=1e6)
    _, live = ward.open()
    _, behind = ward.open(limit_bytes=50)
    behind.write(PlainFrames().token_expiring(0))
    ward.deliver(envelope(sealed=b"x" * 100))

    ward.turn_until(50.0 + HEARTBEAT_SECONDS + 2 * TICK_SECONDS)

    assert [frame.position for frame in live.written if frame.kind == "heartbeat"][:1] == [at(1)]
    assert [frame.position for frame in behind.written if frame.kind == "heartbeat"][:1] == [at(0)]


@pytest.mark.parametrize("life_seconds", [100.0, 3_600.0])
def test_the_notice_comes_once_in_the_last_10_to_25_percent_of_the_life(ward: Ward, life_seconds: float) -> None:
    outlets = [ward.open(life_seconds=life_seconds)[1] for _ in range(20)]

    ward.turn_until(50.0 + life_seconds - 1)

    for outlet in outlets:
        (notice,) = [frame for frame in outlet.written if frame.kind == "token_expiring"]
        assert 0.10 * life_seconds - 2 * TICK_SECONDS <= notice.number <= 0.25 * life_seconds + 1


def test_the_notices_are_spread(ward: Ward) -> None:
    outlets = [ward.open(life_seconds=3_600)[1] for _ in range(50)]

    ward.turn_until(50.0 + 3_599, step=1)

    notices = {frame.number for outlet in outlets for frame in outlet.written if frame.kind == "token_expiring"}
    assert max(notices) - min(notices) > 200


def test_a_notice_that_was_refused_comes_again_until_it_is_taken(ward: Ward) -> None:
    """A client that misses it for a moment of slowness would lose its session."""
    _, outlet = ward.open(life_seconds=100, limit_bytes=1)
    outlet.write(PlainFrames().heartbeat(at(0)))
    ward.turn_until(50.0 + 92)
    was_refused = "token_expiring" not in outlet.kinds()

    outlet.take()
    ward.turn_until(50.0 + 95)

    assert was_refused
    assert outlet.kinds().count("token_expiring") == 1


def test_the_end_of_the_token_closes_once_and_not_before(ward: Ward) -> None:
    session, outlet = ward.open(life_seconds=60)

    ward.turn_until(50.0 + 59.5)
    was_open = outlet.closed is None
    ward.turn_until(50.0 + 60 + 2 * TICK_SECONDS)
    ward.turn_until(50.0 + 300)

    assert was_open
    assert (outlet.closed, outlet.closes) == (CloseReason.TOKEN_EXPIRED, 1)
    assert session not in ward.hub


def test_nothing_is_written_to_a_session_that_has_gone(ward: Ward) -> None:
    session, outlet = ward.open(life_seconds=60)
    ward.hub.remove(session)

    ward.turn_until(50.0 + 300)

    assert (outlet.written, outlet.closes) == ([], 0)


def test_a_short_life_gets_its_notice_too(ward: Ward) -> None:
    outlets = [ward.open(life_seconds=11.4)[1] for _ in range(200)]

    ward.turn_until(50.0 + 12 + 2 * TICK_SECONDS, step=0.99)  # The loop turns the wheel whenever it comes to it.

    assert {outlet.closed for outlet in outlets} == {CloseReason.TOKEN_EXPIRED}
    assert [outlet.kinds().count("token_expiring") for outlet in outlets] == [1] * 200


def test_a_token_let_in_after_its_end_opens_a_session_for_the_leeway(ward: Ward) -> None:
    """Closed at the next tick, its client would come back with it at once, again and again."""
    _, outlet = ward.open(life_seconds=-10)

    ward.turn_until(50.0 + 19.5)
    was_open = outlet.closed is None
    ward.turn_until(50.0 + 20 + 2 * TICK_SECONDS)

    assert was_open
    assert outlet.closed is CloseReason.TOKEN_EXPIRED


def test_a_refresh_moves_the_end_and_the_notice(ward: Ward) -> None:
    session, outlet = ward.open(life_seconds=60)
    ward.turn_until(50.0 + 30)

    ward.hub.refresh(session, replace(session.identity, expires_at=ward.wall() + 1_000), frozenset())
    ward.pulse.renew(session)

    ward.turn_until(50.0 + 30 + 740)
    assert (outlet.closed, outlet.kinds().count("token_expiring")) == (None, 0)
    ward.turn_until(50.0 + 30 + 999)
    assert (outlet.closed, outlet.kinds().count("token_expiring")) == (None, 1)
    ward.turn_until(50.0 + 30 + 1_000 + 2 * TICK_SECONDS)
    assert outlet.closed is CloseReason.TOKEN_EXPIRED


def test_renewing_many_times_does_not_multiply_what_is_written(ward: Ward) -> None:
    session, outlet = ward.open(life_seconds=1e6)
    for _ in range(20):
        ward.pulse.renew(session)

    times = heard_at(ward, outlet, "heartbeat", until=50.0 + 100)

    assert 3 <= len(times) <= 8
    assert len(set(times)) == len(times)


def test_a_session_that_is_behind_and_takes_nothing_is_closed_once(ward: Ward) -> None:
    _, outlet = ward.open(limit_bytes=1)
    outlet.write(PlainFrames().heartbeat(at(0)))
    ward.deliver(envelope())

    ward.turn_until(50.0 + 19)
    was_open = outlet.closed is None
    ward.turn_until(50.0 + 100)

    assert was_open
    assert (outlet.closed, outlet.closes) == (CloseReason.FELL_BEHIND, 1)


def test_a_session_that_is_behind_and_takes_a_little_now_and_then_is_kept(ward: Ward) -> None:
    _, outlet = ward.open()
    outlet.write(PlainFrames().join([PlainFrames().token_expiring(0)] * 50))
    session = next(iter(ward.hub))
    ward.hub.replay.start(session, at(0))
    for _ in range(10):
        ward.turn_until(ward.monotonic.now + 15)
        outlet.take(1)

    assert outlet.closed is None


def test_a_live_session_that_hears_nothing_is_not_stalled(ward: Ward) -> None:
    _, outlet = ward.open(limit_bytes=1)

    ward.turn_until(50.0 + 500)

    assert outlet.closed is None


def test_a_pause_of_the_machine_is_made_up_in_one_turn(ward: Ward) -> None:
    _, beating = ward.open()
    _, expired = ward.open(life_seconds=60)

    ward.monotonic.now += 600
    ward.pulse.turn()

    assert beating.kinds().count("heartbeat") == 1
    assert (expired.closed, expired.closes) == (CloseReason.TOKEN_EXPIRED, 1)


def test_what_is_over_the_age_leaves_the_window(ward: Ward) -> None:
    ward.deliver(envelope(accepted_at_ms=int(ward.wall() * 1000)))
    ward.turn_until(50.0 + 3_599, step=10)
    held_before = len(ward.window)

    ward.turn_until(50.0 + 3_620)

    assert (held_before, len(ward.window)) == (1, 0)
