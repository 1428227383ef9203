"""Hub, replay and window together, under random lives of sessions, held against a model frame by frame."""

from dataclasses import replace
from random import Random
from typing import TypeVar

import pytest

from notifier.core.audience import EVERYONE
from notifier.core.envelope import Envelope
from notifier.core.identity import Tenant
from notifier.core.ports import CloseReason
from tests.core.builders import NEVER, envelope, identity, role, topic, user
from tests.core.world import Client, World

T = TypeVar("T")
_BYTES = b"x" * 40 * 1024  # Up to this size, so that a replay takes several chunks of 64 KiB.
TENANTS = [Tenant("t0"), Tenant("t1")]
USERS = ["alice", "bob"]
ROLES = ["admin", "intern"]
TOPICS = ["orders", "news"]


class Life:
    """Random but repeatable doings of senders and clients."""

    def __init__(self, seed: int, *, max_bytes: int, max_running: int, limits: tuple[int, ...]) -> None:
        self.random = Random(seed)
        self.world = World(max_bytes=max_bytes, max_running=max_running)
        self.number = 0
        self.clients = [
            self.world.join(
                identity(self.random.choice(USERS), tenant=tenant, roles=self._some(ROLES)),
                self._some(TOPICS),
                limit_bytes=self.random.choice(limits),
            )
            for tenant in TENANTS
            for _ in range(4)
        ]

    def step(self) -> None:
        doings = [self._send] * 5 + [self._connect, self._connect, self._take, self._take, self._take]
        doings += [self.world.turn, self.world.turn]
        doings += [self._disconnect, self._subscribe, self._unsubscribe, self._refresh, self._beat, self._wait]
        self.random.choice(doings)()

    def _send(self) -> None:
        envelopes = [self._envelope() for _ in range(self.random.choice([1, 1, 2, 5]))]
        self.world.send(*envelopes, after_seconds=self.random.choice([0, 0, 1]))

    def _envelope(self) -> Envelope:
        random = self.random
        self.number += 1
        everyone = [EVERYONE]
        include = self._some([*map(user, USERS), *map(role, ROLES), *map(topic, TOPICS)]) or everyone
        exclude = self._some([*map(user, USERS), *map(role, ROLES)]) if random.random() < 0.2 else []
        return envelope(
            *include,
            exclude=exclude,
            tenant=random.choice(TENANTS),
            name=f"n{self.number}",
            sealed=_BYTES[: random.randint(1, 40) * 1024],
            accepted_at_ms=self.world.now_ms,
            expires_at_ms=self.world.now_ms + 3_000 if random.random() < 0.2 else NEVER,
            live_only=random.random() < 0.1,
            collapse_key=random.choice([None, None, None, "k", "j"]),
        )

    def _connect(self) -> None:
        closed = [client for client in self.clients if not client.is_open]
        if closed:
            client = self.random.choice(closed)
            if client.session is not None:  # We closed it; its client takes what it was sent, and comes again.
                client.outlet.take()
                self.world.disconnect(client)
            if self.random.random() < 0.1:
                client.stored = "earliest"
            self.world.connect(client)

    def _take(self) -> None:
        if client := self._open():
            self.world.take(client, self.random.choice([1, 2, 5, 2**30]))

    def _disconnect(self) -> None:
        if client := self._open():
            self.world.disconnect(client)

    def _subscribe(self) -> None:
        if client := self._open():
            told = [str(frame.position) for frame in client.outlet.taken if frame.position]
            self.world.subscribe(client, self.random.choice(TOPICS), self.random.choice([None, "earliest", *told]))

    def _unsubscribe(self) -> None:
        if client := self._open():
            self.world.unsubscribe(client, self.random.choice(TOPICS))

    def _refresh(self) -> None:
        if client := self._open():
            fresh = replace(client.identity, roles=frozenset(self._some(ROLES)))
            self.world.refresh(client, fresh, frozenset(self._some(sorted(client.topics))))

    def _beat(self) -> None:
        if client := self._open():
            self.world.beat(client)

    def _wait(self) -> None:
        self.world.turn()  # What is put off is put off for milliseconds, in which nothing expires.
        self.world.clock.now += self.random.choice([0.5, 2.0])

    def _open(self) -> Client | None:
        found = [client for client in self.clients if client.is_open]
        return self.random.choice(found) if found else None

    def _some(self, of: list[T]) -> list[T]:
        return [one for one in of if self.random.random() < 0.35]


def live(seed: int, *, max_bytes: int, max_running: int, limits: tuple[int, ...], steps: int = 250) -> World:
    life = Life(seed, max_bytes=max_bytes, max_running=max_running, limits=limits)
    for _ in range(steps):
        life.step()
    life.world.settle()
    return life.world


@pytest.mark.parametrize("seed", range(10))
def test_each_session_gets_what_it_is_owed_while_nothing_is_evicted(seed: int) -> None:
    world = live(seed, max_bytes=2**30, max_running=1_000, limits=(1, 60 * 1024, 2**30))

    assert "reset" not in world.statuses
    assert world.hub.fallen_behind > 0
    assert all(client.outlet.closed is None for client in world.clients)


@pytest.mark.parametrize("seed", range(10))
def test_with_one_cursor_at_a_time_each_session_still_gets_what_it_is_owed(seed: int) -> None:
    world = live(seed, max_bytes=2**30, max_running=1, limits=(1, 60 * 1024))

    assert all(client.outlet.closed is None for client in world.clients)


@pytest.mark.parametrize("seed", range(10))
def test_with_a_small_window_a_session_is_served_whole_or_closed_or_reset(seed: int) -> None:
    world = live(seed, max_bytes=600 * 1024, max_running=2, limits=(1, 60 * 1024))

    assert "reset" in world.statuses
    closed = {client.outlet.closed for client in world.clients}
    assert closed <= {None, CloseReason.FELL_BEHIND}
