"""The operations port: probes, metrics, sessions, notifications, rebalance; and that the public one has none of it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from notifier.cli import main
from tests.replica import Replica
from tests.service.client import complaints, session, sessions_of


@pytest.fixture
async def operator(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody with access to the operations port."""
    async with httpx.AsyncClient(base_url=replica.operations_url, verify=False) as client:
        yield client


async def test_probes_say_what_they_found(operator: httpx.AsyncClient) -> None:
    alive, ready = await operator.get("/livez"), await operator.get("/readyz")

    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert ready.json()["checks"] == {
        "journal": "ok",
        "control": "ok",
        "keys": "none",
        "queue": "none",
        "canary": "ok",
        "workers": "ok",
        "drain": "ok",
    }


async def test_metrics_have_the_names_of_the_service(
    replica: Replica, backend: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    async with session(replica.ws_url, "measured") as client:
        await backend.post("/notify", json={"to": {"users": ["measured"]}, "type": "t", "title": "x"})
        await client.notification()
        page = await operator.get("/metrics")

    assert page.headers["content-type"].startswith("text/plain; version=")
    values = dict(re.findall(r"^(notifier_[a-z_]+(?:\{[^}]*\})?) (\S+)$", page.text, re.MULTILINE))
    assert {
        *("notifier_sessions", "notifier_sessions_behind", "notifier_window_entries", "notifier_window_bytes"),
        *("notifier_deliveries_total", "notifier_fallen_behind_total", 'notifier_accepted_total{door="http"}'),
        *("notifier_repeats_total", "notifier_dropped_total"),
        'notifier_handshakes_total{result="admitted",transport="websocket"}',
    } <= values.keys()
    assert float(values["notifier_sessions"]) >= 1
    assert float(values["notifier_deliveries_total"]) >= 1
    assert 'route="/notify",status="202"' in page.text
    assert "measured" not in page.text


async def test_sessions_are_found_by_tenant_and_user(replica: Replica, operator: httpx.AsyncClient) -> None:
    async with (
        session(replica.ws_url, "ann", tenant="red", roles=["r"], topics=["t.a"], extra={"topics": ["t.*"]}) as ann,
        session(replica.ws_url, "ann", tenant="blue") as other,
        session(replica.ws_url, "ben", tenant="red") as ben,
    ):
        ids = {
            query: {each["session"] for each in (await operator.get(f"/sessions?{query}")).json()["sessions"]}
            for query in ("tenant=red", "user=ann", "tenant=red&user=ann", "tenant=none", "tenant=red&user=")
        }
        (found,) = await sessions_of(replica.operations_url, "ann", "red")

    assert ids == {
        "tenant=red": {ann.welcome["session"], ben.welcome["session"]},
        "user=ann": {ann.welcome["session"], other.welcome["session"]},
        "tenant=red&user=ann": {ann.welcome["session"]},
        "tenant=none": set(),
        "tenant=red&user=": {ann.welcome["session"], ben.welcome["session"]},
    }
    assert found == {
        "session": ann.welcome["session"],
        "tenant": "red",
        "user": "ann",
        "roles": ["r"],
        "topics": ["t.a"],
        "state": "live",
        "position": found["position"],  # A canary may have moved it.
        "delivered": 0,
        "opened_at": found["opened_at"],
        "expires_at": ann.welcome["expires_at"],
    }


async def test_a_notification_is_found_with_what_became_of_it_for_a_user(
    replica: Replica, backend: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    async with session(replica.ws_url, "reader") as client:
        sent = await backend.post(
            "/notify", json={"to": {"users": ["reader"]}, "type": "t", "title": "hush", "collapse_key": "k"}
        )
        position = (await client.frame("notification"))["position"]
        path = f"/notifications/{sent.json()['id']}"
        found = await operator.get(path, params={"user": "reader"})
        for_another = await operator.get(path, params={"user": "stranger"})
        elsewhere = await operator.get(path, params={"tenant": "other"})
        unknown = await operator.get("/notifications/00000000-0000-7000-8000-000000000000")

    assert found.status_code == 200
    body = found.json()
    assert (body["id"], body["position"], body["collapse_key"]) == (sent.json()["id"], position, "k")
    assert body["accepted_at"] == sent.json()["accepted_at"]
    assert body["named"] is True
    (fate,) = body["sessions"]
    assert (fate["session"], fate["outcome"]) == (client.welcome["session"], "written")
    assert body["accepted_at"] <= fate["written_by"]
    assert "hush" not in found.text
    assert (for_another.json()["named"], for_another.json()["sessions"]) == (False, [])
    assert (elsewhere.status_code, unknown.status_code) == (404, 404)


async def test_rebalance_sends_a_share_of_the_sessions_away(replica: Replica, operator: httpx.AsyncClient) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(session(replica.ws_url, f"moved-{n}")) for n in range(4)]
        answer = await operator.post("/rebalance?fraction=0.5")
        left = {each["session"] for each in (await operator.get("/sessions")).json()["sessions"]}
        while len(left) > 2:
            left = {each["session"] for each in (await operator.get("/sessions")).json()["sessions"]}
        ends = [await client.rest() for client in clients if client.welcome["session"] not in left]
        stayed = [await client.drained() for client in clients if client.welcome["session"] in left]

    assert (answer.status_code, answer.json()) == (202, {"closing": 2})
    assert stayed == [[], []]
    for frames, code, reason in ends:
        assert (code, reason) == (4001, "rebalance")
        (frame,) = frames
        assert (frame["type"], frame["reason"]) == ("reconnect", "rebalance")
        assert frame["position"]
        assert 0 < frame["after_ms"] <= 1_000


@pytest.mark.parametrize("query", ["", "?fraction=", "?fraction=0", "?fraction=-1", "?fraction=1.1", "?fraction=nan"])
async def test_rebalance_wants_a_fraction(operator: httpx.AsyncClient, query: str) -> None:
    answer = await operator.post(f"/rebalance{query}")

    assert answer.status_code == 422
    assert (await operator.get("/rebalance?fraction=1")).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        *("/livez", "/readyz", "/metrics", "/sessions", "/notifications/x?user=y", "/rebalance?fraction=1"),
        *("/docs", "/redoc", "/openapi.json", "/healthz", "/drain"),
    ],
)
async def test_the_public_port_has_none_of_it(replica: Replica, backend: httpx.AsyncClient, path: str) -> None:
    """T-63."""
    for method in ("GET", "POST"):
        answer = await backend.request(method, path)

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_the_replica_of_this_module_has_nothing_to_complain_of(replica: Replica) -> None:
    """The last test here."""
    assert complaints(replica.log_path) == []


async def test_the_command_health_says_whether_a_replica_is_ready(
    replica: Replica, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where it listens, it takes from the replica's own settings; every address is loopback to a probe beside it."""
    port = tmp_path / "port"
    port.write_text(replica.operations_url.rpartition(":")[2] + "\n")
    monkeypatch.setenv("NOTIFIER_OPERATIONS__HOST", "0.0.0.0")
    monkeypatch.setenv("NOTIFIER_OPERATIONS__PORT_FILE", str(port))

    code = await asyncio.to_thread(main, ["health"])

    assert code == 0
    assert json.loads(capsys.readouterr().out)["status"] == "ready"


@pytest.mark.parametrize(("port", "code", "words"), [("1", 1, "cannot be reached"), ("http", 2, "is not a number")])
def test_the_command_health_says_what_is_in_its_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, port: str, code: int, words: str
) -> None:
    monkeypatch.setenv("NOTIFIER_OPERATIONS__PORT", port)

    ended = main(["health"])

    assert ended == code
    assert words in capsys.readouterr().err
