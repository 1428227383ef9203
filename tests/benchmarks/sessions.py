"""What sessions cost: opening one, keeping it, and delivering to all of them."""

from collections.abc import Sequence
from typing import Final

from tests.benchmarks.figure import Figure
from tests.benchmarks.load import Load, LoadFailed, Measured, Messages, NotNegotiated, Opening
from tests.benchmarks.requests import one_notification, session_tokens
from tests.benchmarks.server import fresh_server, offering

IN_FLIGHT: Final = (1, 4, 16)
WARM_SESSIONS: Final = 100  # So that what the first sessions load and cache is nobody's cost.
HANDSHAKES: Final = "Handshakes"
HANDSHAKE: Final = "Handshake"
DELIVERY: Final = "CPU µs / delivery"
DEFLATE: Final = "permessage-deflate"


Plan = list[tuple[str | None, Opening | Messages]]
"""Stages, and what to call the figures of each; None for those that only open sessions."""


def broadcast(counts: Sequence[int]) -> list[Figure]:
    """A notification to everyone; the request is part of the cost."""
    plan = broadcast_plan(counts)
    with fresh_server(one_notification({"everyone": True})) as load:
        stages = load.run(*(stage for _, stage in plan), tokens=session_tokens(max(counts)))
    named = [(name, measured) for (name, _), measured in zip(plan, stages, strict=True) if name]
    return [figure for name, measured in named for figure in broadcast_figures(name, measured)]


def broadcast_plan(counts: Sequence[int], between: int | None = None) -> Plan:
    """Open sessions up to each count, and on those measure each number of messages in flight; `between` fewer."""
    plan: Plan = []
    for count in sorted({*counts, between or counts[0]}):
        plan.append((None, Opening(count)))
        levels = IN_FLIGHT if count in counts else IN_FLIGHT[:2]
        plan += [(broadcast_name(count, number), to_everyone(count, number)) for number in levels]
    return plan


def opening(count: int) -> list[Figure]:
    """Handshakes, each with a token of its own; then the memory of the sessions."""
    with fresh_server() as load:
        return idle(load, session_tokens(count), count)


def idle(load: Load, tokens: Sequence[str], count: int) -> list[Figure]:
    """Open so many sessions, and measure all but the first ones.

    Memory is what the process has written to and shares with nobody (Private_Dirty of smaps_rollup): what the kernel
    keeps for a socket is not in it.
    """
    _, opened = load.run(Opening(min(WARM_SESSIONS, count // 2)), Opening(count), tokens=tokens)
    return [
        Figure(HANDSHAKES, "handshakes / CPU s", opened["sessions"] / opened["cpu_seconds"]),
        Figure(HANDSHAKE, "CPU µs", opened["cpu_seconds"] / opened["sessions"] * 1e6),
        Figure(memory_name(count), "KiB / session", opened["memory_bytes"] / opened["sessions"] / 1024),
    ]


def deflate(count: int) -> list[Figure]:
    """The same broadcasts to sessions that negotiated compression, and to others of the same server."""
    try:
        with fresh_server(one_notification({"everyone": True}), settings={"NOTIFIER_SESSIONS__DEFLATE": "true"}) as on:
            figures = _deflated(offering(on, DEFLATE), count, "compressed")
    except AssertionError as error:
        if "NOTIFIER_SESSIONS__DEFLATE" not in str(error):
            raise
        raise NotNegotiated("this version of the server has no setting NOTIFIER_SESSIONS__DEFLATE") from None
    with fresh_server(one_notification({"everyone": True}), settings={"NOTIFIER_SESSIONS__DEFLATE": "true"}) as load:
        return figures + _deflated(load, count, "not compressed")


def _deflated(load: Load, count: int, which: str) -> list[Figure]:
    figures: list[Figure] = []
    plan = [to_everyone(count, number) for number in (1, 4)]
    for stage, measured in zip(plan, load.run(Opening(count), *plan, tokens=session_tokens(count))[1:], strict=True):
        figures += broadcast_figures(f"{broadcast_name(count, stage.in_flight)}, {which}", measured)
        if stage.in_flight == 1:
            size = measured["received_bytes"] / measured["messages"] / count
            figures.append(Figure(f"Broadcast to {count:,}, {which}", "bytes / delivery", size))
    return figures


def to_everyone(count: int, in_flight: int) -> Messages:
    """Broadcasts to so many sessions: for about half a second, longer where there are many, so that there are some."""
    return Messages(in_flight, most=10_000, warm=1, cpu_seconds=0.4 + count / 25_000)


def broadcast_name(count: int, in_flight: int) -> str:
    return f"Broadcast to {count:,}, {in_flight} in flight"


def memory_name(count: int) -> str:
    return f"User memory (Private_Dirty), {count:,} sessions"


def broadcast_figures(name: str, measured: Measured) -> list[Figure]:
    """Below 100 notifications in the measured stretch, the p99 is the slowest of them."""
    deliveries = measured["messages"] * measured["sessions"]
    if not deliveries:
        raise LoadFailed(f"{name}: nothing was delivered")
    return [
        Figure(name, DELIVERY, measured["cpu_seconds"] * 1e6 / deliveries),
        Figure(f"{name}, last receipt p50", "ms", measured["p50_milliseconds"]),
        Figure(f"{name}, last receipt p99", "ms", measured["p99_milliseconds"]),
    ]
