"""The storage of the limits: it decides as that of `limits` does, and keeps no thread and no old window."""

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from notifier.access.counters import Counters
from notifier.access.limits import Limits

LIMITS = [parse("5/second"), parse("7/2 second"), parse("20/minute")]
steps = st.tuples(st.floats(0, 90), st.sampled_from(LIMITS), st.sampled_from(["ann", "ben"]), st.integers(1, 6))


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, max_size=40), st.floats(1_000_000, 1_000_060))
def test_it_decides_as_the_storage_of_the_library_does(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[float, RateLimitItem, str, int]], start: float
) -> None:
    """Checklist 2.5."""
    clock = Clock(start)
    ours, theirs = (SlidingWindowCounterRateLimiter(storage) for storage in (Counters(), MemoryStorage()))
    with monkeypatch.context() as patched:
        patched.setattr("time.time", clock)
        for seconds, item, key, cost in steps:
            clock.now += seconds

            assert ours.hit(item, key, cost=cost) == theirs.hit(item, key, cost=cost)
            assert ours.test(item, key, cost=cost) == theirs.test(item, key, cost=cost)
            assert ours.get_window_stats(item, key) == pytest.approx(theirs.get_window_stats(item, key))


def test_a_clock_that_is_set_back_makes_nobody_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1_000_000)
    monkeypatch.setattr("time.time", clock)
    limiter, (item, *_) = SlidingWindowCounterRateLimiter(Counters()), LIMITS
    assert limiter.hit(item, "ann", cost=5)

    clock.now -= 3_600

    assert limiter.hit(item, "ann", cost=5)


def test_a_key_is_forgotten_and_all_of_them() -> None:
    storage = Counters()
    limiter, item = SlidingWindowCounterRateLimiter(storage), parse("5/day")
    for key in ("ann", "ben"):
        assert limiter.hit(item, key, cost=5)

    limiter.clear(item, "ann")
    assert [limiter.test(item, key) for key in ("ann", "ben")] == [True, False]
    storage.reset()
    assert limiter.test(item, "ben")


async def test_counting_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits({"send": "1000/second"})
    started: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", started.append)

    for number in range(100):
        await limits.spend("send", f"caller-{number}")

    assert started == []
