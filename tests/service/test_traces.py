"""Traces: from a caller's `traceparent` to the sessions of every replica, as a collector takes them."""

import asyncio
import json
import os
import secrets
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ingress.builders import event, notification
from tests.otlp import Collector, Received, collector
from tests.replica import Replica
from tests.service.client import complaints, session
from tests.service.publisher import Publisher, publisher
from tests.tokens import bearer, token

PREFIX = f"tr{secrets.token_hex(4)}"
SEND, CREATE, DELIVER = f"send {PREFIX}.journal", f"create {PREFIX}.journal", f"deliver {PREFIX}.journal.v1"
PROCESS = f"process {PREFIX}.ingest.v1"
STATE = "vendor=canary-state"


class Caller:
    """A backend that traces itself."""

    def __init__(self, *, is_sampled: bool = True) -> None:
        self.trace_id, self.span_id = secrets.token_hex(16), secrets.token_hex(8)
        self.headers = {
            "traceparent": f"00-{self.trace_id}-{self.span_id}-0{int(is_sampled)}",
            "tracestate": STATE,
        }


@pytest.fixture(scope="module")
def sink() -> Iterator[Collector]:
    """One collector for the module; each test has traces of its own."""
    with collector() as taken:
        yield taken


@pytest.fixture(scope="module")
def replicas(amqp_url: str, sink: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    """Two replicas on one journal; the first alone takes from the queue."""
    directory = tmp_path_factory.mktemp("traces")
    shared = {"NOTIFIER_JOURNAL__URL": amqp_url, "NOTIFIER_BROKER__PREFIX": PREFIX, **sink.variables}
    started: list[Replica] = []
    try:
        for name, queue in (("first", ""), ("second", "off")):
            own = {"NOTIFIER_QUEUE__URL": queue, "OTEL_RESOURCE_ATTRIBUTES": f"k8s.pod.name={name}"}
            started.append(Replica(directory / f"{name}.log", shared | own))
        yield started
    finally:
        for replica in started:
            replica.stop()


@pytest.fixture
async def http(replicas: list[Replica]) -> AsyncIterator[httpx.AsyncClient]:
    """A backend that sends over HTTP, to the first replica."""
    async with httpx.AsyncClient(base_url=replicas[0].url, headers=bearer(), verify=False) as client:
        yield client


@pytest.fixture
async def queue(replicas: list[Replica], amqp_url: str) -> AsyncIterator[Publisher]:
    """A backend that sends by message."""
    async with publisher(amqp_url, PREFIX) as backend:
        yield backend


def pods(spans: list[Received]) -> set[str]:
    return {str(span.resource["k8s.pod.name"]) for span in spans}


def of_trace(spans: list[Received], trace_id: str) -> list[Received]:
    return [span for span in spans if span.trace_id == trace_id]


# -- what a trace shows ------------------------------------------------------------------------------------------------


async def test_a_post_is_one_trace_across_replicas(
    replicas: list[Replica], http: httpx.AsyncClient, sink: Collector
) -> None:
    caller = Caller()
    async with session(replicas[1].ws_url, "ann") as client:
        answer = await http.post("/notify", json=notification("ann"), headers=caller.headers)
        await client.notification()
    sent_id = answer.json()["id"]

    (door,) = of_trace(await sink.named("POST /notify"), caller.trace_id)
    (send,) = await sink.named(SEND, messaging_message_id=sent_id)
    delivered = await sink.named(DELIVER, 2, messaging_message_id=sent_id)
    assert {span.trace_id for span in (send, *delivered)} == {caller.trace_id}
    assert (door.parent_id, send.parent_id) == (caller.span_id, door.span_id)
    assert [span.parent_id for span in delivered] == [send.span_id] * 2
    assert {span.resource["k8s.pod.name"]: span.attributes["notifier.sessions"] for span in delivered} == {
        "first": 0,
        "second": 1,
    }
    assert (door.kind, send.kind, delivered[0].kind) == ("SERVER", "PRODUCER", "CONSUMER")
    assert {span.span.trace_state for span in (door, send, *delivered)} == {STATE}


async def test_spans_follow_the_conventions(replicas: list[Replica], http: httpx.AsyncClient, sink: Collector) -> None:
    """https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/."""
    caller = Caller()
    sent_id = (await http.post("/notify", json=notification("nobody"), headers=caller.headers)).json()["id"]

    (send,) = await sink.named(SEND, messaging_message_id=sent_id)
    deliver = (await sink.named(DELIVER, 2, messaging_message_id=sent_id))[0]
    (door,) = of_trace(await sink.named("POST /notify"), caller.trace_id)
    assert dict(door.attributes) == {
        "http.request.method": "POST",
        "http.route": "/notify",
        "http.response.status_code": 202,
    }
    assert {name: send.attributes[name] for name in send.attributes if name != "messaging.message.body.size"} == {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": f"{PREFIX}.journal",
        "messaging.message.id": sent_id,
    }
    assert {name: deliver.attributes[name] for name in deliver.attributes if name != "notifier.position"} == {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "process",
        "messaging.operation.name": "deliver",
        "messaging.destination.name": f"{PREFIX}.journal.v1",
        "messaging.message.id": sent_id,
        "notifier.sessions": 0,
    }
    assert (door.resource["service.name"], set(sink.paths)) == ("notifier", {"/v1/traces"})
    began = [each.span.start_time_unix_nano for each in (door, send, deliver)]
    ended = [each.span.end_time_unix_nano for each in (door, send, deliver)]
    assert began == sorted(began)
    assert ended[1] <= ended[0]
    assert began[2] <= ended[2]


async def test_a_batch_is_sent_once_with_links(http: httpx.AsyncClient, sink: Collector) -> None:
    caller = Caller()
    wrong = {**notification("ann"), "type": "BAD"}
    answer = await http.post(
        "/notify/batch", json=[notification("ann"), wrong, notification("bob")], headers=caller.headers
    )
    ids = [each["id"] for each in answer.json()["results"] if "id" in each]

    (door,) = of_trace(await sink.named("POST /notify/batch"), caller.trace_id)
    created = [(await sink.named(CREATE, messaging_message_id=each))[0] for each in ids]
    (send,) = of_trace(await sink.named(SEND, messaging_batch_message_count=2), caller.trace_id)
    delivered = [span for each in ids for span in await sink.named(DELIVER, 2, messaging_message_id=each)]
    assert len(ids) == 2
    assert send.links == {span.span_id for span in created}
    assert {span.parent_id for span in (send, *created)} == {door.span_id}
    assert (send.kind, {span.kind for span in created}) == ("CLIENT", {"PRODUCER"})
    assert {span.parent_id for span in delivered} == send.links


async def test_a_message_goes_on_with_the_trace_of_its_headers(
    replicas: list[Replica], queue: Publisher, sink: Collector
) -> None:
    caller = Caller()
    message_id = await queue.send(notification("cat"), headers=dict(caller.headers))

    (taken,) = await sink.named(PROCESS, messaging_message_id=message_id)
    (send,) = of_trace(await sink.named(SEND), caller.trace_id)
    delivered = await sink.named(DELIVER, 2, messaging_message_id=send.attributes["messaging.message.id"])
    assert (taken.trace_id, taken.parent_id, taken.kind) == (caller.trace_id, caller.span_id, "CONSUMER")
    assert taken.attributes["messaging.operation.type"] == "process"
    assert send.parent_id == taken.span_id
    assert {(span.trace_id, span.parent_id) for span in delivered} == {(caller.trace_id, send.span_id)}
    assert pods(delivered) == {"first", "second"}


@pytest.mark.parametrize("path", ["/notify", "/notify/batch"])
async def test_an_event_goes_on_with_its_own_trace_and_links_to_the_request(
    http: httpx.AsyncClient, sink: Collector, path: str
) -> None:
    """CloudEvents, distributed tracing: the attribute is the trace of the event, the header that of the way here."""
    caller, origin = Caller(), Caller()
    said: Any = event("gus", id=origin.trace_id, **origin.headers)
    media = "application/cloudevents+json"
    if path == "/notify/batch":
        said, media = [said], "application/cloudevents-batch+json"
    answer = await http.post(path, content=json.dumps(said), headers={"content-type": media, **caller.headers})
    sent_id = (answer.json()["results"][0] if path == "/notify/batch" else answer.json())["id"]

    (send,) = await sink.named(SEND, messaging_message_id=sent_id)
    (door,) = of_trace(await sink.named(f"POST {path}"), caller.trace_id)
    delivered = await sink.named(DELIVER, 2, messaging_message_id=sent_id)
    assert (send.trace_id, send.parent_id, send.links) == (origin.trace_id, origin.span_id, {door.span_id})
    assert {span.trace_id for span in delivered} == {origin.trace_id}


async def test_a_dead_letter_says_why_in_its_span_and_its_line(
    replicas: list[Replica], queue: Publisher, sink: Collector
) -> None:
    caller = Caller()
    message_id = await queue.send({**notification("cat"), "type": "BAD"}, headers=dict(caller.headers))
    await queue.dead_letters(1)

    (taken,) = await sink.named(PROCESS, messaging_message_id=message_id)
    assert (taken.trace_id, taken.attributes["error.type"]) == (caller.trace_id, "invalid_notification")
    (line,) = [each for each in replicas[0].log_lines() if each.get("message_id") == message_id]
    assert line["trace_id"] == caller.trace_id


async def test_messages_of_several_traces_are_sent_with_links(queue: Publisher, sink: Collector) -> None:
    """What is taken together is appended together, in a trace of its own that links to each of them."""
    callers = [Caller() for _ in range(30)]
    traces = {each.trace_id for each in callers}
    await asyncio.gather(*(queue.send(notification("dan"), headers=dict(each.headers)) for each in callers))

    def made(name: str) -> list[Received]:
        return [span for span in list(sink.spans) if span.name == name and span.trace_id in traces]

    await sink.until(lambda: len(made(SEND) + made(CREATE)) == len(callers), "a span of each")
    created = {span.span_id for span in made(CREATE)}
    await sink.until(lambda: created <= {link for span in sink.spans for link in span.links}, "links to all")
    together = [span for span in sink.spans if span.links & created]
    assert created
    assert {span.trace_id for span in together}.isdisjoint(traces)
    assert sum(span.attributes["messaging.batch.message_count"] for span in together) == len(created)


# -- whose trace it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "ff-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "A" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16,
        "x" * 8_000,
    ],
)
async def test_a_malformed_traceparent_begins_a_trace(http: httpx.AsyncClient, sink: Collector, broken: str) -> None:
    """Trace Context, 3.2.2.3: as if there were none."""
    sent = await http.post("/notify", json=notification("eve"), headers={"traceparent": broken, "tracestate": "a=b"})

    (send,) = await sink.named(SEND, messaging_message_id=sent.json()["id"])
    (door,) = of_trace(await sink.named("POST /notify"), send.trace_id)
    assert (sent.status_code, door.parent_id, door.span.trace_state) == (202, "", "")
    assert door.trace_id not in ("0" * 32, "1" * 32)


