"""Trace Context (https://www.w3.org/TR/trace-context/): from headers to OpenTelemetry's words, and back."""

from collections.abc import Mapping
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from notifier.core.envelope import Trace

TRACEPARENT_CHARACTERS: Final = 256  # 55 in version 00; a later one may add to it.
TRACESTATE_CHARACTERS: Final = 512
NO_TRACE: Final = Context()
_W3C: Final = TraceContextTextMapPropagator()


def extracted(headers: Mapping[str, object]) -> Context:
    """The trace that these headers name, of HTTP or of AMQP; `NO_TRACE` for none and for one that breaks the rules."""
    parent, state = _text(headers.get("traceparent")), _text(headers.get("tracestate"))
    if parent is None or len(parent) > TRACEPARENT_CHARACTERS:
        return NO_TRACE
    carrier = {"traceparent": parent}
    if state and len(state) <= TRACESTATE_CHARACTERS:
        carrier["tracestate"] = state
    return _W3C.extract(carrier, NO_TRACE)


def named_in(trace: Trace) -> SpanContext | None:
    """The span that a notification names; None for one that breaks the rules."""
    context = extracted({"traceparent": trace.parent, "tracestate": trace.state})
    return None if context is NO_TRACE else get_current_span(context).get_span_context()


def trace_of(span: Span) -> Trace:
    """What a notification carries along of its span, and the span itself."""
    context = span.get_span_context()
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    return Trace(parent, context.trace_state.to_header(), span)


def under(parent: SpanContext) -> Context:
    """Where a child of this span begins."""
    return set_span_in_context(NonRecordingSpan(parent), NO_TRACE)


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value if isinstance(value, str) else None
