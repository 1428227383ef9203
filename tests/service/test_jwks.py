"""Keys of an issuer that is real, and rotates, slows, lies and dies (T-51; security checklist 3.2.19)."""

import asyncio
import io
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from notifier import cli
from tests.issuer import HttpIssuer, make_ca
from tests.replica import Replica
from tests.service.client import PROTOCOL, Client, bare, complaints, eventually
from tests.service.conftest import StartReplica, on_both_paths

BODY = {"to": {"users": ["alice"]}, "type": "t", "title": "x"}
SENDS: dict[str, Any] = {"scopes": ["notify:send"]}
# A throttle that a test can sit out, and a refresh that does not come by itself.
PACE = {"ACCESS__JWKS_LEAST_SECONDS": "0.5", "ACCESS__JWKS_TIMEOUT_SECONDS": "3"}
Begin = Callable[..., Replica]


@pytest.fixture
def issuer() -> Iterator[HttpIssuer]:
    with HttpIssuer() as issuer:
        yield issuer


@pytest.fixture
def begin(start_replica: StartReplica) -> Begin:
    """A function that starts a replica for entries of NOTIFIER_ACCESS__ISSUERS, or for a file that holds them."""

    def start(issuers: list[dict[str, Any]] | Path, **settings: str) -> Replica:
        if isinstance(issuers, Path):
            named = {"ACCESS__ISSUERS_FILE": str(issuers)}
        else:
            named = {"ACCESS__ISSUERS": json.dumps(issuers)}
        return start_replica(INSECURE="false", **named, **PACE | settings)

    return start


def listening(replica: Replica, token: str) -> connect:
    offered: list[Any] = [PROTOCOL, f"bearer.{token}"]
    return connect(replica.ws_url, subprotocols=offered, ping_interval=None)


async def post(replica: Replica, token: str) -> httpx.Response:
    # An unknown key waits for a fetch: with the machine that is nearly as long as httpx would wait by itself.
    async with httpx.AsyncClient(base_url=replica.url, verify=False, timeout=30) as backend:
        return await backend.post("/notify", json=BODY, headers={"Authorization": f"Bearer {token}"})


async def close_code(replica: Replica, token: str) -> tuple[int, str]:
    """With what a browser's handshake is refused."""
    offered = [PROTOCOL, f"bearer.{token}"]
    async with bare(replica.ws_url, subprotocols=offered, headers=[("Origin", replica.url)]) as client:
        return await client.closed()


async def probes(replica: Replica) -> tuple[int, int, str]:
    """The statuses of livez and readyz, and the state of the keys."""
    async with httpx.AsyncClient(base_url=replica.operations_url, verify=False) as operator:
        alive, ready = await operator.get("/livez"), await operator.get("/readyz")
    return alive.status_code, ready.status_code, ready.json()["checks"]["keys"]


def logged(replica: Replica, event: str) -> list[dict[str, Any]]:
    return [line for line in replica.log_lines() if line["event"] == event]


async def has_fetched(issuer: HttpIssuer, times: int) -> bool:
    return issuer.fetches() >= times


async def is_logged(replica: Replica, event: str, times: int) -> bool:
    return len(logged(replica, event)) >= times


def is_let_in(replica: Replica, token: Callable[[], str]) -> Callable[[], Awaitable[bool]]:
    """Whether a backend that comes back when it is told to has been let in."""

    async def ask() -> bool:
        answer = await post(replica, token())
        assert answer.status_code == 202 or (answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1)
        return answer.status_code == 202

    return ask


async def test_a_rotation_is_followed_and_sessions_stay(issuer: HttpIssuer, begin: Begin) -> None:
    """The key that is gone is refused; who is in stays in, and refreshes under the new key while frames go on. T-51"""
    replica = begin([issuer.settings()], ACCESS__JWKS_LEAST_SECONDS="3")  # It must be too soon for the old key to ask.
    old = issuer.token("first", **SENDS)
    async with listening(replica, old) as connection:
        client = Client(connection)
        await client.frame("welcome")
        before = await post(replica, old)
        fetches = issuer.fetches()
        issuer.rotate("second")
        await eventually(is_let_in(replica, lambda: issuer.token("second", **SENDS)))
        by_old_key = await post(replica, old)
        arrived = [(await client.notification())["id"] for _ in range(2)]
        issuer.rotate("third")
        await eventually(is_let_in(replica, lambda: issuer.token("third", **SENDS)))
        await client.say(type="refresh", token=issuer.token("third"), ref="again")
        arrived.append((await client.notification())["id"])
        refreshed = await client.frame("refreshed")

    assert before.status_code == 202
    assert (by_old_key.status_code, by_old_key.json()["code"]) == (503, "keys_unavailable")
    assert (arrived[0], refreshed["ref"]) == (before.json()["id"], "again")
    assert issuer.fetches() - fetches == 2
    assert complaints(replica.log_path) == []


