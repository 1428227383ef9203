"""`make bench`: measure the service's figures, several rounds of each in turn, and print them as one table."""

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial

from tests.benchmarks import broker, load, machine, sessions
from tests.benchmarks.encodings import encodings
from tests.benchmarks.figure import Figure, table
from tests.benchmarks.history import history
from tests.benchmarks.scaling import scaling
from tests.benchmarks.streams import streams
from tests.benchmarks.suite import MANY_SESSIONS, Benchmark, own_benchmarks, positive, require_files
from tests.benchmarks.tabs import tabs

FEW_SESSIONS = [1_000]
FEW_STREAMS = 1_000
SCALED_SESSIONS = 4_000


def main(arguments: Sequence[str]) -> int:
    """Measure and print. Returns the exit code."""
    options = _options(arguments)
    # As Ctrl-C does: through the context managers that stop the server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        load.build()
        place = machine.describe()
        require_files(max(*options.sessions, options.idle))
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
        figures += machine.yardsticks()
        for name, benchmark in benchmarks.items():
            began = time.monotonic()
            try:
                figures += benchmark()
                outcome = f"{time.monotonic() - began:.1f} s"
            except (load.NotNegotiated, load.Absent) as reason:
                outcome = f"not measured: {reason}"
            print(f"round {number} of {rounds}: {name}, {outcome}", file=sys.stderr)
    return figures


def _command(arguments: Sequence[str]) -> str:
    return f"make bench ARGS={shlex.quote(shlex.join(arguments))}" if arguments else "make bench"


def _benchmarks(counts: Sequence[int], idle: int) -> dict[str, Benchmark]:
    return {
        **own_benchmarks(idle),
        "broadcast": partial(sessions.broadcast, counts),
        "sessions": partial(sessions.opening, idle),
        "streams": partial(streams, FEW_STREAMS),
        "window": history,
        "encodings": encodings,
        "deflate": partial(sessions.deflate, min(counts)),
        "scaling": partial(scaling, SCALED_SESSIONS),
        "replicas": broker.replicas,
        "restart": broker.restart,
        "start-up": broker.start_up,
        "tabs": tabs,
    }


def _chosen(options: argparse.Namespace) -> dict[str, Benchmark]:
    known = _benchmarks(options.sessions, options.idle)
    return {name: known[name] for name in known if not options.only or name in options.only}


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=list(_benchmarks([1], 1)), help="measure this one; may be repeated"
    )
    parser.add_argument("--rounds", type=positive, default=3, help="default %(default)s")
    parser.add_argument(
        "--sessions",
        type=positive,
        nargs="+",
        default=FEW_SESSIONS,
        metavar="N",
        help="how many a broadcast reaches, each measured with 1, 4 and 16 in flight; default 1000",
    )
    parser.add_argument(
        "--full",
        action="store_const",
        dest="sessions",
        const=MANY_SESSIONS,
        help="the same as --sessions 1000 5000 15000",
    )
    parser.add_argument(
        "--idle",
        type=positive,
        default=10_000,
        metavar="N",
        help="how many open and stay, are held up, and come back; default %(default)s",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
