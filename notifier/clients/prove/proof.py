"""A proof under way: sessions that receive, a load that is sent, and the ledger of both.

async with Proof(urls=[...], session_token=..., sender_token=..., sessions=300, rate=200, seconds=20) as proof:
    await proof.sent(1_000)                      # something is killed here
    await proof.all_live(within_seconds=15)
    await proof.settle()
    verdict = proof.verdict()

assert verdict.is_clean, verdict
"""

import asyncio
import resource
import secrets
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from types import TracebackType
from typing import Final, Self

from notifier.clients.prove.answers import Door
from notifier.clients.prove.frames import read_frame
from notifier.clients.prove.http_door import HttpDoor
from notifier.clients.prove.ledger import Ledger
from notifier.clients.prove.load import Load, Mix
from notifier.clients.prove.receiver import Receiver
from notifier.clients.prove.recipients import Absence, Recipient
from notifier.clients.prove.tokens import Tokens
from notifier.clients.prove.verdict import Latency, Verdict, is_outstanding, judge

OPENING: Final = 50  # Handshakes under way at a time.
FIRST_SECONDS: Final = 10.0
OPEN_SECONDS: Final = 60.0
SESSIONS_PER_TOPIC: Final = 20
LOOK_SECONDS: Final = 0.1
WATCH_SECONDS: Final = 1.0


class ProofFailed(Exception):
    """The proof cannot begin, or something that was waited for did not come; the text says what."""


