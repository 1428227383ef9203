"""Runs `notifier serve` as it is, with one callback more in its event loop, which notes how long others held the loop.

BENCH_STRETCHES=FILE python -m tests.benchmarks.spinning serve writes a line for each stretch over half a millisecond:
when it ended by the monotonic clock, its length, and the CPU time of this thread in it; all in seconds.
"""

import asyncio
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import notifier.server
from notifier.cli import main

FILE = "BENCH_STRETCHES"  # Of the environment; nothing of notifier's begins with this.
NOTED_SECONDS = 0.000_5

serve = notifier.server.serve


class Spinner:
    """Asks for its next turn in each of its turns, so that the loop never waits and every turn is seen."""

    def __init__(self, notes: TextIO) -> None:
        self._notes = notes
        self._loop = asyncio.get_running_loop()
        self._turned_at = time.monotonic()
        self._cpu_seconds = time.thread_time()
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        seconds = time.monotonic() - self._turned_at
        if seconds > NOTED_SECONDS:
            cpu_seconds = time.thread_time() - self._cpu_seconds
            print(f"{self._turned_at + seconds:.6f} {seconds:.6f} {cpu_seconds:.6f}", file=self._notes)
        self._turned_at = time.monotonic()
        self._cpu_seconds = time.thread_time()
        self._loop.call_soon(self._turn)


async def serve_spinning(notes: TextIO, *arguments: Any, **named: Any) -> int:
    """Serve as ever, with a spinner beside it."""
    Spinner(notes)
    return await serve(*arguments, **named)


if __name__ == "__main__":
    with Path(os.environ[FILE]).open("w", buffering=1) as file:
        notifier.server.serve = partial(serve_spinning, file)  # The command looks it up when it runs.
        sys.exit(main())
