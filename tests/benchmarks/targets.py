"""The figures that notifier sets out to reach, all in this one place, and whether a run reached them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.benchmarks import broker, sending, sessions
from tests.benchmarks.figure import number, rows
from tests.benchmarks.holding import held_name
from tests.benchmarks.resuming import resume_name

NOTIFIER: Final = "notifier"
MANY: Final = 10_000

Round = Mapping[str, Mapping[tuple[str, str], float]]
"""What one round measured: by server, then by name and unit of the figure."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What one figure should come to. `of` takes it from a round; KeyError where the round has not measured it."""

    name: str
    unit: str
    limit: float
    of: Callable[[Round], float]
    is_least: bool = False
    stretch: float | None = None

    def target(self) -> str:
        stretch = "" if self.stretch is None else f" (stretch {number(self.stretch)})"
        return f"at {'least' if self.is_least else 'most'} {number(self.limit)} {self.unit}{stretch}"

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.is_least else value <= self.limit


def goals() -> Iterator[Goal]:
    """The figures and their targets."""
    few, few_by_four, many = ((1_000, 1), (1_000, 4), (MANY, 1))
    yield Goal("CPU per delivery over nchan's, 1,000 sessions, W=1", "times", 1.1, _over("nchan", few))
    yield Goal("CPU per delivery over nchan's, 10,000 sessions, W=1", "times", 1.0, _over("nchan", many))
    yield Goal("CPU per delivery, 1,000 sessions, W=4", "µs", 2.6, _delivery(few_by_four))
    yield Goal("CPU per delivery over NATS's, 1,000 sessions, W=4", "times", 1.0, _over("NATS", few_by_four))
    memory = _own(sessions.memory_name(MANY), "KiB / session")
    yield Goal("user memory per idle session, 10,000 sessions", "KiB", 4, memory)
    handshakes = _own(sessions.HANDSHAKES, "handshakes / CPU s")
    yield Goal("handshakes with an HS256 token", "/ CPU s", 1_200, handshakes, is_least=True, stretch=1_500)
    post = _own(sending.POST, "requests / CPU s")
    yield Goal("POST /notify, one item", "/ CPU s", 2_500, post, is_least=True, stretch=3_000)
    yield Goal("POST /notify/batch, items", "/ CPU s", 50_000, _own(sending.BATCH, "items / CPU s"), is_least=True)
    yield Goal(f"{sending.SCREEN}, p50", "ms", 1.5, _own(f"{sending.SCREEN}, p50", "ms"))
    yield Goal(f"{sending.SCREEN}, p99", "ms", 10, _own(f"{sending.SCREEN}, p99", "ms"))
    yield Goal("queue to screen less a bare relay, p50", "ms", 1.5, _own(broker.OVER_RELAY_P50, "ms"))
    yield Goal("queue to screen over a bare relay, p99", "times", 1.5, _own(broker.OVER_RELAY_P99, "times"))
    follower = _own(broker.FOLLOWER, "notifications / CPU s")
    yield Goal("journal on RabbitMQ into a hub of 1,000 users", "/ CPU s", 50_000, follower, is_least=True)
    batches = _own(broker.BATCH_DOOR, "items / s")
    yield Goal("batch door, journal on RabbitMQ, two cores", "items / s", 25_000, batches, is_least=True)
    yield Goal("event loop held by one broadcast to 10,000", "ms", 20, _own(held_name(MANY), "ms at most"))
    resumed = _own(resume_name(MANY), "CPU s beyond handshakes")
    yield Goal("10,000 sessions resume at once, beyond handshakes", "CPU s", 2, resumed)


def verdicts(rounds: Sequence[Round]) -> list[tuple[str, str, str, str]]:
    """Each figure, its target, the median of the rounds, and whether that meets the target."""
    lines: list[tuple[str, str, str, str]] = []
    for goal in goals():
        values = list(_values(goal, rounds))
        if values:
            value = median(values)
            lines.append((goal.name, goal.target(), number(value), "yes" if goal.is_met(value) else "no"))
        else:
            lines.append((goal.name, goal.target(), "-", "not measured"))
    return lines


def target_table(rounds: Sequence[Round]) -> str:
    """The verdicts, set as a table."""
    return rows([("Figure", "Target", "Measured", "Met"), *verdicts(rounds)], words=2)


def _values(goal: Goal, rounds: Sequence[Round]) -> Iterator[float]:
    for measured in rounds:
        try:
            yield goal.of(measured)
        except KeyError:
            continue


def _own(name: str, unit: str) -> Callable[[Round], float]:
    return lambda measured: measured[NOTIFIER][name, unit]


def _delivery(what: tuple[int, int]) -> Callable[[Round], float]:
    return _own(sessions.broadcast_name(*what), sessions.DELIVERY)


def _over(peer: str, what: tuple[int, int]) -> Callable[[Round], float]:
    key = sessions.broadcast_name(*what), sessions.DELIVERY
    return lambda measured: measured[NOTIFIER][key] / measured[peer][key]
