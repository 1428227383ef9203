"""What a replica pays to follow the journal: a stream of notifications read into a hub of 1,000 users.

python -m tests.benchmarks.follower URL PREFIX COUNT prints how many it reads per CPU second.
"""

import asyncio
import sys
import time

import uvloop

from notifier.core.envelope import Position
from notifier.core.hub import Hub
from notifier.core.idempotency import SeenKeys
from notifier.core.identity import Identity, Tenant
from notifier.core.pipeline import Pipeline
from notifier.core.ports import CloseReason, Frame
from notifier.core.session import Session
from notifier.core.window import Window
from notifier.engine import build_journal
from notifier.server import spare_the_collector
from notifier.settings import read_settings
from notifier.transports.frames import Frames

USERS = 1_000


class Nowhere:
    """An outlet that takes everything: what is measured ends where sockets begin."""

    is_drained = True
    moved_at = heard_at = 0.0

    def write(self, frame: Frame) -> bool:
        return True

    def answer(self, frame: Frame) -> None:
        raise AssertionError("nobody asks")

    def close(self, reason: CloseReason) -> None:
        raise AssertionError(f"nobody is to be closed: {reason}")


async def follow(url: str, prefix: str, count: int) -> float:
    """Notifications read per CPU second, of so many."""
    settings = read_settings(
        {"NOTIFIER_INSECURE": "true", "NOTIFIER_JOURNAL__URL": url, "NOTIFIER_BROKER__PREFIX": prefix}
    )
    frames = Frames()
    window = Window(Position("", 0, 0), opened_at_ms=0)
    hub = Hub(window, frames)
    pipeline = Pipeline(build_journal(settings), window, hub, SeenKeys())
    following = asyncio.create_task(pipeline.follow_journal())
    while not window.tail.epoch:  # noqa: ASYNC110 - the first record opens the window, and closes whoever is here
        await asyncio.sleep(0.001)
    for number in range(USERS):
        hub.register(_session(number), None)
    spare_the_collector()  # As the service does.
    began, had = time.process_time(), hub.delivered
    while hub.delivered < count * 0.9:  # noqa: ASYNC110 - the last ones may share a record with the first
        await asyncio.sleep(0.01)
    seconds = time.process_time() - began
    read = hub.delivered - had
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    return read / seconds


def _session(number: int) -> Session:
    nobody: frozenset[str] = frozenset()
    identity = Identity(
        issuer="bench",
        tenant=Tenant("default"),
        user=f"user-{number}",
        roles=nobody,
        topic_patterns=(),
        scopes=nobody,
        tenants=frozenset(),
        expires_at=time.time() + 3_600,
    )
    return Session(f"s{number}", identity, [], Nowhere())


if __name__ == "__main__":
    print(uvloop.run(follow(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