async def test_a_traceparent_of_a_later_version_is_gone_on_with(http: httpx.AsyncClient, sink: Collector) -> None:
    """Trace Context, 4.3: as far as we know it."""
    caller = Caller()
    later = {"traceparent": f"01{caller.headers['traceparent'][2:]}-more"}
    sent = await http.post("/notify", json=notification("eve"), headers=later)

    (send,) = await sink.named(SEND, messaging_message_id=sent.json()["id"])
    assert send.trace_id == caller.trace_id


async def test_a_caller_who_does_not_sample_is_heard(
    replicas: list[Replica], http: httpx.AsyncClient, sink: Collector
) -> None:
    caller, next_one = Caller(is_sampled=False), Caller()
    await http.post("/notify", json=notification("eve"), headers=caller.headers)
    sent = await http.post("/notify", json=notification("eve"), headers=next_one.headers)

    await sink.named(DELIVER, 2, messaging_message_id=sent.json()["id"])
    lines = [line.get("trace_id") for line in replicas[0].log_lines() if line["event"] == "request"]
    assert of_trace(sink.spans, caller.trace_id) == []
    assert lines[-2:] == [caller.trace_id, next_one.trace_id]


# -- what it may not do ------------------------------------------------------------------------------------------------


async def test_no_span_holds_a_secret(
    replicas: list[Replica], http: httpx.AsyncClient, queue: Publisher, sink: Collector
) -> None:
    """Payloads, tokens, query strings, users, topics, roles, keys: whatever a caller says."""
    canary = "canary-4711"
    sender = token(f"{canary}-caller", scopes=["notify:send"])
    body = {
        "to": {"users": [f"{canary}-user"], "topics": [f"{canary}-topic"], "roles": [f"{canary}-role"]},
        "type": f"{canary}.type",
        "title": f"{canary}-title",
        "body": f"{canary}-body",
        "data": {canary: canary},
        "link": f"/{canary}",
        "collapse_key": f"{canary}-collapse",
    }
    caller = Caller()
    headers = {"Authorization": f"Bearer {sender}", "Idempotency-Key": f"{canary}-key", "X-Request-Id": canary}
    headers |= {"baggage": f"secret={canary}", "Content-Type": "application/json", **caller.headers}
    answers = [
        await http.post(f"/notify?token={canary}", json=body, headers=headers),
        await http.post(f"/notify/batch?token={canary}", json=[body, {**body, canary: 1}], headers=headers),
        await http.post("/notify", content=f'{{"{canary}"', headers=headers),
        await http.post("/notify", json=body, headers={**headers, "Authorization": f"Bearer {canary}"}),
    ]
    properties: dict[str, Any] = {"headers": {canary: canary, **caller.headers}, "app_id": canary}
    await queue.send(body, **properties)
    await queue.send(body, key=f"{canary}.{canary}", **properties)
    await queue.dead_letters(1)

    await sink.until(lambda: len(of_trace(sink.spans, caller.trace_id)) >= 15, "a span of each")
    assert [each.status_code for each in answers] == [202, 207, 400, 401]
    secrets_said = {canary, *sender.split(".")[1:], *bearer()["Authorization"].split(".")[1:]}
    assert [each for each in secrets_said if any(each.encode() in sent for sent in sink.bodies)] == []
    assert [line for replica in replicas for line in complaints(replica.log_path)] == []


