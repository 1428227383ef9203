"""A collector of OpenTelemetry for tests: it takes spans over OTLP, http/protobuf, as any collector does."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

DEADLINE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Received:
    """A span as it came."""

    span: Span
    resource: Mapping[str, Any]
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Mapping[str, Any]

    @property
    def links(self) -> set[str]:
        """The ids of the spans that it links to."""
        return {link.span_id.hex() for link in self.span.links}


@dataclass(slots=True)
class Collector:
    """What was taken so far, by whom it was sent, and as bytes."""

    endpoint: str = ""
    spans: list[Received] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a service that sends here, and does not wait with it."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    async def named(self, name: str, count: int = 1, **attributes: object) -> list[Received]:
        """Wait for so many spans of this name and with these attributes, dots as underscores, oldest first."""

        def found() -> list[Received]:
            return [span for span in list(self.spans) if span.name == name and _has(span.attributes, attributes)]

        await self.until(lambda: len(found()) >= count, f"{count} spans {name!r} {attributes}")
        return sorted(found(), key=lambda each: each.span.start_time_unix_nano)

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Return as soon as it holds."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not holds():  # noqa: ASYNC110 - the collector is in a thread, and its sender another process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"expected {what}, got {[(s.name, dict(s.attributes)) for s in self.spans]}") from None

    def take(self, path: str, body: bytes) -> None:
        """Decode one request."""
        self.paths.append(path)
        self.bodies.append(body)
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _attributes(of_resource.resource.attributes)
            self.spans += [_received(span, resource) for each in of_resource.scope_spans for span in each.spans]


@contextmanager
def collector(listener: socket.socket | None = None, *, keeps: bool = True) -> Iterator[Collector]:
    """A collector that listens, on a socket that is bound already if one is given, and keeps what it takes."""
    taken = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if keeps:
                taken.take(self.path, body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=listener is None)
    if listener is not None:
        server.socket.close()
        server.socket = listener
        server.server_activate()
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    taken.endpoint = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
    try:
        yield taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _received(span: Span, resource: Mapping[str, Any]) -> Received:
    kind = Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_")
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    return Received(span, resource, span.name, kind, *ids, _attributes(span.attributes))


def _attributes(pairs: Sequence[Any]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    which = value.WhichOneof("value")
    return getattr(value, which) if which else None


def _has(attributes: Mapping[str, Any], wanted: Mapping[str, object]) -> bool:
    dotted = {name.replace(".", "_"): value for name, value in attributes.items()}
    return wanted.items() <= dotted.items()


def main() -> None:
    """Take spans on port 4318 and forget them, for measurements of what they cost their sender."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 4318))
    with collector(listener, keeps=False) as taken:
        print(f"export OTEL_EXPORTER_OTLP_ENDPOINT={taken.endpoint}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
