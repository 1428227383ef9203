"""The real command on a bad machine: a clock that jumps, an event loop that is held.

python -m tests.troubled serve: SIGUSR1 sets the clock forward by an hour, SIGWINCH back by one; SIGUSR2 holds the loop.
"""

import signal
import sys
import time

HOUR_SECONDS = 3_600.0
HELD_SECONDS = 0.2

true_time, true_time_ns = time.time, time.time_ns
jumps: list[float] = []


def jump(number: int, frame: object) -> None:
    """Set the clock."""
    jumps.append(HOUR_SECONDS if number == signal.SIGUSR1 else -HOUR_SECONDS)


def hold(number: int, frame: object) -> None:
    """Do something that takes long, in the thread of the event loop."""
    time.sleep(HELD_SECONDS)


if __name__ == "__main__":
    time.time = lambda: true_time() + sum(jumps)
    time.time_ns = lambda: true_time_ns() + int(sum(jumps) * 1e9)
    signal.signal(signal.SIGUSR1, jump)
    signal.signal(signal.SIGWINCH, jump)
    signal.signal(signal.SIGUSR2, hold)
    from notifier import cli  # Behind the change: some modules take the clock by name.

    sys.exit(cli.main(sys.argv[1:]))
