"""One recipient of a proof on the wire: connects, resumes where it stood, and takes down what it receives."""

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from notifier.clients.prove.frames import Frame
from notifier.clients.prove.ledger import Ledger
from notifier.clients.prove.recipients import Recipient
from notifier.clients.prove.tokens import Tokens
from notifier.clients.tls import told

PROTOCOL: Final = "notifier.v1"
TOKEN_EXPIRED: Final = (401, 4401)
REFUSED_STATUSES: Final = (401, 403, 426)
LOST: Final = 1006
BACKOFF_SECONDS: Final = (0.25, 4.0)
OPEN_SECONDS: Final = 10.0
SILENT_HEARTBEATS: Final = 2


class Receiver:
    """Keeps a session open for one recipient, at one url after the other, until it is told not to come back.

    Args:
        urls: read at every attempt, so that they can change; begins with the one of its own number.
        user: whose token to ask for; the welcome says who that is.
        read: from the text of a frame to what it says.
        opening: bounds the handshakes that are under way at a time.
        changed: called when a session opened or ended.
    """

    def __init__(
        self,
        recipient: Recipient,
        ledger: Ledger,
        *,
        urls: Sequence[str],
        user: str,
        topics: Sequence[str],
        tokens: Tokens,
        read: Callable[[str], Frame],
        opening: asyncio.Semaphore,
        tls: ssl.SSLContext,
        changed: Callable[[], None],
    ) -> None:
        self.recipient = recipient
        self.is_live = False
        self.is_degraded = False  # Told that the journal is unreachable.
        self.trouble = ""  # Why the latest attempt or session ended.
        self.refusal: str | None = None  # Why it does not come back; None while it does.
        self._ledger = ledger
        self._urls = urls
        self._turn = recipient.number
        self._user = user
        self._topics = topics
        self._tokens = tokens
        self._read = read
        self._opening = opening
        self._tls = tls
        self._changed = changed
        self._connection: ClientConnection | None = None  # None while there is none.
        self._position: str | None = None  # Where to resume from; None until the first welcome.
        self._token = ""
        self._refused_token: str | None = None  # Perhaps expired; None once another one was welcome.
        self._failures = 0
        self._after_seconds: float | None = None  # What the service asked to wait.
        self._heartbeat_seconds = 25.0
        self._heard_at = 0.0
        self._pong: asyncio.Future[bool] | None = None  # Waited for; True when it came, False when it cannot.

    async def run(self) -> None:
        """Receive until the service does not want this client back."""
        while self.refusal is None:
            try:
                await self._attend()
            except ConnectionClosed as end:
                self._leave(end.rcvd.code if end.rcvd else LOST, end.rcvd.reason if end.rcvd else "connection lost")
            except InvalidHandshake as error:
                self._judge(error.response.status_code if isinstance(error, InvalidStatus) else None, str(error))
            except ssl.SSLCertVerificationError as error:
                self.refusal = self.trouble = f"{self.recipient.url}: {told(error)}"
            except (OSError, TimeoutError) as error:
                self.trouble = f"{self.recipient.url}: {type(error).__name__}: {told(error)}"
            self._turn += 1
            if self.refusal is None:
                await asyncio.sleep(self._pause())
        self._changed()

    def cut(self) -> None:
        """Be gone without a word, as when a cable is pulled; it comes back by itself."""
        if self._connection is not None:
            self._connection.transport.abort()

    def cut_if_silent(self) -> None:
        """Give a connection up that has said nothing for two heartbeats."""
        if self.is_live and time.monotonic() - self._heard_at > SILENT_HEARTBEATS * self._heartbeat_seconds:
            self.cut()

    async def answers(self) -> bool:
        """Ask for an answer, behind which everything written before has arrived. False: the session ended."""
        connection = self._connection
        if connection is None or not self.is_live:
            return False
        if self._pong is None:
            self._pong = asyncio.get_running_loop().create_future()
            try:
                await connection.send('{"type":"ping","ref":"proof"}')
            except ConnectionClosed:
                return False
        return await asyncio.shield(self._pong)

    # -- one session ---------------------------------------------------------------------------------------------

    async def _attend(self) -> None:
        """Open a session and take down what comes, to its end, which is an exception."""
        if not self._urls:
            raise OSError("there is no url to connect to")
        url = self.recipient.url = self._urls[self._turn % len(self._urls)]
        async with self._opening:
            self._token = await self._tokens.get(self._user, other_than=self._refused_token)
            connection = await self._connect(url)
        try:
            self._connection = connection
            while True:
                text = await connection.recv(decode=True)
                self._heard_at = time.monotonic()
                self._take(self._read(text))
        finally:
            self._connection = None
            await connection.close()

    async def _connect(self, url: str) -> ClientConnection:
        query = {"topics": ",".join(self._topics)} if self._topics else {}
        if self._position is not None:
            query["position"] = self._position
        address = f"ws{url.removeprefix('http')}/ws"
        return await connect(
            f"{address}?{urlencode(query)}" if query else address,
            subprotocols=[PROTOCOL],  # type: ignore[list-item]  # a NewType of str
            additional_headers={"Authorization": f"Bearer {self._token}"},
            ssl=self._tls if address.startswith("wss") else None,
            compression=None,
            proxy=None,
            ping_interval=None,  # The service pings.
            open_timeout=OPEN_SECONDS,
            close_timeout=1,
        )

    def _take(self, frame: Frame) -> None:
        if frame.kind == "notification":
            if frame.n is not None:
                self._ledger.receive(self.recipient, frame.n, frame.id, frame.place, self._heard_at)
            else:
                self._ledger.foreign += 1
        elif frame.kind == "welcome":
            self._welcome(frame)
        elif frame.place is not None:
            self._ledger.hear(self.recipient, frame.place)
        self._position = frame.position or self._position
        if frame.kind == "reconnect":
            self._after_seconds = frame.fields["after_ms"] / 1000
        elif frame.kind in ("degraded", "restored"):
            self.is_degraded = frame.kind == "degraded"
            self._changed()
        elif frame.kind == "pong":
            self._settle_pong(True)

    def _welcome(self, frame: Frame) -> None:
        welcome, recipient = frame.fields, self.recipient
        recipient.user, recipient.tenant = welcome["user"], welcome["tenant"]
        recipient.topics = frozenset(welcome["topics"])
        self._ledger.welcome(recipient, welcome["resume"]["status"], frame.place, self._heard_at)
        self._heartbeat_seconds = welcome["heartbeat_seconds"]
        self._failures = 0
        if self._token != self._refused_token:
            self._refused_token = None
        if welcome["denied"]:
            self.refusal = f"{recipient.user} may not subscribe: {welcome['denied']}"
        self.is_live = True
        self._changed()

    # -- between sessions ----------------------------------------------------------------------------------------

    def _leave(self, code: int, reason: str) -> None:
        if self.is_live:
            self._ledger.leave(self.recipient, code, time.monotonic())
        self._judge(code, f"closed with {code} {reason}".rstrip())
        self.is_live = self.is_degraded = False
        self._settle_pong(False)
        self._changed()

    def _judge(self, code: int | None, reason: str) -> None:
        """Stay away when that is what a refusal means. A token that may have expired is renewed once."""
        self.trouble = f"{self.recipient.url}: {reason}"
        if code in TOKEN_EXPIRED and self._refused_token is None:
            self._refused_token = self._token
            self._after_seconds = 0.0
        elif code is not None and (code in REFUSED_STATUSES or 4400 <= code < 4500):
            self.refusal = self.trouble

    def _settle_pong(self, came: bool) -> None:
        if self._pong is not None:
            self._pong.set_result(came)
            self._pong = None

    def _pause(self) -> float:
        """Full jitter, under a ceiling that doubles with each failure and is low: a proof wants everybody back."""
        if self._after_seconds is not None:
            pause, self._after_seconds = self._after_seconds, None
            return pause
        least, most = BACKOFF_SECONDS
        ceiling = min(most, least * 2.0 ** min(self._failures, 8))
        self._failures += 1
        return random.uniform(0, ceiling)  # noqa: S311 - spreads reconnects
