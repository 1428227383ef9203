"""Token buckets, and the turnstile that gives each client a turn of its own: T-40."""

import pytest

from notifier.access.buckets import PATIENCE_SECONDS, SWEPT_AT, Buckets, Turnstile
from notifier.core.errors import Standing


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_a_bucket_holds_is_taken_at_once_and_then_at_its_pace(clock: Clock) -> None:
    buckets = Buckets("tenant", "10/second", monotonic=clock)

    assert [buckets.take("red") for _ in range(10)] == [0.0] * 10
    assert buckets.take("red") == pytest.approx(0.1)
    assert buckets.take("blue", 10) == 0.0

    clock.now += 0.1
    assert buckets.take("red") == 0.0
    assert buckets.take("red", 5) == pytest.approx(0.5)


def test_who_waits_as_long_as_told_finds_enough(clock: Clock) -> None:
    buckets = Buckets("tenant", "7/minute", monotonic=clock)
    buckets.take("red", 7)

    clock.now += buckets.take("red", 3)

    assert buckets.take("red", 3) == 0.0


def test_more_than_a_bucket_holds_is_taken_from_a_full_one_and_owed(clock: Clock) -> None:
    """Else an array of a thousand would wait for ever where a hundred a second are allowed."""
    buckets = Buckets("tenant", "100/second", monotonic=clock)
    buckets.take("red")
    assert buckets.take("red", 1_000) == pytest.approx(0.01)

    clock.now += 0.01
    assert buckets.take("red", 1_000) == 0.0
    assert buckets.take("red") == pytest.approx(9.01)


def test_where_a_key_stands_is_told(clock: Clock) -> None:
    buckets = Buckets("tenant", "10/second", monotonic=clock)
    buckets.take("red", 4)

    assert buckets.standing("red") == Standing("tenant", 10, 1, 6, 1)
    assert buckets.standing("blue") == Standing("tenant", 10, 1, 10, 1)


def test_full_buckets_are_forgotten(clock: Clock) -> None:
    """Addresses come and go without end."""
    buckets = Buckets("address_handshakes", "10/second", monotonic=clock)
    for number in range(SWEPT_AT):
        buckets.take(f"address-{number}")
    clock.now += 1

    buckets.take("newest")

    assert len(buckets._full_at) == 1


def test_a_turnstile_lets_in_as_many_a_second_as_it_is_told(clock: Clock) -> None:
    """Checklist 3.1.7, 3.2.20."""
    turnstile = Turnstile("100/second", monotonic=clock)
    let_in_at = []
    for _ in range(3_000):
        wait_seconds = turnstile.enter()
        if wait_seconds is not None:
            let_in_at.append(clock.now + wait_seconds)
        clock.now += 0.001

    assert len(let_in_at) == pytest.approx(300 + 100, abs=12)  # A second of them waits in line.
    assert let_in_at == sorted(let_in_at)
    assert let_in_at[200] - let_in_at[100] == pytest.approx(1)


def test_a_crowd_comes_back_at_the_pace_of_the_turnstile(clock: Clock) -> None:
    """T-40: 2,000 at once, 100 a second: a second of them waits in line, the others' turns are 10 ms apart."""
    turnstile = Turnstile("100/second", monotonic=clock)

    waits = [turnstile.enter() for _ in range(2_000)]
    turns = [turnstile.turn() for wait in waits if wait is None]

    assert len(turns) == pytest.approx(1_890, abs=2)
    assert turns == pytest.approx([1 + 0.01 * number for number in range(1, len(turns) + 1)])


def test_those_who_come_back_together_at_the_tick_of_a_second_are_all_let_in_within_it(clock: Clock) -> None:
    """Retry-After has whole seconds."""
    turnstile = Turnstile("100/second", monotonic=clock)
    for _ in range(5):
        clock.now += 1

        assert None not in [turnstile.enter() for _ in range(100)]


def test_no_client_waits_for_more_than_a_minute(clock: Clock) -> None:
    turnstile = Turnstile("1/second", monotonic=clock)

    waits = [turnstile.turn() for _ in range(200)]

    assert max(waits) <= PATIENCE_SECONDS
    assert len(set(waits[100:])) > 90
