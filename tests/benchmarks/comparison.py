"""`make bench-peers`: notifier and three other servers in turn, round after round, and the figures set out to reach.

Each server has one core and the load the other; all deliver the same number of bytes of JSON to the same program.
"""

import argparse
import json
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from tests.benchmarks import load, machine, sessions
from tests.benchmarks.figure import Figure, rows, spread
from tests.benchmarks.peers import PEERS
from tests.benchmarks.requests import one_notification, session_tokens
from tests.benchmarks.server import fresh_server
from tests.benchmarks.side_by_side import Server, side_by_side
from tests.benchmarks.suite import MANY_SESSIONS, own_benchmarks, positive, require_files
from tests.benchmarks.targets import MANY, NOTIFIER, target_table, verdicts

RESULT: Final = Path(__file__).parents[2] / "build" / "bench-peers.json"
SERVERS: Final[dict[str, Server]] = {
    NOTIFIER: partial(fresh_server, one_notification({"everyone": True})),
    **PEERS,
}
OWN: Final = "own"
MACHINE: Final = "machine"  # In place of a server: the yardsticks.

Measured = dict[str, dict[tuple[str, str], float]]


def main(arguments: Sequence[str]) -> int:
    """Measure and print. Returns 1 when something could not be measured, whatever the targets."""
    options = _options(arguments)
    # As Ctrl-C does: through the context managers that stop the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    about = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine.describe(),
        "command": f"make bench-peers ARGS={shlex.quote(shlex.join(arguments))}" if arguments else "make bench-peers",
    }
    rounds: list[Measured] = []
    failures: list[str] = []
    try:
        load.build()
        require_files(max(*options.sessions, options.idle))
        for number in range(options.rounds):
            rounds.append({})
            _keep(machine.yardsticks(), rounds[-1], MACHINE)
            which = f"round {number + 1} of {options.rounds}"
            failures += _measure(_order(options, number), rounds[-1], which, options)
            _write(about, rounds, failures)
    except load.LoadFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    _print(about, rounds, failures)
    return 1 if failures else 0


def _order(options: argparse.Namespace, number: int) -> list[str]:
    """Another one begins in each round, so that nobody always comes after the same one."""
    servers = [name for name in SERVERS if name in options.only]
    first = number % max(1, len(servers))
    return servers[first:] + servers[:first] + ([OWN] if OWN in options.only else [])


def _measure(names: Sequence[str], into: Measured, which: str, options: argparse.Namespace) -> list[str]:
    """Measure one round. Returns what failed; everything else is measured all the same."""
    failures: list[str] = []
    servers = [name for name in names if name != OWN]
    for name in servers:
        failures += _timed(name, partial(_idle, name, options.idle), into, which, f"{name}, idle sessions")
    if servers:
        failures += _broadcasts(servers, sessions.broadcast_plan(options.sessions, options.idle), into, which)
    if OWN in names:
        for name, benchmark in own_benchmarks(options.idle).items():
            failures += _timed(NOTIFIER, benchmark, into, which, f"{NOTIFIER}, {name}")
    return failures


def _idle(name: str, count: int) -> list[Figure]:
    with SERVERS[name]() as server:
        return sessions.idle(server, _tokens(name, count), count)


