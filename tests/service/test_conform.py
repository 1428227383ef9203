"""`notifier conform` against the real service, which keeps every rule, and against servers that do not."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from notifier.clients.conform.run import CHECKS
from tests.replica import Replica
from tests.service.command import Ended, run
from tests.service.conftest import StartReplica
from tests.tokens import token

QUICK_CHECKS = [check for check in CHECKS if not check.is_slow]
SLOW_CHECKS = [check for check in CHECKS if check.is_slow]
ISSUER = "https://id.example.com"
SECRET = "conform-tests-sign-with-this-secret-of-theirs"
# What only waits is not worth waiting for here; but a heartbeat that a busy machine holds up for a second is in time.
QUICK = {"SESSIONS__HEARTBEAT_SECONDS": "2", "SESSIONS__AUTH_TIMEOUT_SECONDS": "1"}


async def conform(url: str, *arguments: str) -> Ended:
    return await run("conform", "--url", url, "--within-seconds", "60", *arguments)


def verdicts(ended: Ended) -> dict[str, list[str]]:
    """The names of the rules by what became of them."""
    found: dict[str, list[str]] = {"ok": [], "FAILED": [], "skipped": []}
    for line in ended.lines[:-1]:
        verdict, _, rest = line.partition(" ")
        found[verdict].append(rest.strip().partition(":")[0])
    return found


async def test_the_service_keeps_every_rule_that_development_keys_can_try(start_replica: StartReplica) -> None:
    replica = start_replica(**QUICK)

    ended = await conform(replica.url, "--insecure-development", "--origin", replica.url)

    assert verdicts(ended) == {
        "ok": [check.name for check in (*QUICK_CHECKS, *SLOW_CHECKS)],
        "FAILED": [],
        "skipped": [],
    }
    assert ended.code == 0
    assert f"{len(CHECKS)} rules: {len(CHECKS)} ok, 0 FAILED, 0 skipped, in " in ended.lines[-1]


async def test_the_service_keeps_every_rule_that_tokens_of_an_issuer_can_try(
    start_replica: StartReplica, tmp_path: Path
) -> None:
    keys = {"issuer": ISSUER, "audiences": ["notifier"], "algorithms": ["HS256"], "keys": [{"secret": SECRET}]}
    replica = start_replica(INSECURE="false", ACCESS__ISSUERS=json.dumps([keys]), **QUICK)
    mine = {"issuer": ISSUER, "audience": "notifier", "key": SECRET}
    files = ("user", token("alice", topics=["conform"], **mine)), ("sender", token("s", scopes=["notify:send"], **mine))
    for name, content in files:
        (tmp_path / name).write_text(content + "\n")

    ended = await conform(
        replica.url,
        *("--token-file", str(tmp_path / "user"), "--sender-token-file", str(tmp_path / "sender")),
        *("--origin", replica.url),
    )

    assert verdicts(ended) | {"ok": []} == {
        "ok": [],
        "FAILED": [],
        "skipped": ["expired-token", "refresh-of-another-user"],
    }
    assert ended.code == 0


async def test_what_there_is_no_token_for_is_skipped_and_says_so(replica: Replica, tmp_path: Path) -> None:
    (tmp_path / "user").write_text(token("alice"))
    only = ["notify", "ping-and-pong", "delivered-to-a-topic", "invalid-token-of-a-page", "expired-token"]

    ended = await conform(replica.url, "--token-file", str(tmp_path / "user"), *named(only))

    assert verdicts(ended) == {
        "ok": ["ping-and-pong"],
        "FAILED": [],
        "skipped": ["invalid-token-of-a-page", "expired-token", "notify", "delivered-to-a-topic"],
    }
    assert ended.code == 0
    assert "it takes a token that may send: --sender-token-file" in ended.out


HONEST = ""
LIES = [
    ("half a welcome", "welcome", "expires_at: Field required"),
    ("pong without ref", "ping-and-pong", "expected ref a; got None"),
    ("unknown types close", "unknown-frame-type", "got close 4400 what is that"),
    (
        "the token is echoed",
        "token-in-subprotocol",
        "expected Sec-WebSocket-Protocol ['notifier.v1']; got ['bearer.<token>']",
    ),
    ("always resumed", "unknown-position", "expected reset with a reason; got {'status': 'resumed', 'replayed': 0}"),
    ("silence", "fragments", "expected to be done in "),
]
TRIED = [rule for _, rule, _ in LIES]


class Liar:
    """A server that speaks a little of the protocol, and in one point not as it should."""

    def __init__(self, lie: str) -> None:
        self.lie = lie

    def choose(self, _: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol:
        return offered[-1] if self.lie == "the token is echoed" else offered[0]

    async def converse(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        await self._say(connection, **self._welcome("position=" in connection.request.path))
        async for message in connection:
            frame = json.loads(message)
            if frame["type"] == "ping" and self.lie != "silence":
                ref = {} if self.lie == "pong without ref" else {"ref": frame["ref"]}
                await self._say(connection, type="pong", position="a.1", **ref)
            elif frame["type"] != "ping" and self.lie == "unknown types close":
                await connection.close(4400, "what is that")
            elif frame["type"] != "ping":
                await self._say(connection, type="error", ref=frame["ref"], code="frame_type_unknown", detail="")

    async def _say(self, connection: ServerConnection, **frame: Any) -> None:
        await connection.send(json.dumps(frame))

    def _welcome(self, has_position: bool) -> dict[str, Any]:
        now, resume = "2026-11-26T12:00:00.000Z", {"status": "new"}
        if has_position:
            lied = self.lie == "always resumed"
            reset = {"status": "reset", "reason": "position_invalid", "available_since": now}
            resume = {"status": "resumed", "replayed": 0} if lied else reset  # type: ignore[dict-item]
        welcome = {
            "type": "welcome",
            "protocol": "notifier.v1",
            "session": "1",
            "tenant": "default",
            "user": "alice",
            "position": "a.1",
            "resume": resume,
            "topics": [],
            "denied": [],
            "heartbeat_seconds": 25.0,
            "expires_at": now,
            "server_time": now,
            "features": [],
        }
        return {name: value for name, value in welcome.items() if (self.lie, name) != ("half a welcome", "expires_at")}


@asynccontextmanager
async def liar(lie: str) -> AsyncIterator[str]:
    """The URL of one that runs."""
    teller = Liar(lie)
    protocols = [Subprotocol("notifier.v1")]
    async with serve(
        teller.converse, "127.0.0.1", 0, subprotocols=protocols, select_subprotocol=teller.choose
    ) as server:
        yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


def named(rules: Sequence[str]) -> list[str]:
    return [argument for rule in rules for argument in ("--only", rule)]


async def test_a_server_that_does_not_lie_keeps_what_it_is_asked() -> None:
    """So that the lies below are what fails."""
    async with liar(HONEST) as url:
        ended = await conform(url, "--insecure-development", *named(TRIED))

    assert (ended.code, verdicts(ended)["ok"]) == (0, [name for name in verdicts(ended)["ok"] if name in TRIED]), (
        ended.out
    )
    assert len(verdicts(ended)["ok"]) == len(TRIED)


@pytest.mark.parametrize(("lie", "rule", "words"), LIES)
async def test_a_lie_is_found_and_told(lie: str, rule: str, words: str) -> None:
    seconds = "2" if lie == "silence" else "60"
    async with liar(lie) as url:
        ended = await conform(url, "--insecure-development", "--only", rule, "--within-seconds", seconds)

    assert ended.code == 1
    line, summary = ended.lines
    assert line.startswith(f"FAILED   {rule}: ")
    assert words in line
    assert summary.startswith("1 rules: 0 ok, 1 FAILED, 0 skipped, in ")


async def test_what_it_cannot_begin_with_is_said(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:1"

    endings = {
        "code 1": await conform(nowhere, "--insecure-development"),
        "no token": await conform(nowhere),
        "no file": await conform(nowhere, "--token-file", str(tmp_path / "none")),
        "no rule": await conform(nowhere, "--insecure-development", "--only", "nothing"),
        "no URL": await conform("push.example.com", "--insecure-development"),
    }

    assert {name: ended.code for name, ended in endings.items()} == {
        "code 1": 1,
        "no token": 2,
        "no file": 2,
        "no rule": 2,
        "no URL": 2,
    }
    assert all(len(ended.err.splitlines()) == 1 for ended in endings.values())


async def test_the_rules_can_be_listed_without_a_server() -> None:
    ended = await run("conform", "--list")

    assert ended.code == 0
    assert all(line.endswith("]") and ". [" in line for line in ended.lines)