async def test_a_collector_that_is_away_costs_spans_and_one_line(tmp_path: Path) -> None:
    listener = socket.socket()  # Bound and not listening: refused, and nobody else's meanwhile.
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}?key=canary", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.2"}
    replica = Replica(tmp_path / "replica.log", away | {"OTEL_BSP_SCHEDULE_DELAY": "20"})
    try:
        async with httpx.AsyncClient(base_url=replica.url, headers=bearer(), verify=False) as client:
            while await spans(replica, "lost") < 9:
                assert (await client.post("/notify", json=notification("eve"))).status_code == 202
            with collector(listener) as back:
                await client.post("/notify", json=notification("eve"))
                await back.named("deliver journal")
            assert await spans(replica, "ended") >= await spans(replica, "exported") + await spans(replica, "lost") > 9
    finally:
        code = replica.stop()

    said = [line for line in replica.log_lines() if "span" in line["event"] or "telemetry" in line["logger"]]
    assert [line["event"] for line in said][:2] == ["spans are lost", "spans are exported again"]
    assert (code, len(said) <= 3, "canary" in replica.log_path.read_text()) == (0, True, False)


async def test_a_collector_that_does_not_answer_does_not_keep_the_end_waiting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute_endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}"
        replica = Replica(tmp_path / "replica.log", {"OTEL_EXPORTER_OTLP_ENDPOINT": mute_endpoint})
        async with httpx.AsyncClient(base_url=replica.url, headers=bearer(), verify=False) as client:
            await client.post("/notify", json=notification("eve"))

        assert replica.stop(within_seconds=6.0) == 0  # The exporter itself would wait for 10 seconds.
    assert complaints(replica.log_path) == []