@on_both_paths
async def test_a_refresh_waits_for_its_key_while_the_session_goes_on(issuer: HttpIssuer, begin: Begin) -> None:
    """T-50, over a fetch: a good one, one of another user, one that no key of the issuer has signed."""
    replica = begin([issuer.settings()], ACCESS__JWKS_LEAST_SECONDS="0.05")
    async with (
        listening(replica, issuer.token("first")) as good,
        listening(replica, issuer.token("first")) as other,
        listening(replica, issuer.token("first")) as forged,
    ):
        clients = [Client(connection) for connection in (good, other, forged)]
        for client in clients:
            await client.frame("welcome")
        issuer.is_open.clear()
        issuer.rotate("first", "new")
        tokens = [issuer.token("new"), issuer.token("new", "mallory"), issuer.token("new", key=issuer.make_key())]
        for client, token in zip(clients, tokens, strict=True):
            await client.say(type="refresh", token=token, ref="again")
            await client.say(type="ping", ref="meanwhile")
        pongs = [await client.frame("pong") for client in clients]
        issuer.is_open.set()
        refreshed = await clients[0].frame("refreshed")
        ends = [await client.rest() for client in clients[1:]]

    assert {pong["ref"] for pong in pongs} == {"meanwhile"}
    assert refreshed["ref"] == "again"
    assert ends == [([], 4403, "another_user"), ([], 4402, "token_invalid")]
    assert complaints(replica.log_path) == []


async def test_a_replica_begins_without_its_issuer_and_takes_it_in_when_it_comes(
    issuer: HttpIssuer, begin: Begin
) -> None:
    """Down at boot: ready after a bounded time, `come back` for whoever comes; then slow, then lying. T-51"""
    issuer.die()
    replica = await asyncio.to_thread(begin, [issuer.settings()], ACCESS__JWKS_BOOT_SECONDS="0.5")
    await eventually(lambda: is_logged(replica, "issuer keys not fetched", 1))
    alive, ready, state = await probes(replica)
    early = await post(replica, issuer.token("first", **SENDS))
    refused = await close_code(replica, issuer.token("first"))
    issuer.live()
    await eventually(is_let_in(replica, lambda: issuer.token("first", **SENDS)))
    well = await probes(replica)
    issuer.is_open.clear()  # It takes connections, and says nothing.
    issuer.rotate("first", "second")
    new_while_slow = await post(replica, issuer.token("second", **SENDS))
    known_while_slow = await post(replica, issuer.token("first", **SENDS))
    issuer.say("<html>maintenance</html>")  # Before it opens: a fetch waits there, and is not to bring the truth.
    issuer.is_open.set()
    lies = len(logged(replica, "issuer keys not fetched"))

    async def has_lied_twice() -> bool:
        await post(replica, issuer.token("second", **SENDS))
        return await is_logged(replica, "issuer keys not fetched", lies + 2)

    await eventually(has_lied_twice)
    known_while_lying = await post(replica, issuer.token("first", **SENDS))
    degraded = await probes(replica)
    issuer.say_the_truth()
    await eventually(is_let_in(replica, lambda: issuer.token("second", **SENDS)))

    assert (alive, ready) == (200, 200)
    assert state.startswith(f"degraded: {issuer.url}: {issuer.url} cannot be reached")
    assert (early.status_code, early.json()["code"]) == (503, "keys_unavailable")
    assert refused == (4005, "keys_unavailable")
    assert well == (200, 200, "ok")
    assert (new_while_slow.status_code, known_while_slow.status_code, known_while_lying.status_code) == (503, 202, 202)
    assert degraded == (200, 200, f"degraded: {issuer.url}: the set is not taken: it is not JSON")
    assert complaints(replica.log_path) == []


