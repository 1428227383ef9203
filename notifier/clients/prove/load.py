"""The load of a proof: notifications at a rate, through every door, each tried until it has an outcome."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from notifier.clients.prove.answers import Answer, Door, Item
from notifier.clients.prove.frames import PROOF_TYPE
from notifier.clients.prove.ledger import Ledger
from notifier.clients.prove.sends import Audience, Lane, Outcome

Kind = Literal["user", "topic", "everyone"]
LEAST_LANES: Final = 64  # So that a rate is reached although each lane waits for its answers.
BROADCAST_LANES: Final = 4
BURST_SECONDS: Final = 0.1  # After a stall the sending goes on at its rate, and does not make up for it.
RETRY_SECONDS: Final = (0.05, 1.0)


@dataclass(frozen=True, slots=True)
class Mix:
    """How much goes to topics and to everyone, the rest to one user each; and how much of it all through which door."""

    topic: float
    everyone: float
    doors: Mapping[str, float]


class Load:
    """Begins sends, in lanes whose order counts.

    Args:
        run: names the proof in the data of each notification.
        rate: sends begun per second, while no more than `max_in_flight` wait for their outcome.
        count: sends in all.
        senders: callers that the sends are spread over.
        retry_seconds: how long a send is tried again, before its outcome is unknown.
        changed: called when a send has its outcome.
        seed: of the order in which audiences take turns.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        run: str,
        rate: float,
        count: int,
        mix: Mix,
        senders: int,
        retry_seconds: float,
        max_in_flight: int,
        changed: Callable[[], None],
        seed: int,
    ) -> None:
        self.left = count  # Still to begin.
        self.begun = 0
        self.settled = 0
        self.going = asyncio.Event()  # Cleared while sending pauses.
        self.going.set()
        self._ledger = ledger
        self._run = run
        self._rate = rate
        self._mix = mix
        self._doors, self._shares = list(mix.doors), list(mix.doors.values())
        self._senders = senders
        self._retry_seconds = retry_seconds
        self._max_in_flight = max_in_flight
        self._changed = changed
        self._random = random.Random(seed)  # noqa: S311 - a load that can be repeated
        self._idle: dict[tuple[str, Kind], deque[Lane]] = {}  # Lanes that wait for their turn.
        self._freed = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Whether all was sent and has its outcome."""
        return not self.left and self.settled == self.begun

    def __str__(self) -> str:
        return f"{self.settled} of {self.begun} sends that were begun have an outcome, {self.left} are to come"

    async def run(self, doors: Mapping[str, Door], *, users: Sequence[str], topics: Sequence[str]) -> None:
        """Begin the sends at their rate. Each gets a task, in which it is tried until it has an outcome."""
        self._open_lanes(doors, users, topics)
        due = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            while self.left:
                await self.going.wait()
                lane, idle = await self._next_lane()
                due = max(due + 1 / self._rate, time.monotonic() - BURST_SECONDS)
                await asyncio.sleep(due - time.monotonic())
                if self.left:
                    self.left -= 1
                    self.begun += 1
                    tasks.create_task(self._send(lane, idle, doors[lane.door]))

    def _open_lanes(self, doors: Mapping[str, Door], users: Sequence[str], topics: Sequence[str]) -> None:
        audiences: dict[Kind, list[Audience]] = {
            "user": [Audience(users=(user,)) for user in users] * max(1, LEAST_LANES // len(users)),
            "topic": [Audience(topics=(topic,)) for topic in topics],
            "everyone": [Audience(everyone=True)] * BROADCAST_LANES,
        }
        for door in doors:
            for kind, each in audiences.items():
                self._idle[door, kind] = deque(self._ledger.lane(audience, door) for audience in each)

    async def _next_lane(self) -> tuple[Lane, deque[Lane]]:
        """The lane whose turn it is, of a door and a kind by their shares; another to a user, while those are busy."""
        door, kind = self._draw_door(), self._draw_kind()
        while True:
            if self.begun - self.settled < self._max_in_flight:
                others = [lanes for (_, other), lanes in self._idle.items() if other == "user" and lanes]
                if idle := self._idle[door, kind] or (self._random.choice(others) if others else None):
                    return idle.popleft(), idle
            self._freed.clear()
            await self._freed.wait()

    def _draw_door(self) -> str:
        return self._random.choices(self._doors, self._shares)[0]

    def _draw_kind(self) -> Kind:
        drawn = self._random.random()
        if drawn < self._mix.everyone:
            return "everyone"
        return "topic" if drawn < self._mix.everyone + self._mix.topic else "user"

    async def _send(self, lane: Lane, idle: deque[Lane], door: Door) -> None:
        """Send one notification, and try again with the same key until it has an outcome, or for too long."""
        send = self._ledger.begin(lane, time.monotonic())
        body = {"type": PROOF_TYPE, "title": "proof", "data": {"run": self._run, "n": send.n}}
        caller = f"prove-{self._run}-sender-{send.n % self._senders}"
        item = Item(f"{self._run}-{send.n}", lane.audience, body, caller)
        attempts = 0
        while send.outcome is Outcome.PENDING:
            attempts += 1
            self._ledger.attempt(send, time.monotonic())
            answer = await door.attempt(item, send.n + attempts)
            now = time.monotonic()
            if answer.decision == "accepted":
                self._ledger.accept(send, now, answer.id, via=answer.via)
            elif answer.decision == "refused" and attempts == 1:
                self._ledger.refuse(send, answer.reason, now)
            else:
                self._ledger.retry(send, answer.reason, now)
                if answer.decision == "refused" or now - send.begun_at > self._retry_seconds:
                    self._ledger.give_up(send, now)
                else:
                    await asyncio.sleep(self._retry_pause(answer, attempts))
        self.settled += 1
        idle.append(lane)
        self._freed.set()
        self._changed()

    def _retry_pause(self, answer: Answer, attempts: int) -> float:
        """As long as the service asked for, and a jitter under a ceiling that doubles."""
        least, most = RETRY_SECONDS
        return answer.after_seconds + self._random.uniform(0, min(most, least * 2.0 ** min(attempts, 8)))
