"""How long one broadcast holds the event loop: who else the replica serves waits for so long."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.benchmarks.figure import Figure
from tests.benchmarks.load import LoadFailed, Messages, Opening
from tests.benchmarks.requests import one_notification, session_tokens
from tests.benchmarks.server import fresh_server
from tests.benchmarks.spinning import FILE

BROADCASTS: Final = Messages(in_flight=1, most=20, warm=2, cpu_seconds=10.0)


def holding(count: int) -> list[Figure]:
    """The longest stretch between two turns of the loop, while broadcasts go out one at a time."""
    with TemporaryDirectory(prefix="notifier-bench-") as name:
        notes = Path(name) / "stretches"
        server = fresh_server(
            one_notification({"everyone": True}), settings={FILE: str(notes)}, module="tests.benchmarks.spinning"
        )
        with server as load:
            _, measured = load.run(Opening(count), BROADCASTS, tokens=session_tokens(count))
        stretches = _stretches(notes, measured["began"], measured["ended"])
    if not stretches:
        raise LoadFailed("the event loop was never seen held: the spinner does not work")
    title = held_name(count)
    return [
        Figure(title, "ms at most", max(wall for wall, _ in stretches) * 1000),
        Figure(title, "CPU ms at most", max(cpu for _, cpu in stretches) * 1000),
    ]


def held_name(count: int) -> str:
    return f"Event loop held by a broadcast to {count:,}"


def _stretches(notes: Path, began: float, ended: float) -> list[tuple[float, float]]:
    """Those that ended in this time: their lengths, by the clock and in CPU time."""
    rows = [tuple(map(float, line.split())) for line in notes.read_text().splitlines()]
    return [(wall, cpu) for at, wall, cpu in rows if began <= at <= ended]
