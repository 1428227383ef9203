"""The export of spans: from a thread, bounded; one log line when a collector is lost, and one when it is back."""

import asyncio
import contextlib
import logging
import threading
import uuid
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

log: Final = logging.getLogger(__name__)
EXPORTER_LOGGER: Final = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
FLUSH_SECONDS: Final = 2.0


class SpanExport:
    """Sends spans where the `OTEL_` variables say, in batches, from a thread.

    A collector that is away or slow costs spans, which the queue of the thread drops, and nothing else.
    """

    def __init__(self, *, version: str) -> None:
        """Raises ValueError when an `OTEL_BSP_` variable cannot be."""
        self._exporter = _Counted(OTLPSpanExporter())
        self._processor = BatchSpanProcessor(self._exporter)
        self.provider = TracerProvider(resource=_resource(version), shutdown_on_exit=False)
        self.provider.add_span_processor(self._processor)
        self._ended = _Ended()
        self.provider.add_span_processor(self._ended)

    @property
    def ended(self) -> int:
        """Spans to export; those neither exported nor lost wait in the queue, or were dropped since it was full."""
        return self._ended.count

    @property
    def exported(self) -> int:
        """Spans that a collector has taken."""
        return self._exporter.exported

    @property
    def lost(self) -> int:
        """Spans that were sent, and no collector has taken."""
        return self._exporter.lost

    async def close(self) -> None:
        """Send what is left, within `FLUSH_SECONDS`; the thread does not outlive the process."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]  # of the SDK
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(sent.set)  # Raises when nobody has waited so long.

        threading.Thread(target=flush, name="span flush", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await sent.wait()


class _Ended(SpanProcessor):
    """Counts what is recorded: the queue does not tell what it drops."""

    def __init__(self) -> None:
        self.count = 0

    def on_end(self, span: ReadableSpan) -> None:  # noqa: ARG002 - the SDK's signature
        self.count += 1


class _Counted(SpanExporter):
    """Counts, and says once that spans are lost, and why; the exporter's own lines would be several for each batch."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._reason = ""  # What the exporter has said first of the batch under way.
        self._is_losing = False
        self.exported = 0
        self.lost = 0
        logging.getLogger(EXPORTER_LOGGER).addFilter(self._take_reason)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._reason = ""
        result = self._exporter.export(spans)
        is_lost = result is not SpanExportResult.SUCCESS
        if is_lost:
            self.lost += len(spans)
        else:
            self.exported += len(spans)
        if is_lost != self._is_losing:
            self._is_losing = is_lost
            if is_lost:
                log.warning("spans are lost", extra={"reason": self._reason})
            else:
                log.info("spans are exported again", extra={"lost": self.lost})
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
        logging.getLogger(EXPORTER_LOGGER).removeFilter(self._take_reason)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def _take_reason(self, record: logging.LogRecord) -> bool:
        """Keep the first line. Exceptions by name only: their text has the URL, which may hold a secret."""
        if not self._reason:
            arguments = record.args if isinstance(record.args, tuple) else ()
            named = tuple(type(each).__name__ if isinstance(each, Exception) else each for each in arguments)
            self._reason = str(record.msg) % named if named else str(record.msg)
        return False


def _resource(version: str) -> Resource:
    """What all spans have in common: the variables win over what we say of ourselves."""
    ours: Mapping[str, str] = {
        "service.name": "notifier",
        "service.version": version,
        "service.instance.id": str(uuid.uuid4()),
    }
    return Resource.create(dict(ours)).merge(OTELResourceDetector().detect())
