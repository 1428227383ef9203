"""Traces: from a caller's `traceparent` through the journal to the sessions of every replica, as OpenTelemetry's spans.

It is imported while traces are on only, and called with what others know anyway: removing it changes nothing but sight.
Spans hold ids and counts: no payloads, tokens, query strings, users, topics or roles.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from starlette.types import ASGIApp

from notifier.core.envelope import Envelope, Trace
from notifier.core.hub import Reach
from notifier.core.ports import Journal
from notifier.telemetry.metrics import Reading
from notifier.telemetry.span_export import SpanExport
from notifier.telemetry.trace_context import NO_TRACE, extracted, named_in, trace_of, under
from notifier.telemetry.traced import RequestSpans, TracedJournal

SLICE_SPANS: Final = 25  # In one turn of the event loop: a span takes some 20 µs.
MESSAGE_ID_CHARACTERS: Final = 255


@dataclass(frozen=True, slots=True)
class Places:
    """Names for `messaging.system` and `messaging.destination.name`.

    Args:
        system: whose the journal is.
        journal: what records are published to.
        stream: what they are read from.
        requests: the queue of requests; it is RabbitMQ's.
    """

    system: str
    journal: str
    stream: str
    requests: str


class Work:
    """A request or a message under way: a span below that of its caller."""

    def __init__(self, begin_child: Callable[..., Span], span: Span, *, is_callers: bool) -> None:
        self._begin_child = begin_child
        self._context = span.get_span_context()
        self._is_recorded = span.is_recording()
        self._span = span
        is_one = is_callers or self._is_recorded  # A trace that only we know of, and do not record, is none.
        self.trace_id = f"{self._context.trace_id:032x}" if is_one else None

    def place(self, origin: Trace | None = None) -> Trace | None:
        """Begin the span of one of its notifications. None when the sampler has decided against this trace.

        `origin`: the trace that the notification says it comes from. It goes on with that, and links to this one.
        """
        caller = None if origin is None else named_in(origin)
        if caller is None and not self._is_recorded:
            return None
        span = self._begin_child(self._context) if caller is None else self._begin_child(caller, Link(self._context))
        if not span.is_recording():
            return None
        return trace_of(span)

    def note_status(self, status: int) -> None:
        """Say how a request is answered."""
        self._span.set_attribute("http.response.status_code", status)

    def end(self, error: str | None) -> None:
        """End the span; `error` is the code of what went wrong."""
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class Traces:
    """Records spans, and hands them to the export; `waiting_limit` bounds what waits for its span to be made."""

    def __init__(
        self, provider: TracerProvider, export: SpanExport, places: Places, *, waiting_limit: int = 10_000
    ) -> None:
        self._tracer = provider.get_tracer("notifier")
        self.export = export
        self._places = places
        self._waiting_limit = waiting_limit
        self._waiting: deque[Callable[[], None]] = deque()  # Spans that are made in the next turns of the loop.
        self._is_making = False
        self._read_at_ns = 0  # When the record that is being delivered was read.
        self.dropped = 0

    def requests(self, app: ASGIApp) -> ASGIApp:
        """The middleware for the doors."""
        return RequestSpans(app, begin=self.begin_request)

    def readings(self) -> Mapping[str, Reading]:
        """What became of the spans."""
        export = self.export
        return {
            "notifier_spans_ended_total": lambda: export.ended,
            "notifier_spans_exported_total": lambda: export.exported,
            "notifier_spans_lost_total": lambda: export.lost + self.dropped,
        }

    # -- in ------------------------------------------------------------------------------------------------------

    def begin_request(self, path: str, headers: Mapping[str, object]) -> Work:
        """A request at the door: `SERVER`, and the producer of what is in it."""
        attributes = {"http.request.method": "POST", "http.route": path}
        return self._begin(f"POST {path}", SpanKind.SERVER, headers, attributes)

    def begin_message(self, headers: Mapping[str, object], message_id: str | None) -> Work:
        """A message taken from the queue of requests."""
        attributes = self._operation("process", "process", self._places.requests, system="rabbitmq")
        if message_id and len(message_id) <= MESSAGE_ID_CHARACTERS:
            attributes["messaging.message.id"] = message_id
        return self._begin(f"process {self._places.requests}", SpanKind.CONSUMER, headers, attributes)

    def _begin(self, name: str, kind: SpanKind, headers: Mapping[str, object], attributes: dict[str, str]) -> Work:
        context = extracted(headers)
        span = self._tracer.start_span(name, context, kind, attributes)
        return Work(self._begin_notification, span, is_callers=context is not NO_TRACE)

    def _begin_notification(self, parent: SpanContext, *links: Link) -> Span:
        """Accepted now; it ends when the journal has it."""
        name, attributes = f"send {self._places.journal}", self._operation("send", "send", self._places.journal)
        return self._tracer.start_span(name, under(parent), SpanKind.PRODUCER, attributes, links)

    # -- through the journal -------------------------------------------------------------------------------------

    def over(self, journal: Journal) -> Journal:
        """The same journal; what is appended to it and read from it is recorded."""
        return TracedJournal(journal, appended=self.appended, refused=self.refused, note_read=self.note_read)

    def appended(self, envelopes: Sequence[Envelope], began_ns: int) -> None:
        """The journal has these, which it got in one call: each span ends, and several share one that links to them."""
        ended_ns = time.time_ns()
        several = len(envelopes) > 1
        for envelope in envelopes:
            self._later(partial(self._end_notification, envelope, ended_ns, several=several))
        if several:
            self._later(partial(self._sent_together, envelopes, began_ns, ended_ns, None))

    def refused(self, envelopes: Sequence[Envelope], began_ns: int, error: BaseException) -> None:
        """The journal did not take these now. Their spans go on: the queue door tries again."""
        self._later(partial(self._sent_together, envelopes, began_ns, time.time_ns(), type(error).__name__))

    def note_read(self) -> None:
        """A record was read, and is delivered next."""
        self._read_at_ns = time.time_ns()

    def _end_notification(self, envelope: Envelope, ended_ns: int, *, several: bool) -> None:
        span = _span_of(envelope)
        if several:
            span.update_name(f"create {self._places.journal}")
            span.set_attributes(self._operation("create", "create", self._places.journal))
        span.set_attribute("messaging.message.id", envelope.id)
        span.set_attribute("messaging.message.body.size", len(envelope.sealed))
        span.end(ended_ns)

    def _sent_together(self, envelopes: Sequence[Envelope], began_ns: int, ended_ns: int, error: str | None) -> None:
        """Below the request that all of them are from; those of several have only links in common."""
        spans = [_span_of(envelope) for envelope in envelopes]
        parents = {parent.span_id: parent for span in spans if (parent := getattr(span, "parent", None)) is not None}
        context = under(parents.popitem()[1]) if len(parents) == 1 else NO_TRACE
        attributes: dict[str, str | int] = {**self._operation("send", "send", self._places.journal)}
        attributes["messaging.batch.message_count"] = len(envelopes)
        links = [Link(span.get_span_context()) for span in spans]
        # A client: the context of each message was created by another span (messaging conventions, "span kind").
        span = self._tracer.start_span(
            f"send {self._places.journal}", context, SpanKind.CLIENT, attributes, links, start_time=began_ns
        )
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended_ns)

    # -- out -----------------------------------------------------------------------------------------------------

    def delivering(self, reach: Reach) -> Callable[[], None]:
        """This is in the record that was read last. To be called when it was written to its live sessions here."""
        began_ns = self._read_at_ns
        return lambda: self._later(partial(self._deliver, reach, began_ns, time.time_ns()))

    def _deliver(self, reach: Reach, began_ns: int, ended_ns: int) -> None:
        position, envelope, sessions = reach
        assert envelope.trace is not None
        parent = named_in(envelope.trace)
        if parent is None:
            return
        attributes: dict[str, str | int] = {**self._operation("process", "deliver", self._places.stream)}
        attributes |= {"messaging.message.id": envelope.id, "notifier.position": str(position)}
        attributes["notifier.sessions"] = sessions
        span = self._tracer.start_span(
            f"deliver {self._places.stream}", under(parent), SpanKind.CONSUMER, attributes, start_time=began_ns
        )
        span.end(ended_ns)

    # -- when there is time --------------------------------------------------------------------------------------

    def _later(self, make: Callable[[], None]) -> None:
        """Make spans in slices: those of a full batch together would hold the event loop for 20 ms."""
        if len(self._waiting) >= self._waiting_limit:
            self.dropped += 1
            return
        self._waiting.append(make)
        if not self._is_making:
            self._is_making = True
            asyncio.get_running_loop().call_soon(self._make_some)

    def _make_some(self) -> None:
        try:
            for _ in range(min(len(self._waiting), SLICE_SPANS)):
                self._waiting.popleft()()
        finally:
            self._is_making = bool(self._waiting)
            if self._is_making:
                asyncio.get_running_loop().call_soon(self._make_some)

    async def close(self) -> None:
        """Export what is left, within some seconds, and no more after that."""
        while self._waiting:
            self._waiting.popleft()()
        await self.export.close()

    def _operation(self, kind: str, name: str, destination: str, *, system: str | None = None) -> dict[str, str]:
        return {
            "messaging.system": system or self._places.system,
            "messaging.operation.type": kind,
            "messaging.operation.name": name,
            "messaging.destination.name": destination,
        }


def _span_of(envelope: Envelope) -> Span:
    assert envelope.trace is not None
    assert isinstance(envelope.trace.origin, Span)
    return envelope.trace.origin
