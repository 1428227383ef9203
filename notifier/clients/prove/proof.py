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
from types import TracebackType
from typing import Final, Self

from notifier.clients.prove.answers import Door
from notifier.clients.prove.attendance import Attendance
from notifier.clients.prove.http_door import HttpDoor
from notifier.clients.prove.ledger import Ledger
from notifier.clients.prove.load import Load, Mix
from notifier.clients.prove.receiver import Receiver
from notifier.clients.prove.recipients import Absence, Recipient
from notifier.clients.prove.tokens import Tokens
from notifier.clients.prove.verdict import Latency, Verdict, is_outstanding, judge

FIRST_SECONDS: Final = 10.0
OPEN_SECONDS: Final = 60.0
SESSIONS_PER_TOPIC: Final = 20
LOOK_SECONDS: Final = 0.1


class ProofFailed(Exception):
    """The proof cannot begin, or something that was waited for did not come; the text says what."""


class Proof:
    """Opens the sessions on entry and begins to send once all are live; ends all of it on exit.

    Attributes for a look: `ledger`, all that happened; `load`, how far the sending is. Who cuts wires finds `cut()` at
    each of the `receivers`.

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
        tls: whom to trust; None for the usual authorities.
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
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.run = secrets.token_hex(4)
        self.ledger = Ledger()
        self._changed = asyncio.Event()  # Set when anything happened that somebody may wait for.
        self.urls = [url.rstrip("/") for url in urls]
        self._send_urls = self.urls if send_urls is None else [url.rstrip("/") for url in send_urls]
        self._tls = tls or ssl.create_default_context()
        self._sender_tokens = Tokens(sender_token)
        if topics is None:
            count = max(1, sessions // SESSIONS_PER_TOPIC) if topic_share else 0
            topics = [f"prove.{self.run}.{number}" for number in range(count)]
        self._topics = list(topics)
        self.attendance = Attendance(
            self.ledger,
            run=self.run,
            sessions=sessions,
            urls=self.urls,
            users=[f"prove-{self.run}-{number}" for number in range(users or sessions)],
            topics=self._topics,
            tokens=Tokens(session_token),
            tls=self._tls,
            changed=self._note_change,
        )
        self._amqp_url = amqp_url
        self._prefix = prefix
        amqp_share = amqp_share if amqp_url else 0.0
        self._shares = {name: share for name, share in (("http", 1 - amqp_share), ("amqp", amqp_share)) if share > 0}
        self.load = Load(
            self.ledger,
            run=self.run,
            rate=rate,
            count=round(rate * seconds),
            mix=Mix(topic_share if self._topics else 0.0, broadcast_share, self._shares),
            senders=senders,
            retry_seconds=retry_seconds,
            max_in_flight=max_in_flight,
            changed=self._note_change,
            seed=seed,
        )
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
            await self._until(lambda: self.attendance.is_complete, left, "all sessions to be live")
            if await self.attendance.all_answer(within_seconds=began + within_seconds - time.monotonic()):
                return time.monotonic() - began
            await asyncio.sleep(LOOK_SECONDS)

    async def all_degraded(self, *, within_seconds: float = 15.0) -> None:
        """Wait until every session was told `degraded`. Raises ProofFailed."""
        await self._until(lambda: self.degraded == len(self.receivers), within_seconds, "all sessions to be degraded")

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
        await self.attendance.all_answer(within_seconds=max(1.0, deadline - time.monotonic()))

    def verdict(self) -> Verdict:
        """Judge what happened up to now."""
        return judge(self.ledger)

    # -- what is to be seen --------------------------------------------------------------------------------------

    @property
    def recipients(self) -> list[Recipient]:
        """Who takes part, and what each received."""
        return self.ledger.recipients

    @property
    def receivers(self) -> list[Receiver]:
        """Who receives for each of the recipients, in the same order."""
        return self.attendance.receivers

    @property
    def live(self) -> int:
        """Sessions that are past their welcome, as far as their clients have noticed."""
        return self.attendance.live

    @property
    def degraded(self) -> int:
        """Sessions that were told `degraded` and not yet `restored`."""
        return self.attendance.degraded

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
        _allow_files(2 * len(self.receivers))
        self._life = asyncio.create_task(self._run())
        self._life.add_done_callback(lambda _: self._note_change())
        try:
            await self._until(lambda: self.live > 0, FIRST_SECONDS, "the first session")
            await self.all_live(within_seconds=OPEN_SECONDS)
            self._check()
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
        doors: dict[str, Door] = {}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.attendance.run())
                await self._opened.wait()
                doors = {name: self._door(name) for name in self._shares}
                users = sorted({recipient.user for recipient in self.recipients})
                await self.load.run(doors, users=users, topics=self._topics)
        finally:
            for door in doors.values():
                await door.close()

    def _door(self, name: str) -> Door:
        if name == "http":
            return HttpDoor(self._send_urls, self._sender_tokens, tls=self._tls)
        from notifier.clients.prove.queue_door import QueueDoor  # noqa: PLC0415 - aio-pika only where there is AMQP

        assert self._amqp_url is not None
        return QueueDoor(self._amqp_url, prefix=self._prefix, tenant=self.recipients[0].tenant)

    async def _end(self, life: asyncio.Task[None]) -> None:
        life.cancel()
        await asyncio.wait([life])
        if not life.cancelled():
            life.exception()  # Looked at also where another error is raised.

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
            raise ProofFailed(f"waited in vain for {what}: {self.attendance}, {self.load}") from None

    def _check(self) -> None:
        """Do not wait for what cannot come any more."""
        if self._life is not None and self._life.done():
            self._life.result()
            raise ProofFailed("the proof is over")
        if not self._opened.is_set() and (refusals := self.attendance.refusals):
            raise ProofFailed(f"{len(refusals)} sessions are refused, the first: {refusals[0]}")

    def _check_tenants(self) -> None:
        tenants = {recipient.tenant for recipient in self.recipients}
        if len(tenants) > 1:
            raise ProofFailed(f"the sessions are of several tenants, which never meet: {', '.join(sorted(tenants))}")


def _allow_files(count: int) -> None:
    """Raise the limit of open files, as far as that needs no privilege."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 1024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
