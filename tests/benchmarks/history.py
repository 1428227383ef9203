"""What the window costs in memory, notification by notification, until it is full."""

import json
import re
from pathlib import Path
from typing import Any, Final

import httpx

from tests.benchmarks.figure import Figure
from tests.benchmarks.load import LoadFailed
from tests.benchmarks.requests import BATCH_ITEMS
from tests.benchmarks.server import fresh_server
from tests.tokens import bearer

FULL: Final = 200_000
"""As many addresses as a window holds by default; here one notification each."""
BODY: Final = "x" * 90  # Sealed, a notification then has 294 bytes.


def history() -> list[Figure]:
    """A replica of its own (the journal embedded) whose window is filled: its memory before, and for each entry."""
    with fresh_server() as load:
        pid = load.target.pids[0]
        before = _anonymous_kib(pid)
        with httpx.Client(base_url=f"http://127.0.0.1:{load.target.ports[0]}", headers=bearer(), timeout=30) as backend:
            for first in range(0, FULL, BATCH_ITEMS):
                _send(backend, range(first, first + BATCH_ITEMS))
        after = _anonymous_kib(pid)
    return [
        Figure("Anonymous memory of a new replica", "MiB", before / 1024),
        Figure("Anonymous memory with a full window", "MiB", after / 1024),
        Figure("Memory per notification in the window, 294 bytes sealed", "KiB", (after - before) / FULL),
    ]


def notification_to(user: str) -> dict[str, Any]:
    """What it is filled with, as a backend sends it."""
    notification = {"type": "order.shipped", "title": "Order shipped", "body": BODY, "link": "/orders/1234"}
    return {"to": {"users": [user]}, **notification}


def _send(backend: httpx.Client, numbers: range) -> None:
    items = [notification_to(f"user-{number}") for number in numbers]
    answer = backend.post("/notify/batch", content=json.dumps(items), headers={"Content-Type": "application/json"})
    if answer.status_code != 202:
        raise LoadFailed(f"a batch was not taken: {answer.text[:1000]}")


def _anonymous_kib(pid: int) -> int:
    found = re.search(r"^RssAnon:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise LoadFailed("this system does not tell RssAnon")
    return int(found[1])