async def test_a_reload_keeps_the_keys_that_stay_and_fetches_new_ones(
    issuer: HttpIssuer, begin: Begin, tmp_path: Path
) -> None:
    """SIGHUP: a fixed key beside the published ones, then another issuer; nobody who is in has to go."""
    file = tmp_path / "issuers.json"
    file.write_text(json.dumps([issuer.settings()]))
    replica = begin(file)
    with HttpIssuer() as second:
        async with listening(replica, issuer.token("first")) as connection:
            client = Client(connection)
            await client.frame("welcome")
            before = issuer.fetches()
            own = {"secret": "a secret of an issuer that publishes nothing"}
            fixed = {"issuer": "fixed", "audiences": ["push"], "algorithms": ["HS256"], "keys": [own]}
            file.write_text(json.dumps([issuer.settings(), second.settings(jwks_url=f"{second.url}/keys"), fixed]))
            replica.process.send_signal(signal.SIGHUP)
            await eventually(lambda: is_logged(replica, "settings reloaded", 1))
            codes = [(await post(replica, each.token("first", **SENDS))).status_code for each in (issuer, second)]
            file.write_text(json.dumps([second.settings(jwks_url=f"{second.url}/keys"), fixed]))
            replica.process.send_signal(signal.SIGHUP)
            await eventually(lambda: is_logged(replica, "settings reloaded", 2))
            gone = await post(replica, issuer.token("first", **SENDS))
            file.write_text(json.dumps([second.settings(jwks_url="http://id.example.com/keys"), fixed]))
            replica.process.send_signal(signal.SIGHUP)
            await eventually(lambda: is_logged(replica, "settings not reloaded", 1))
            kept = await post(replica, second.token("first", **SENDS))
            arrived = [(await client.notification())["id"] for _ in range(3)]
            await eventually(lambda: has_fetched(second, 2))  # A reload has those fetched anew that stay.

    assert codes == [202, 202]
    assert (gone.status_code, gone.json()["code"]) == (401, "token_invalid")
    assert (kept.status_code, len(arrived)) == (202, 3)
    assert issuer.fetches() <= before + 1


# -- notifier check ------------------------------------------------------------------------------------------------


def check(monkeypatch: pytest.MonkeyPatch, issuers: list[Mapping[str, Any]], *options: str, token: str = "") -> int:
    monkeypatch.setenv("NOTIFIER_ACCESS__ISSUERS", json.dumps(issuers))
    monkeypatch.setattr(sys, "stdin", io.StringIO(token))
    return cli.main(["check", *options])


def test_check_says_what_an_issuer_publishes_or_what_is_wrong(
    issuer: HttpIssuer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ca_file, pair = make_ca(tmp_path)
    with HttpIssuer(pair) as secure:
        trusted = secure.settings(ca_file=str(ca_file))
        fine = check(monkeypatch, [issuer.settings(), trusted], "--connect")
        said = capsys.readouterr().out.splitlines()
        issuer.say('{"keys": []}')
        wrong = check(monkeypatch, [issuer.settings(), secure.settings()], "--connect")
        complained = capsys.readouterr().out.splitlines()

    assert (fine, wrong) == (0, 1)
    assert [line.rpartition(", in ")[0] for line in said[:2]] == [
        f"ok: keys of {each.url}: 'first' for ES256" for each in (issuer, secure)
    ]
    assert (
        complained[0] == f"missing: keys of {issuer.url}: the set is not taken: it has no key for ES256 (it lists none)"
    )
    assert complained[1].startswith(
        f"missing: keys of {secure.url}: {secure.url} has a certificate that is not trusted"
    )


def test_check_explains_a_token_by_the_published_keys(
    issuer: HttpIssuer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = check(monkeypatch, [issuer.settings()], "--token", "-", token=issuer.token("first"))
    explained = capsys.readouterr().out
    issuer.die()
    unknown = check(monkeypatch, [issuer.settings()], "--token", "-", token=issuer.token("first"))
    refused = capsys.readouterr()

    assert (known, unknown) == (0, 1)
    assert "user: alice" in explained
    assert refused.out == "refused (keys_unavailable): its kid is not known\n"
    assert refused.err.startswith(f"notifier: no keys of {issuer.url}: {issuer.url} cannot be reached")