async def test_the_sampler_decides_where_no_caller_does_and_the_end_exports_what_is_left(tmp_path: Path) -> None:
    with collector() as own:
        variables = {"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_TRACES_SAMPLER": "parentbased_always_off"}
        replica = Replica(tmp_path / "replica.log", own.variables | variables)
        async with httpx.AsyncClient(base_url=replica.url, headers=bearer(), verify=False) as client:
            await client.post("/notify", json=notification("eve"))
            await client.post("/notify/batch", json=[notification("eve")] * 100, headers=Caller().headers)
        assert own.spans == []
        assert replica.stop() == 0

    assert Counter(span.name for span in own.spans) == {
        "POST /notify/batch": 1,
        "create journal": 100,
        "send journal": 1,
        "deliver journal": 100,
    }
    assert {span.attributes.get("messaging.system", "notifier") for span in own.spans} == {"notifier"}
    lines = [line for line in replica.log_lines() if line["event"] == "request"]
    assert ["trace_id" in line for line in lines] == [False, True]


# -- on and off --------------------------------------------------------------------------------------------------------


async def test_off_imports_nothing_of_it() -> None:
    code = "from notifier.app import create_app as c; from notifier.settings import Settings as S; c(S(insecure=True))"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"), stdout=asyncio.subprocess.PIPE
    )
    loaded = (await child.communicate())[0].decode().split()

    assert "notifier.tracing" in loaded
    assert [name for name in loaded if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))] == []
    assert "notifier.telemetry.traces" not in loaded


WITHOUT_EXTRA = "traces need OpenTelemetry: pip install '.[server,otel]' in the project's folder"


@pytest.mark.parametrize("command", ["check", "serve"])
async def test_on_without_the_extra_is_refused_with_what_to_do(command: str) -> None:
    code, err = await without_opentelemetry(command, NOTIFIER_TELEMETRY__TRACES="on")

    assert code == 2
    assert err == f"notifier: NOTIFIER_TELEMETRY__TRACES: {WITHOUT_EXTRA}\n"


async def test_auto_without_the_extra_goes_without() -> None:
    code, err = await without_opentelemetry("check", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")

    assert code == 0
    assert err == f"notifier: traces are off: {WITHOUT_EXTRA}\n"


async def spans(replica: Replica, what: str) -> float:
    """What became of the spans, as the operations port tells."""
    async with httpx.AsyncClient(base_url=replica.operations_url, verify=False) as operator:
        lines = (await operator.get("/metrics")).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"notifier_spans_{what}_total ")))


async def without_opentelemetry(command: str, **variables: str) -> tuple[int, str]:
    """Run a command where the extra is not installed; its exit code and standard error."""
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, "NOTIFIER_INSECURE": "true", **variables}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.without_opentelemetry", command), env=environment, stdout=pipe, stderr=pipe
    )
    _, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, err.decode()