class Proof:
    """Opens the sessions on entry and begins to send once all are live; ends all of it on exit.

    Attributes for a look: `ledger`, all that happened; `load`, how far the sending is. For those who cut wires:
    `receivers`, in the order of `recipients`, each with `cut()` and `trouble`.

    Args:
        urls: of the replicas, `http://` or `https://`. Sessions begin spread over them, and go to the next after a
            loss.
        session_token, sender_token: from the name of a user to its token; called in a thread, and again when a token
            was refused as expired. An OSError of `session_token` is tried again.
        sessions: how many. They belong to `users` users (as many, unless given); the welcome says who each really is.
        rate: notifications begun per second, while no more than `max_in_flight` wait for their outcome.
        seconds: `rate` times this is the number that is sent.
        send_urls: where to send over HTTP, when that is not where the sessions are.
        topics: the topics that sessions take turns to subscribe to; unless given, one for 20 sessions, made up.
        topic_share, broadcast_share: how much goes to a topic and to everyone; the rest to one user each.
        amqp_url, prefix: the broker of the request queue, and what its names begin with.
        amqp_share: how much goes through the queue, when `amqp_url` is given; the rest over HTTP.
        senders: callers that the HTTP sends are spread over, since a caller has limits.
        retry_seconds: how long a send is tried again with its key, before its outcome is unknown.
        seed: of the order in which audiences take turns.
    """

    def __init__(
        self,
        *,
        urls: Iterable[str],
        session_token: Callable[[str], str],
        sender_token: Callable[[str], str],
        sessions: int = 100,
        users: int | None = None,
        rate: float = 100.0,
        seconds: float = 10.0,
        send_urls: Iterable[str] | None = None,
        topics: Sequence[str] | None = None,
        topic_share: float = 0.1,
        broadcast_share: float = 0.01,
        amqp_url: str | None = None,
        prefix: str = "notifier",
        amqp_share: float = 0.5,
        senders: int = 4,
        retry_seconds: float = 30.0,
        max_in_flight: int = 256,
        seed: int = 0,
    ) -> None:
        self.run = secrets.token_hex(4)
        self.ledger = Ledger()
        self.receivers: list[Receiver] = []
        self.urls = [url.rstrip("/") for url in urls]
        self._send_urls = self.urls if send_urls is None else [url.rstrip("/") for url in send_urls]
        self._session_tokens = Tokens(session_token)
        self._sender_tokens = Tokens(sender_token)
        self._sessions = sessions
        self._users = users or sessions
        self._topics = self._made_up_topics() if topics is None and topic_share else list(topics or ())
        self._amqp_url = amqp_url
        self._prefix = prefix
        amqp_share = amqp_share if amqp_url else 0.0
        doors = {name: share for name, share in (("http", 1 - amqp_share), ("amqp", amqp_share)) if share > 0}
        self._doors: dict[str, Door] = {}
        self.load = Load(
            self.ledger,
            run=self.run,
            rate=rate,
            count=round(rate * seconds),
            mix=Mix(topic_share if self._topics else 0.0, broadcast_share, doors),
            senders=senders,
            retry_seconds=retry_seconds,
            max_in_flight=max_in_flight,
            changed=self._note_change,
            seed=seed,
        )
        self._mix_doors = doors
        self._changed = asyncio.Event()  # Set when anything happened that somebody may wait for.
        self._opened = asyncio.Event()  # Set once all sessions are live: the load may begin.
        self._life: asyncio.Task[None] | None = None  # Runs all of it, from entry to exit.

    # -- milestones ----------------------------------------------------------------------------------------------

    async def sent(self, count: int, *, within_seconds: float = 120.0) -> None:
        """Wait until so many sends have their outcome, whatever it is. Raises ProofFailed."""
        await self._until(lambda: self.load.settled >= count, within_seconds, f"{count} sends")

    async def all_sent(self, *, within_seconds: float = 600.0) -> None:
        """Wait until every send has its outcome. Raises ProofFailed."""
        await self._until(lambda: self.load.is_over, within_seconds, "all sends")

    async def all_live(self, *, within_seconds: float = 15.0) -> float:
        """Wait until every session is past its welcome and answers a ping, and return the seconds it took.

        A session whose replica was just killed does not answer, so this can be called at once. Raises ProofFailed.
        """
        began = time.monotonic()
        while True:
            left = began + within_seconds - time.monotonic()
            await self._until(lambda: self.live == self._sessions, left, "all sessions to be live")
            if await self._all_answer(began + within_seconds - time.monotonic()):
                return time.monotonic() - began
            await asyncio.sleep(LOOK_SECONDS)

    async def all_degraded(self, *, within_seconds: float = 15.0) -> None:
        """Wait until every session was told `degraded`. Raises ProofFailed."""
        await self._until(lambda: self.degraded == self._sessions, within_seconds, "all sessions to be degraded")

    async def all_restored(self, *, within_seconds: float = 15.0) -> None:
        """Wait until no session is told `degraded` any more. Raises ProofFailed."""
        await self._until(lambda: self.degraded == 0, within_seconds, "all sessions to be restored")

    async def settle(self, *, within_seconds: float = 30.0) -> None:
        """Wait until all was sent, and then until everybody has everything, or the time is over.

        What is missing then is for the verdict. At the end every session is asked for an answer, behind which repeats
        would have come.
        """
        await self.all_sent()
        deadline = time.monotonic() + within_seconds
        while is_outstanding(self.ledger) and time.monotonic() < deadline:  # noqa: ASYNC110 - it costs too much to look often
            await asyncio.sleep(LOOK_SECONDS)
        await self._all_answer(max(1.0, deadline - time.monotonic()))

    def verdict(self) -> Verdict:
        """Judge what happened up to now."""
        return judge(self.ledger)

    # -- what is to be seen --------------------------------------------------------------------------------------

    @property
    def recipients(self) -> list[Recipient]:
        """Who takes part, and what each received."""
        return self.ledger.recipients

    @property
    def live(self) -> int:
        """Sessions that are past their welcome, as far as their clients have noticed."""
        return sum(receiver.is_live for receiver in self.receivers)

    @property
    def degraded(self) -> int:
        """Sessions that were told `degraded` and not yet `restored`."""
        return sum(receiver.is_degraded for receiver in self.receivers)

    @property
    def absences(self) -> list[Absence]:
        """Every loss of a session, with its close code, and when and how its client was back."""
        return [absence for recipient in self.recipients for absence in recipient.absences]

    @property
    def closed_codes(self) -> Counter[int]:
        """How often sessions ended, by close code; 1006 is a connection lost without one."""
        return Counter(absence.code for absence in self.absences)

    @property
    def untouched(self) -> list[Recipient]:
        """The recipients that never lost their session."""
        return [recipient for recipient in self.recipients if not recipient.absences]

    @staticmethod
    def latency(recipients: Iterable[Recipient]) -> Latency:
        """How long notifications took to some of the recipients."""
        return Latency.of(recipients)

    # -- what can be done ----------------------------------------------------------------------------------------

    def add_url(self, url: str) -> None:
        """Let new sessions go there as well; and sends, unless they have urls of their own."""
        self.urls.append(url.rstrip("/"))

    def remove_url(self, url: str) -> None:
        """Open no more sessions there. Those that are open stay. Without any url, those that end stay away."""
        self.urls.remove(url.rstrip("/"))

    def pause(self) -> None:
        """Begin no more sends, until `resume`."""
        self.load.going.clear()

    def resume(self) -> None:
        """Go on sending."""
        self.load.going.set()

    def stop(self) -> None:
        """Begin no more sends at all."""
        self.load.left = 0
        self.load.going.set()
        self._note_change()

    # -- life ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open all sessions and begin to send. Raises ProofFailed when a session does not open in a minute."""
        _allow_files(2 * self._sessions)
        self._life = asyncio.create_task(self._run())
        self._life.add_done_callback(lambda _: self._note_change())
        try:
            await self._until(lambda: self.live > 0, FIRST_SECONDS, "the first session")
            await self.all_live(within_seconds=OPEN_SECONDS)
            self._check_tenants()
        except BaseException:
            await self._end(self._life)
            raise
        self._opened.set()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._life is not None
        await self._end(self._life)
        if kind is None and not self._life.cancelled():
            self._life.result()

    async def _run(self) -> None:
        """Receive and send, until cancelled."""
        tls = ssl.create_default_context() if any(url.startswith("https") for url in self.urls) else None
        read = lru_cache(maxsize=1024)(partial(read_frame, run=self.run))
        opening = asyncio.Semaphore(OPENING)
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._sessions):
                    receiver = Receiver(
                        self.ledger.recipient(),
                        self.ledger,
                        urls=self.urls,
                        user=f"prove-{self.run}-{number % self._users}",
                        topics=[self._topics[number % len(self._topics)]] if self._topics else [],
                        tokens=self._session_tokens,
                        read=read,
                        opening=opening,
                        tls=tls,
                        changed=self._note_change,
                    )
                    self.receivers.append(receiver)
                    tasks.create_task(receiver.run())
                self._note_change()
                tasks.create_task(self._watch())
                await self._opened.wait()
                self._open_doors(tls)
                users = sorted({recipient.user for recipient in self.recipients})
                await self.load.run(self._doors, users=users, topics=self._topics)
        finally:
            for door in self._doors.values():
                await door.close()

    async def _end(self, life: asyncio.Task[None]) -> None:
        life.cancel()
        await asyncio.wait([life])

    def _open_doors(self, tls: ssl.SSLContext | None) -> None:
        if "http" in self._mix_doors:
            self._doors["http"] = HttpDoor(self._send_urls, self._sender_tokens, tls=tls)
        if "amqp" in self._mix_doors:
            from notifier.clients.prove.queue_door import QueueDoor  # noqa: PLC0415 - aio-pika only where there is AMQP

            assert self._amqp_url is not None
            self._doors["amqp"] = QueueDoor(self._amqp_url, prefix=self._prefix, tenant=self.recipients[0].tenant)

    async def _watch(self) -> None:
        """Give up connections that are silent."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for receiver in self.receivers:
                receiver.cut_if_silent()

    def _made_up_topics(self) -> list[str]:
        return [f"prove.{self.run}.{number}" for number in range(max(1, self._sessions // SESSIONS_PER_TOPIC))]

    # -- waiting -------------------------------------------------------------------------------------------------

    def _note_change(self) -> None:
        self._changed.set()

    async def _until(self, holds: Callable[[], bool], within_seconds: float, what: str) -> None:
        try:
            async with asyncio.timeout(within_seconds):
                while not holds():
                    self._check()
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise ProofFailed(f"waited in vain for {what}: {self._state()}") from None

    def _check(self) -> None:
        """Do not wait for what cannot come any more."""
        if self._life is not None and self._life.done():
            self._life.result()
            raise ProofFailed("the proof is over")
        refusals = [receiver.refusal for receiver in self.receivers if receiver.refusal is not None]
        if refusals and not self._opened.is_set():
            raise ProofFailed(f"{len(refusals)} sessions are refused, the first: {refusals[0]}")

    def _check_tenants(self) -> None:
        tenants = {recipient.tenant for recipient in self.recipients}
        if len(tenants) > 1:
            raise ProofFailed(f"the sessions are of several tenants, which never meet: {', '.join(sorted(tenants))}")

    async def _all_answer(self, within_seconds: float) -> bool:
        """Ask every live session for an answer. False: one of them ended instead, or did not answer in time."""
        try:
            async with asyncio.timeout(within_seconds):
                return all(await asyncio.gather(*(receiver.answers() for receiver in self.receivers)))
        except TimeoutError:
            return False

    def _state(self) -> str:
        away = [receiver for receiver in self.receivers if not receiver.is_live]
        first = f" (the first away: {away[0].refusal or away[0].trouble})" if away else ""
        return f"{self.live} of {self._sessions} sessions are live{first}, {self.load.settled} sends have an outcome"


def _allow_files(count: int) -> None:
    """Raise the limit of open files, as far as that needs no privilege."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 1024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
