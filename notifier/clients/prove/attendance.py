"""The sessions of a proof: who is there, who is away, and why."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Final

from notifier.clients.prove.frames import read_frame
from notifier.clients.prove.ledger import Ledger
from notifier.clients.prove.receiver import Receiver
from notifier.clients.prove.tokens import Tokens

OPENING: Final = 250  # Handshakes under way at a time; who comes back may wait some seconds for a position.
READ_FRAMES: Final = 1024
WATCH_SECONDS: Final = 1.0


class Attendance:
    """Keeps a session open for each of so many recipients.

    Args:
        run: names the proof in the data of its notifications.
        urls: read whenever a session opens, so that they can change.
        users: whose tokens to ask for; the sessions belong to them in turns.
        topics: what the sessions subscribe to, in turns.
        changed: called when a session opened or ended, or heard of an outage.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        run: str,
        sessions: int,
        urls: Sequence[str],
        users: Sequence[str],
        topics: Sequence[str],
        tokens: Tokens,
        tls: ssl.SSLContext,
        changed: Callable[[], None],
    ) -> None:
        read = lru_cache(maxsize=READ_FRAMES)(partial(read_frame, run=run))
        opening = asyncio.Semaphore(OPENING)
        self.receivers = [
            Receiver(
                ledger.recipient(),
                ledger,
                urls=urls,
                user=users[number % len(users)],
                topics=[topics[number % len(topics)]] if topics else [],
                tokens=tokens,
                read=read,
                opening=opening,
                tls=tls,
                changed=changed,
            )
            for number in range(sessions)
        ]

    @property
    def live(self) -> int:
        """Sessions that are past their welcome, as far as their clients have noticed."""
        return sum(receiver.is_live for receiver in self.receivers)

    @property
    def is_complete(self) -> bool:
        """Whether every session is past its welcome."""
        return all(receiver.is_live for receiver in self.receivers)

    @property
    def degraded(self) -> int:
        """Sessions that were told `degraded` and not yet `restored`."""
        return sum(receiver.is_degraded for receiver in self.receivers)

    @property
    def refusals(self) -> list[str]:
        """Why sessions do not come back, of those that do not."""
        return [receiver.refusal for receiver in self.receivers if receiver.refusal is not None]

    async def run(self) -> None:
        """Receive, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for receiver in self.receivers:
                tasks.create_task(receiver.run())
            while True:
                await asyncio.sleep(WATCH_SECONDS)
                for receiver in self.receivers:
                    receiver.cut_if_silent()

    async def all_answer(self, *, within_seconds: float) -> bool:
        """Ask every session for an answer. False: one of them is away, or did not answer in time."""
        try:
            async with asyncio.timeout(within_seconds):
                return all(await asyncio.gather(*(receiver.answers() for receiver in self.receivers)))
        except TimeoutError:
            return False

    def __str__(self) -> str:
        away = [receiver for receiver in self.receivers if not receiver.is_live]
        first = f" (the first away: {away[0].refusal or away[0].trouble})" if away else ""
        return f"{self.live} of {len(self.receivers)} sessions are live{first}"
