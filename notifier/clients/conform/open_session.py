"""A session over a WebSocket whose every frame is held against its schema."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from notifier.clients.conform.check import Broken, expect, same, within
from notifier.clients.conform.target import ANSWER_SECONDS, Answer, Target

PROTOCOL: Final = "notifier.v1"
# What may come at any time, and is no answer to anything.
_UNASKED: Final = frozenset({"heartbeat", "notification", "token_expiring", "degraded", "restored"})
_KNOWN: Final = _UNASKED | {"welcome", "subscribed", "unsubscribed", "refreshed", "pong", "error", "reconnect"}


class Refusal(Exception):
    """The handshake was answered with plain HTTP."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer))
        self.answer = answer


class Session:
    """One connection past its 101. `welcome` is empty until it has come."""

    def __init__(self, target: Target, connection: ClientConnection) -> None:
        self._target = target
        self.connection = connection
        self.welcome: dict[str, Any] = {}

    async def frame(self) -> dict[str, Any]:
        """The next frame. Raises Broken for one that is not to the schema, and where none comes."""
        async with within(ANSWER_SECONDS, "a frame"):
            return await self._frame()

    async def hear(self, kind: str, *, within_seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """The next frame of this type, past what nobody asked for."""
        async with within(within_seconds, kind):
            while True:
                frame = await self._frame()
                if frame["type"] == kind:
                    return frame
                expect(frame["type"] in _UNASKED or frame["type"] not in _KNOWN, kind, frame)

    async def notifications(self, ids: Iterable[str]) -> list[dict[str, Any]]:
        """The frames of notifications that come until each of these has come, and those behind up to a pong."""
        missing, heard = set(ids), []
        while missing:
            frame = await self.hear("notification")
            heard.append(frame)
            missing.discard(frame["notification"]["id"])
        await self.say(type="ping", ref="behind")
        while (frame := await self.frame())["type"] != "pong":
            heard += [frame] if frame["type"] == "notification" else []
        return heard

    async def subscribe(self, *topics: str, position: str | None = None) -> dict[str, Any]:
        """Ask for these topics. Returns the answer."""
        await self.say(type="subscribe", topics=topics, ref="s", **({} if position is None else {"position": position}))
        answer = await self.hear("subscribed")
        same("ref", answer.get("ref"), "s")
        return answer

    async def ping(self, ref: str | int = "ping") -> None:
        """Raise Broken unless a ping is answered."""
        await self.say(type="ping", ref=ref)
        same("ref", (await self.hear("pong")).get("ref"), ref)

    async def say(self, **frame: object) -> None:
        await self.send(json.dumps(frame))

    async def send(self, message: str | bytes | Sequence[str]) -> None:
        """Send it as it is; a sequence of texts in as many fragments."""
        try:
            await self.connection.send(message)
        except ConnectionClosed as end:
            raise Broken("an open session", f"close {_end(end)}") from None

    async def closed(self) -> tuple[int, str]:
        """Read to the end. Returns the close code and reason. Raises Broken where none comes."""
        try:
            async with within(ANSWER_SECONDS, "a close"):
                while True:
                    self._read(await self.connection.recv())
        except ConnectionClosed as end:
            return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")

    async def _frame(self) -> dict[str, Any]:
        try:
            message = await self.connection.recv()
        except ConnectionClosed as end:
            raise Broken("a frame", f"close {_end(end)}") from None
        return self._read(message)

    def _read(self, message: str | bytes) -> dict[str, Any]:
        expect(isinstance(message, str), "a text frame", f"{len(message)} bytes in a binary one")
        return read_frame(self._target, str(message))


@asynccontextmanager
async def handshake(
    target: Target,
    *,
    subprotocols: Sequence[str] = (PROTOCOL,),
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
) -> AsyncIterator[Session]:
    """Open a WebSocket, and read nothing. Raises Refusal, or Broken where there is neither."""
    address = f"{target.url.replace('http', 'ws', 1)}/ws"
    try:
        connection = await connect(
            f"{address}?{urlencode(query)}" if query else address,
            subprotocols=list(subprotocols) or None,  # type: ignore[arg-type]  # a NewType of str
            additional_headers=headers,
            ssl=(target.tls or True) if address.startswith("wss") else None,
            ping_interval=None,
            open_timeout=ANSWER_SECONDS,
            close_timeout=2,
        )
    except InvalidStatus as error:
        answer = error.response
        raw = httpx.Headers(list(answer.headers.raw_items()))
        raise Refusal(Answer(answer.status_code, raw, bytes(answer.body or b""))) from error
    except (InvalidHandshake, OSError, TimeoutError) as error:
        raise Broken("a handshake as in RFC 6455", str(error) or type(error).__name__) from error
    async with connection:
        yield Session(target, connection)


@asynccontextmanager
async def session(target: Target, **query: str) -> AsyncIterator[Session]:
    """Open a session with a token in the header, and hear its welcome. Raises Broken where it is refused."""
    try:
        async with handshake(target, headers=bearer(target.token), query=query) as opened:
            opened.welcome = await opened.frame()
            expect(opened.welcome["type"] == "welcome", "welcome as the first frame", opened.welcome)
            yield opened
    except Refusal as error:
        raise Broken("a session", error) from error


async def refused(target: Target, *, headers: Mapping[str, str], subprotocols: Sequence[str] = (PROTOCOL,)) -> Answer:
    """The answer of plain HTTP to a handshake that must be refused."""
    try:
        async with handshake(target, headers=headers, subprotocols=subprotocols):
            raise Broken("a refusal over plain HTTP", "101")
    except Refusal as error:
        return error.answer


def bearer(token: str) -> dict[str, str]:
    """The header with the token."""
    return {"Authorization": f"Bearer {token}"}


def read_frame(target: Target, text: str) -> dict[str, Any]:
    """A frame that is a JSON object with a type, and to its schema. Raises Broken for any other."""
    try:
        frame = json.loads(text)
    except ValueError:
        raise Broken("JSON", text[:200]) from None
    expect(isinstance(frame, dict) and isinstance(frame.get("type"), str), "an object with a type", text[:200])
    if wrong := target.objections(frame):
        raise Broken(f"{frame['type']} to its schema", f"{'; '.join(wrong)} in {text[:300]}")
    return dict(frame)


def _end(end: ConnectionClosed) -> str:
    return f"{end.rcvd.code} {end.rcvd.reason}".strip() if end.rcvd else "without a code"
