"""`make bench`: measure the service's figures, several rounds of each in turn, and print them as one table."""

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from tests.benchmarks import broker, load, machine, sending, sessions
from tests.benchmarks.figure import Figure, table

Benchmark = Callable[[], list[Figure]]


def main(arguments: Sequence[str]) -> int:
    """Measure and print. Returns the exit code."""
    options = _options(arguments)
    # As Ctrl-C does: through the context managers that stop the server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        load.build()
        files = machine.raise_file_limit()
        place = machine.describe()
        if options.sessions and options.sessions + 1_000 > files:
            raise load.LoadFailed(f"{options.sessions:,} sessions do not fit into {files:,} open files (ulimit -Hn)")
        figures = _measure(_chosen(options), rounds=options.rounds)
    except load.LoadFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(table(figures))
    print(f"\nRounds: {options.rounds}. {place}.")
    print(f"Printed by: {_command(arguments)}")
    return 0


def _measure(benchmarks: Mapping[str, Benchmark], *, rounds: int) -> list[Figure]:
    """Take the benchmarks in turn, round after round, so that a slow minute of the machine is shared by all."""
    figures: list[Figure] = []
    for number in range(1, rounds + 1):
        figures.append(machine.yardstick())
        for name, benchmark in benchmarks.items():
            began = time.monotonic()
            figures += benchmark()
            print(f"round {number} of {rounds}: {name}, {time.monotonic() - began:.1f} s", file=sys.stderr)
    return figures


def _command(arguments: Sequence[str]) -> str:
    return f"make bench ARGS={shlex.quote(shlex.join(arguments))}" if arguments else "make bench"


def _benchmarks(count: int | None) -> dict[str, Benchmark]:
    return {
        "post": sending.post,
        "batch": sending.batch,
        "broadcast": lambda: sessions.broadcast(count or 1_000),
        "sessions": lambda: sessions.opening(count or 2_000),
        "latency": sending.latency,
        "queue": broker.queue_to_screen,
        "following": broker.following,
        "replicas": broker.replicas,
        "restart": broker.restart,
    }


def _chosen(options: argparse.Namespace) -> dict[str, Benchmark]:
    known = _benchmarks(options.sessions)
    return {name: known[name] for name in known if not options.only or name in options.only}


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    names = list(_benchmarks(None))
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=names, help="measure this one; may be repeated")
    parser.add_argument("--rounds", type=_positive, default=3, help="default %(default)s")
    parser.add_argument(
        "--sessions", type=_positive, help="sessions for broadcast and sessions; default 1,000 and 2,000"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
