"""Broadcasts by several servers that are all up, in turn: each stage by one after the other, some seconds apart.

What a system call costs on a shared machine changes within minutes, and by more than the servers differ. The others
meanwhile do nothing: their sessions stay open, and their loads wait.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack

from tests.benchmarks.figure import Figure
from tests.benchmarks.load import Load, LoadFailed, Measured
from tests.benchmarks.sessions import Plan, broadcast_figures

Server = Callable[[], AbstractContextManager[Load]]


def side_by_side(
    servers: Mapping[str, Server], tokens: Mapping[str, Sequence[str]], plan: Plan
) -> tuple[dict[str, list[Figure]], dict[str, str]]:
    """Take the stages of the plan. Returns the figures of each server, and why one failed."""
    figures: dict[str, list[Figure]] = {name: [] for name in servers}
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        steps: dict[str, Callable[[], Measured]] = {}
        for name, server in servers.items():
            try:
                steps[name] = _start(stack, server, plan, tokens.get(name, ()))
            except (LoadFailed, AssertionError, OSError) as error:
                failures[name] = str(error)
        for title, _ in plan:
            for name in list(steps):
                try:
                    measured = steps[name]()
                except LoadFailed as error:
                    failures[name] = str(error)
                    del steps[name]
                    continue
                figures[name] += broadcast_figures(title, measured) if title else []
    return figures, failures


def _start(stack: ExitStack, server: Server, plan: Plan, tokens: Sequence[str]) -> Callable[[], Measured]:
    load = stack.enter_context(server())
    return stack.enter_context(load.stepwise(*(stage for _, stage in plan), tokens=tokens))