def _broadcasts(names: Sequence[str], plan: sessions.Plan, into: Measured, which: str) -> list[str]:
    began = time.monotonic()
    most = max(stage.until for _, stage in plan if isinstance(stage, load.Opening))
    tokens = {name: _tokens(name, most) for name in names}
    measured, failed = side_by_side({name: SERVERS[name] for name in names}, tokens, plan)
    for name, figures in measured.items():
        _keep(figures, into, name)
    print(f"{which}: broadcasts by {', '.join(names)}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return [_failed(which, f"{name}, broadcasts", error) for name, error in failed.items()]


def _tokens(name: str, count: int) -> list[str]:
    return session_tokens(count) if name == NOTIFIER else []


def _failed(which: str, what: str, error: object) -> str:
    print(f"{which}: {what} FAILED: {error}", file=sys.stderr, flush=True)
    return f"{which}: {what}: {error}"


def _timed(server: str, benchmark: Callable[[], list[Figure]], into: Measured, which: str, what: str) -> list[str]:
    began = time.monotonic()
    try:
        figures = benchmark()
    except (load.LoadFailed, AssertionError, RuntimeError, OSError) as error:  # As servers and brokers raise them.
        return [_failed(which, what, error)]
    _keep(figures, into, server)
    print(f"{which}: {what}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return []


def _keep(figures: Sequence[Figure], into: Measured, server: str) -> None:
    into.setdefault(server, {}).update({(figure.name, figure.unit): figure.value for figure in figures})


def _print(about: dict[str, str], rounds: Sequence[Measured], failures: Sequence[str]) -> None:
    print(comparison_table(rounds))
    for failure in failures:
        print(f"FAILED, {failure}")
    print(f"\nRounds: {len(rounds)}. {about['machine']}.\nPrinted by: {about['command']}\n")
    print(target_table(rounds))


def comparison_table(rounds: Sequence[Measured]) -> str:
    """Each figure of each server, and notifier's over it, taken round by round; the machine's yardsticks first."""
    heads = ("Figure", "Unit", "Server", "Minimum", "Median", "Maximum")
    over = ("notifier over it: Minimum", "Median", "Maximum")
    names = [MACHINE, *SERVERS]
    keys = dict.fromkeys(key for measured in rounds for name in names for key in measured.get(name, {}))
    keys.pop((sessions.HANDSHAKES, "handshakes / CPU s"), None)  # The same as the CPU of one, the other way round.
    body: list[tuple[str, ...]] = []
    for key in sorted(keys, key=_by_count):
        for name in names:
            values = [measured[name][key] for measured in rounds if key in measured.get(name, {})]
            ratios = [
                measured[NOTIFIER][key] / measured[name][key]
                for measured in rounds
                if name in PEERS and key in measured.get(name, {}) and key in measured.get(NOTIFIER, {})
            ]
            if values:
                body.append((*key, name, *spread(values), *(spread(ratios) if ratios else ("", "", ""))))
    return rows([(*heads, *over), *body], words=3)


def _by_count(key: tuple[str, str]) -> tuple[bool, bool, list[int]]:
    """The yardsticks first; broadcasts last, and by the numbers in their names."""
    name = key[0].replace(",", "")
    return (
        not name.startswith("Yardstick"),
        name.startswith("Broadcast"),
        [int(found) for found in re.findall(r"\d+", name)],
    )


def _write(about: dict[str, str], rounds: Sequence[Measured], failures: Sequence[str]) -> None:
    """Write what there is so far: a run that is interrupted leaves the rounds before."""
    content = {
        **about,
        "rounds": [
            [
                {"server": server, "name": name, "unit": unit, "value": value}
                for server, figures in measured.items()
                for (name, unit), value in figures.items()
            ]
            for measured in rounds
        ],
        "failures": list(failures),
        "targets": [dict(zip(("figure", "target", "measured", "met"), row, strict=True)) for row in verdicts(rounds)],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.comparison", description=__doc__)
    parser.add_argument("--rounds", type=positive, default=5, help="default %(default)s")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[*SERVERS, OWN],
        default=[*SERVERS, OWN],
        help="measure these servers, and notifier's own figures; default all",
    )
    parser.add_argument(
        "--sessions",
        type=positive,
        nargs="+",
        default=MANY_SESSIONS,
        metavar="N",
        help="how many a broadcast reaches, each measured with 1, 4 and 16 in flight; default 1000 5000 15000",
    )
    parser.add_argument(
        "--idle",
        type=positive,
        default=MANY,
        metavar="N",
        help="how many open and stay, and are reached with 1 and 4 in flight; the targets mean %(default)s",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
