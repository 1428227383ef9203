"""When a process keeps to the sessions that it has."""

from notifier.access.strain import Strain


class Readings:
    """What is told of the process, and how often it was looked at."""

    lag_seconds = 0.0
    memory_share = 0.0
    now = 100.0
    looks = 0

    def look(self) -> float:
        self.looks += 1
        return self.memory_share


def test_it_tells_what_a_process_suffers_from_and_looks_at_memory_seldom() -> None:
    """Checklist 3.4.35."""
    readings = Readings()
    strain = Strain(
        lag_seconds=lambda: readings.lag_seconds,
        most_lag_seconds=0.5,
        memory_share=readings.look,
        most_memory_share=0.9,
        monotonic=lambda: readings.now,
    )
    assert [strain() for _ in range(1_000)] == [None] * 1_000
    assert readings.looks == 1

    readings.memory_share = 0.95
    assert strain() is None
    readings.now += 0.3
    assert strain() == "memory"
    readings.lag_seconds = 0.6
    assert strain() == "loop_lag"

    readings.lag_seconds = readings.memory_share = 0.1
    readings.now += 0.3
    assert strain() is None
