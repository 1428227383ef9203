"""Whether what a replica holds stays as it is: samples over time, and a judgement that a leak does not pass. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Final, NamedTuple

MIB: Final = 1024 * 1024
HOUR_SECONDS: Final = 3_600.0
MEMORY_SLOPE: Final = 1 * MIB  # Bytes an hour.
# Python looks for cycles after 20,000 new objects, which takes a minute or two, and frees some 2 MiB then: over less
# than half an hour that outweighs the slope. A few minutes find a leak of 300 bytes a notification, an hour one of 3.
MEMORY_NOISE: Final = 4 * MIB
SHORT_SECONDS: Final = 1_800.0
# Requests under way come and go; one that each session leaves behind which is cut makes 80 in five minutes.
COUNT_NOISE: Final = 20.0


class Sample(NamedTuple):
    """What one replica holds at one moment, in monotonic seconds. Descriptors without those of sessions."""

    at: float
    memory_bytes: float
    descriptors: float
    tasks: float


@dataclass(frozen=True, slots=True)
class Steadiness:
    """What became of it over the samples.

    Args:
        memory_bytes: the median of the last third of the samples.
        memory_slope: bytes an hour: the median of the slopes between all pairs of samples, which a peak leaves alone.
        descriptors, tasks: the floor of the last third of the samples less that of the first: a burst is no leak.
    """

    seconds: float
    memory_bytes: float
    memory_slope: float
    descriptors: float
    tasks: float

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "Steadiness":
        """Judge samples, at least 6 of them, in order of time."""
        assert len(samples) >= 6, f"{len(samples)} samples say nothing"
        third = len(samples) // 3
        first, last = samples[:third], samples[-third:]
        return cls(
            samples[-1].at - samples[0].at,
            median(sample.memory_bytes for sample in last),
            median(_memory_slope(before, after) for before, after in _pairs(samples)) * HOUR_SECONDS,
            _floor([sample.descriptors for sample in last]) - _floor([sample.descriptors for sample in first]),
            _floor([sample.tasks for sample in last]) - _floor([sample.tasks for sample in first]),
        )

    @property
    def memory_growth(self) -> float:
        """Bytes over the time of the samples."""
        return self.memory_slope * self.seconds / HOUR_SECONDS

    @property
    def faults(self) -> list[str]:
        """What grew by more than it may."""
        is_noise = self.seconds < SHORT_SECONDS and self.memory_growth <= MEMORY_NOISE
        found = []
        if self.memory_slope > MEMORY_SLOPE and not is_noise:
            found.append(f"memory grows by {self.memory_slope / MIB:.2f} MiB an hour")
        if self.descriptors > COUNT_NOISE:
            found.append(f"{self.descriptors:g} more descriptors beside the sessions'")
        if self.tasks > COUNT_NOISE:
            found.append(f"{self.tasks:g} more tasks")
        return found

    def __str__(self) -> str:
        return (
            f"memory {self.memory_bytes / MIB:6.1f} MiB, {self.memory_growth / MIB:+5.2f} MiB in {self.seconds:.0f} s "
            f"({self.memory_slope / MIB:+6.2f} MiB an hour); descriptors {self.descriptors:+g}, tasks {self.tasks:+g}"
        )


def _floor(values: Sequence[float]) -> float:
    """What a tenth of them are at most."""
    return sorted(values)[len(values) // 10]


def _pairs(samples: Sequence[Sample]) -> Iterable[tuple[Sample, Sample]]:
    """All pairs of some 200 of them."""
    return combinations(samples[:: max(1, len(samples) // 200)], 2)


def _memory_slope(before: Sample, after: Sample) -> float:
    return (after.memory_bytes - before.memory_bytes) / (after.at - before.at)
