"""What is wrapped while traces are on, and only then: the requests at the doors, and the journal."""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notifier.core.envelope import Envelope, Position, Trace
from notifier.core.ports import Item, Journal, Record

TRACED_PATHS: Final = frozenset({"/notify", "/notify/batch"})


class RequestTrace(Protocol):
    """A request under way, while the trace of it is recorded."""

    @property
    def trace_id(self) -> str | None:
        """For its log line."""

    def place(self, origin: Trace | None = None) -> Trace | None:
        """Give one of its notifications its place in the trace, or in the one that it says it comes from."""

    def note_status(self, status: int) -> None:
        """It is being answered."""

    def end(self, error: str | None) -> None:
        """It was answered; `error` says what went wrong with us."""


class TracedJournal:
    """A journal, and what happens at it.

    Args:
        appended: told of what is traced and the journal has now, and the Unix nanoseconds at which it was given it.
        refused: the same of what it did not take, with the error.
        note_read: told when a record was read.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        appended: Callable[[Sequence[Envelope], int], None],
        refused: Callable[[Sequence[Envelope], int, BaseException], None],
        note_read: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._appended = appended
        self._refused = refused
        self._note_read = note_read

    async def append(self, items: Sequence[Item]) -> None:
        traced = [item for item in items if isinstance(item, Envelope) and item.trace is not None]
        if not traced:
            await self._journal.append(items)
            return
        began_ns = time.time_ns()
        try:
            await self._journal.append([_without_origin(item) for item in items])
        except BaseException as error:
            self._refused(traced, began_ns, error)
            raise
        self._appended(traced, began_ns)

    async def follow(self, after: Position) -> AsyncGenerator[Record, None]:
        async with aclosing(self._journal.follow(after)) as records:
            async for record in records:
                self._note_read()
                yield record

    async def check(self) -> None:
        await self._journal.check()


class RequestSpans:
    """Records the requests at the doors, in plain ASGI. Nobody else's: a query string may hold a token."""

    def __init__(self, app: ASGIApp, *, begin: Callable[[str, Mapping[str, object]], RequestTrace]) -> None:
        self._app = app
        self._begin = begin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in TRACED_PATHS:
            await self._app(scope, receive, send)
            return
        work = self._begin(scope["path"], _trace_headers(scope))
        scope["state"] |= {"trace": work.place, "trace_id": work.trace_id}
        error: str | None = "500"

        async def send_and_note(message: Message) -> None:
            nonlocal error
            if message["type"] == "http.response.start":
                work.note_status(message["status"])
                error = str(message["status"]) if message["status"] >= 500 else None
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            work.end(error)


def _trace_headers(scope: Scope) -> dict[str, object]:
    """`tracestate` may come in several lines; two of `traceparent` make none (Trace Context, 3.2)."""
    found: dict[str, object] = {}
    for name, value in scope["headers"]:
        if name in (b"traceparent", b"tracestate"):
            key, text = name.decode(), value.decode("latin-1")
            found[key] = f"{found[key]},{text}" if key in found else text
    return found


def _without_origin(item: Item) -> Item:
    if isinstance(item, Envelope) and item.trace is not None:
        return item._replace(trace=item.trace._replace(origin=None))
    return item


_: type[Journal] = TracedJournal
