"""Traces at a journal that refuses, and when a great deal is to be recorded at once."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from notifier.core.errors import Unavailable
from notifier.core.hub import Reach
from notifier.core.ports import Item
from notifier.journal.memory import MemoryJournal
from notifier.telemetry.span_export import SpanExport
from notifier.telemetry.traces import SLICE_SPANS, Places, Traces
from tests.core.builders import at, envelope
from tests.otlp import Collector, collector

WAITING = 100


class RefusingJournal(MemoryJournal):
    """Refuses what comes first."""

    is_refusing = True

    async def append(self, items: Sequence[Item]) -> None:
        if self.is_refusing:
            self.is_refusing = False
            raise Unavailable("journal_unavailable", "not now")
        await super().append(items)


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that the variables name."""
    with collector() as taken:
        for name, value in taken.variables.items():
            monkeypatch.setenv(name, value)
        yield taken


@pytest.fixture
async def traces(sink: Collector) -> AsyncIterator[Traces]:
    """Traces of an embedded journal."""
    export = SpanExport(version="1")
    traces = Traces(
        export.provider, export, Places("notifier", journal="j", stream="s", requests="r"), waiting_limit=WAITING
    )
    yield traces
    await traces.close()


async def test_a_refused_append_is_an_error_and_the_notification_goes_on(traces: Traces, sink: Collector) -> None:
    """As the queue door does: it tries again, with the same envelopes."""
    journal, work = traces.over(RefusingJournal()), traces.begin_message({}, "m1")
    sent = envelope(name="n1")._replace(trace=work.place())
    with pytest.raises(Unavailable):
        await journal.append([sent])
    await journal.append([sent])
    work.end(None)

    (process,) = await sink.named("process r")
    refused, taken = await sink.named("send j", 2)
    if "error.type" not in refused.attributes:
        refused, taken = taken, refused
    assert {refused.attributes["error.type"], refused.kind} == {"Unavailable", "CLIENT"}
    assert refused.links == {taken.span_id}
    assert (taken.kind, taken.attributes["messaging.message.id"]) == ("PRODUCER", "n1")
    assert "error.type" not in taken.attributes
    assert {refused.parent_id, taken.parent_id} == {process.span_id}


async def test_what_the_origin_keeps_does_not_go_into_the_journal(traces: Traces) -> None:
    """With the embedded one it would stay in the window for an hour."""
    journal, work = MemoryJournal(), traces.begin_message({}, None)
    sent = envelope(name="n1")._replace(trace=work.place())
    await traces.over(journal).append([sent])

    async for record in journal.follow(journal.start):
        (item,) = record.items
        assert sent.trace is not None
        assert item == sent._replace(trace=sent.trace._replace(origin=None))
        break


async def test_spans_are_made_in_slices_and_the_rest_is_counted_as_lost(traces: Traces, sink: Collector) -> None:
    place = traces.begin_message({}, None).place()
    for _ in range(WAITING + 5):
        traces.delivering(Reach(at(1, 0), envelope(name="n")._replace(trace=place), 1))()
    await asyncio.sleep(0)  # One turn of the loop.

    assert traces.export.ended == SLICE_SPANS
    assert traces.dropped == 5


async def test_a_span_that_cannot_be_made_does_not_stop_the_others(
    traces: Traces, sink: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    traces.delivering(Reach(at(1, 0), envelope(name="untraced"), 1))()  # Nobody does this.
    traces.delivering(Reach(at(1, 0), envelope(name="n")._replace(trace=traces.begin_message({}, None).place()), 1))()

    await sink.named("deliver s", messaging_message_id="n")
    assert "AssertionError" in caplog.text
