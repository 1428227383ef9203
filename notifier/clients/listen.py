"""Receiving notifications: reconnects with back-off, resumes where it stood, renews its token, drops repeats by id.

How the frames come is a transport's affair: a stream of events (event_stream.py, on httpx alone), or a WebSocket
(socket.py, which needs websockets).
"""

import asyncio
import inspect
import json
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Final, Protocol, TypeAlias

from notifier.clients.credentials import Token, checked
from notifier.clients.event_stream import event_stream
from notifier.clients.sessions import LOST, Ended, Refused, Unreachable

BACKOFF_SECONDS: Final = (0.5, 30.0)
OPENING_SECONDS: Final = 15.0  # The service may wait 5 s for the journal before it says welcome.
SILENT_HEARTBEATS: Final = 2.2
TOKEN_EXPIRED: Final = 4401
REMEMBERED_IDS: Final = 10_000
OnReset: TypeAlias = Callable[[Mapping[str, Any]], None]


class Connection(Protocol):
    """One open session."""

    async def frame(self) -> str:
        """The next frame as JSON. Raises Ended when there is no more."""

    async def renew(self, token: str) -> bool:
        """Go on under another token. False: that takes another connection."""


Transport: TypeAlias = Callable[[str, str, Mapping[str, str]], AbstractAsyncContextManager[Connection]]
"""(url of the service, token, query): opens a session. Raises Ended, Unreachable, or ValueError for what is no URL."""


async def listen(
    url: str,
    *,
    token: Token,
    topics: Sequence[str] = (),
    position: str | None = None,
    on_reset: OnReset | None = None,
    transport: Transport = event_stream,
) -> AsyncGenerator[dict[str, Any], None]:
    """Iterate over notifications, each once, for as long as the service wants this client.

    Args:
        url: of the service, such as `https://push.example.com`.
        token: a text, or a callable that is asked before each attempt and before the end of the one it gave.
        position: where to resume from, or `earliest`; None begins with what comes from now on.
        on_reset: told, with `reason`, that notifications may be missing.
        transport: `event_stream` or `socket`; `partial(socket, tls=trusting(ca_file))` for an internal CA.

    Raises:
        Refused: the service does not want this client back until something changes.
        Unauthenticated: the token is empty, or no header can hold it; of `notifier.clients`.
        ValueError: the URL is none.
    """
    listener = Listener(url, token, topics=topics, position=position, transport=transport)
    async with aclosing(aiter(listener)) as frames:
        async for frame in frames:
            if frame["type"] == "notification":
                yield frame["notification"]
            elif frame.get("resume", {}).get("status") == "reset" and on_reset is not None:
                on_reset(frame["resume"])


class Listener:
    """Iterate over it for frames: `notification` once per id, the others as they come, `disconnected` in between.

    The arguments are those of `listen`. `position` is where it stands: keep it after the notification is dealt with.
    """

    def __init__(
        self,
        url: str,
        token: Token,
        *,
        topics: Sequence[str] = (),
        position: str | None = None,
        transport: Transport = event_stream,
    ) -> None:
        self.position = position
        self._url = url.rstrip("/")
        self._get_token = token
        self._topics = topics
        self._open = transport
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._failures = 0
        self._after_seconds: float | None = None  # What the service asked to wait, in `reconnect`.
        self._token = ""
        self._expired_token: str | None = None  # The one that was last told to be expired.
        self._is_welcome = False  # There was a session since then.
        self._silent_seconds = OPENING_SECONDS

    async def __aiter__(self) -> AsyncGenerator[dict[str, Any], None]:
        while True:
            try:
                self._token = await self._current_token()
                async with self._open(self._url, self._token, self._query()) as connection:
                    self._silent_seconds = OPENING_SECONDS
                    async for frame in self._frames(connection):
                        yield frame
            except Ended as end:
                reason = self._judge(end)
            except Unreachable as error:
                reason = str(error)
            except TimeoutError:
                reason = f"nothing was heard for {self._silent_seconds:g} s"
            pause = self._pause()
            yield {
                "type": "disconnected",
                "position": self.position,
                "reason": reason,
                "after_ms": round(pause * 1000),
            }
            await asyncio.sleep(pause)

    async def _frames(self, connection: Connection) -> AsyncIterator[dict[str, Any]]:
        while True:
            async with asyncio.timeout(self._silent_seconds):
                frame = json.loads(await connection.frame())
            if frame["type"] == "welcome":
                self._is_welcome = True
                if self._token != self._expired_token:
                    self._failures = 0
                self._silent_seconds = SILENT_HEARTBEATS * frame["heartbeat_seconds"]
            elif frame["type"] == "reconnect":
                self._after_seconds = frame["after_ms"] / 1000
            if frame["type"] != "notification" or self._is_new(frame["notification"]["id"]):
                yield frame
            self.position = frame.get("position", self.position)
            if frame["type"] == "token_expiring":
                await self._renew(connection)

    async def _renew(self, connection: Connection) -> None:
        """Go on under a fresh token, where there is one. Raises Ended where that takes another connection."""
        fresh = await self._current_token()
        if fresh != self._token:
            self._token = fresh
            if not await connection.renew(fresh):
                self._after_seconds = 0.0
                raise Ended(LOST, "token renewed")

    async def _current_token(self) -> str:
        token = self._get_token() if callable(self._get_token) else self._get_token
        return checked(await token if inspect.isawaitable(token) else token)

    def _query(self) -> Mapping[str, str]:
        named = {"topics": ",".join(self._topics), "position": self.position or ""}
        return {name: value for name, value in named.items() if value}

    def _is_new(self, notification_id: str) -> bool:
        if notification_id in self._seen:
            return False
        self._seen[notification_id] = None
        if len(self._seen) > REMEMBERED_IDS:
            self._seen.popitem(last=False)
        return True

    def _judge(self, end: Ended) -> str:
        """Raise for an end that is final. An expired token gets one attempt at once, which may bring a fresh one.

        The same one again, let in because clocks may differ, is a failure like any other.
        """
        if end.code == TOKEN_EXPIRED and (self._is_welcome or self._expired_token is None):
            if self._token != self._expired_token:
                self._after_seconds = 0.0
            self._expired_token, self._is_welcome = self._token, False
        elif end.is_final:
            raise Refused(end)
        elif self._after_seconds is None and end.after_seconds is not None:
            self._after_seconds = end.after_seconds + self._jitter()
        return str(end)

    def _pause(self) -> float:
        if self._after_seconds is not None:
            pause, self._after_seconds = self._after_seconds, None
            return pause
        return self._jitter()

    def _jitter(self) -> float:
        """Full jitter: any time up to a ceiling that doubles with each failure."""
        least, most = BACKOFF_SECONDS
        ceiling = min(most, least * 2.0**self._failures)
        self._failures += 1
        return random.uniform(0, ceiling)  # noqa: S311 - spreads reconnects
