"""Durations in buckets."""

from notifier.core.durations import Durations


def test_each_is_in_the_first_bucket_that_holds_it() -> None:
    durations = Durations((0.1, 1.0))

    for seconds in (0.05, 0.1, 0.5, 7.0):
        durations.note(seconds)

    assert durations.counts == [2, 1, 1]
    assert durations.total_seconds == 7.65


def test_clocks_that_disagree_never_make_the_sum_fall() -> None:
    durations = Durations((0.1,))

    durations.note(-3.0)

    assert (durations.counts, durations.total_seconds) == ([1, 0], 0.0)
