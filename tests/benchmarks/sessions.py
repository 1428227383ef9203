"""What sessions cost: opening one, keeping it, and delivering to all of them."""

from typing import Final

from tests.benchmarks.figure import Figure
from tests.benchmarks.load import Messages
from tests.benchmarks.requests import one_notification, session_tokens
from tests.benchmarks.server import fresh_server

CPU_SECONDS_PER_SESSION: Final = 0.0012  # So that there are as many notifications, however many sessions.
WARM_SESSIONS: Final = 100  # So that what the first sessions load and cache is nobody's cost.


def broadcast(count: int) -> list[Figure]:
    """A notification to everyone, with one and with four in flight; the request is part of the cost.

    Below 100 notifications in the measured stretch, the p99 is the slowest of them.
    """
    return _broadcast(count, in_flight=1) + _broadcast(count, in_flight=4)


def opening(count: int) -> list[Figure]:
    """Handshakes, each with a token of its own; then the user memory of the sessions, which the kernel's is not in."""
    with fresh_server() as load:
        measured = load.run(session_tokens(WARM_SESSIONS + count), warm_sessions=WARM_SESSIONS)
    memory_kibibytes = measured["memory_bytes"] / measured["sessions"] / 1024
    return [
        Figure("Handshakes, HS256", "handshakes / CPU s", measured["sessions"] / measured["open_cpu_seconds"]),
        Figure(f"User memory, {count:,} sessions", "KiB / session", memory_kibibytes),
    ]


def _broadcast(count: int, *, in_flight: int) -> list[Figure]:
    template = one_notification({"everyone": True})
    messages = Messages(
        template,
        receipts=count,
        in_flight=in_flight,
        most=10_000,
        warm=2 * in_flight,
        cpu_seconds=max(1.0, count * CPU_SECONDS_PER_SESSION),
    )
    with fresh_server() as load:
        measured = load.run(session_tokens(count), messages=messages)
    microseconds = measured["cpu_seconds"] * 1e6 / (measured["messages"] * count)
    name = f"Broadcast to {count:,}, {in_flight} in flight"
    return [
        Figure(name, "CPU µs / delivery", microseconds),
        Figure(f"{name}, last receipt p50", "ms", measured["p50_milliseconds"]),
        Figure(f"{name}, last receipt p99", "ms", measured["p99_milliseconds"]),
    ]
