"""Receiving notifications over WebSocket: reconnects with back-off, resumes where it stood, drops repeats by id."""

import asyncio
import json
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

PROTOCOL: Final = "notifier.v1"
BACKOFF_SECONDS: Final = (0.5, 30.0)
TOKEN_EXPIRED: Final = 4401
REMEMBERED_IDS: Final = 10_000


class Connection(Protocol):
    """What brings messages, and says how it was closed."""

    def __aiter__(self) -> AsyncIterator[str | bytes]: ...

    @property
    def close_code(self) -> int | None: ...

    @property
    def close_reason(self) -> str | None: ...


class Refused(Exception):
    """The service does not want this client back until something changes."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"refused with {code}: {reason}")
        self.code = code
        self.reason = reason


class Listener:
    """Iterate over it for frames: `notification` once per id, and the others as they come.

    Args:
        url: the WebSocket address, such as `ws://127.0.0.1:8000/ws`.
        get_token: asked before each attempt; a token that is still good may be returned again.
        position: where to resume from; None begins with what comes from now on.

    Raises:
        Refused: with the close code, for the codes that say so.
    """

    def __init__(
        self, url: str, get_token: Callable[[], str], *, topics: Sequence[str] = (), position: str | None = None
    ) -> None:
        self._url = url
        self._get_token = get_token
        self._topics = topics
        self.position = position
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._failures = 0
        self._after_seconds: float | None = None  # What the service asked to wait, in `reconnect`.
        self._token = ""
        self._expired_token: str | None = None  # The one that was last told to be expired.

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            try:
                async with self._connect() as connection:
                    async for frame in self._frames(connection):
                        yield frame
                reason = self._judge(connection.close_code, connection.close_reason)
            except ConnectionClosed as end:
                reason = self._judge(end.rcvd.code if end.rcvd else 1006, end.rcvd.reason if end.rcvd else "")
            except InvalidHandshake as error:
                reason = self._judge_refusal(error)
            except OSError as error:
                reason = str(error)
            pause = self._pause()
            yield {
                "type": "disconnected",
                "position": self.position,
                "reason": reason,
                "after_ms": round(pause * 1000),
            }
            await asyncio.sleep(pause)

    def _connect(self) -> AbstractAsyncContextManager[Connection]:
        url, token = self._next_address()
        return connect(
            url,
            subprotocols=[PROTOCOL],  # type: ignore[list-item]  # a NewType of str
            additional_headers={"Authorization": f"Bearer {token}"},
            ping_interval=None,  # The service pings.
        )

    def _next_address(self) -> tuple[str, str]:
        """Where to go on, and the token for it."""
        self._token = self._get_token()
        query = {"topics": ",".join(self._topics)} if self._topics else {}
        if self.position is not None:
            query["position"] = self.position
        return f"{self._url}?{urlencode(query)}" if query else self._url, self._token

    async def _frames(self, connection: Connection) -> AsyncIterator[dict[str, Any]]:
        async for text in connection:
            frame = json.loads(text)
            if frame["type"] == "welcome":
                self._failures = 0
            if frame["type"] == "reconnect":
                self._after_seconds = frame["after_ms"] / 1000
            is_repeat = frame["type"] == "notification" and not self._is_new(frame["notification"]["id"])
            if not is_repeat:
                yield frame
            self.position = frame.get("position", self.position)

    def _is_new(self, notification_id: str) -> bool:
        if notification_id in self._seen:
            return False
        self._seen[notification_id] = None
        if len(self._seen) > REMEMBERED_IDS:
            self._seen.popitem(last=False)
        return True

    def _judge(self, code: int | None, reason: str | None) -> str:
        """Raise for a close that is final. An expired token gets one attempt at once, which may bring a fresh one."""
        if code == TOKEN_EXPIRED and self._expired_token != self._token:
            self._expired_token = self._token
            self._after_seconds = 0.0
        elif code is not None and 4400 <= code < 4500:
            raise Refused(code, reason or "")
        return f"closed with {code} {reason or ''}".rstrip()

    def _judge_refusal(self, error: InvalidHandshake) -> str:
        status = getattr(getattr(error, "response", None), "status_code", 0)
        if status in (401, 403, 426):
            raise Refused(status, str(error)) from error
        return str(error)

    def _pause(self) -> float:
        """Full jitter: any time up to a ceiling that doubles with each failure."""
        if self._after_seconds is not None:
            pause, self._after_seconds = self._after_seconds, None
            return pause
        least, most = BACKOFF_SECONDS
        ceiling = min(most, least * 2.0**self._failures)
        self._failures += 1
        return random.uniform(0, ceiling)  # noqa: S311 - spreads reconnects
