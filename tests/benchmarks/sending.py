"""What sending costs, and how long it takes to the screen."""

from typing import Final

from tests.benchmarks.figure import Figure
from tests.benchmarks.load import Messages, Opening
from tests.benchmarks.requests import BATCH_ITEMS, batch_to_users, one_notification, session_tokens
from tests.benchmarks.server import fresh_server

CPU_SECONDS: Final = 1.2
RATE_PER_SECOND: Final = 200
LATENCY_SECONDS: Final = 4

POST: Final = "POST /notify"
BATCH: Final = f"POST /notify/batch, {BATCH_ITEMS:,} each"
SCREEN: Final = f"POST to screen at {RATE_PER_SECOND}/s"


def post() -> list[Figure]:
    """POST /notify to one user who is connected; eight keep-alive connections."""
    messages = Messages(receipts=1, in_flight=8, most=100_000, warm=200, cpu_seconds=CPU_SECONDS)
    with fresh_server(one_notification({"users": ["user-0"]})) as load:
        _, measured = load.run(Opening(1), messages, tokens=session_tokens(1))
    return [Figure(POST, "requests / CPU s", measured["messages"] / measured["cpu_seconds"])]


def batch() -> list[Figure]:
    """POST /notify/batch with 1,000 items to 1,000 users, one of whom is connected."""
    messages = Messages(receipts=1, in_flight=2, most=1_000, warm=3, cpu_seconds=2 * CPU_SECONDS)
    with fresh_server(batch_to_users()) as load:
        _, measured = load.run(Opening(1), messages, tokens=session_tokens(1))
    items = measured["messages"] * BATCH_ITEMS
    return [Figure(BATCH, "items / CPU s", items / measured["cpu_seconds"])]


def steady() -> Messages:
    """Notifications to one session at a steady rate."""
    return Messages(
        receipts=1,
        in_flight=32,
        most=RATE_PER_SECOND * LATENCY_SECONDS,
        warm=RATE_PER_SECOND // 2,
        rate=RATE_PER_SECOND,
    )


def latency() -> list[Figure]:
    """POST to screen at a steady rate, from when a request is due until its notification is received."""
    with fresh_server(one_notification({"users": ["user-0"]})) as load:
        _, measured = load.run(Opening(1), steady(), tokens=session_tokens(1))
    return [
        Figure(f"{SCREEN}, p50", "ms", measured["p50_milliseconds"]),
        Figure(f"{SCREEN}, p99", "ms", measured["p99_milliseconds"]),
    ]
