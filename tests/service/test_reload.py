"""SIGHUP: what stands in files is taken over while sessions stay open, all of it or nothing."""

import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from notifier.access.development import mint
from tests.replica import Replica
from tests.service.client import PROTOCOL, Client, eventually

OLD_KEY, NEW_KEY = "the old key of the issuer, 32 bytes and more", "the new key of the issuer, 32 bytes and more"
PAGE = "https://page.example"
ISSUER: Mapping[str, Any] = {"issuer": "https://id.example", "algorithms": ["HS256"], "audiences": ["push"]}


class Mounted:
    """A replica whose settings stand in files, and the files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.write("key", OLD_KEY)
        self.write("issuers", json.dumps([{**ISSUER, "keys": [{"secret_file": str(directory / "key")}]}]))
        self.write("rules", "[]")
        self.write("origins", "https://other.example")
        self.write("send", "1000/day")
        self.write("level", "info")
        self.write("tickets", "o" * 32)
        named = {
            "ACCESS__ISSUERS": "issuers",
            "ACCESS__TOPIC_RULES": "rules",
            "HTTP__ALLOWED_ORIGINS": "origins",
            "LIMITS__SEND": "send",
            "TELEMETRY__LOG_LEVEL": "level",
            "ACCESS__TICKET_SECRETS": "tickets",
        }
        files = {f"NOTIFIER_{name}_FILE": str(directory / file) for name, file in named.items()}
        self.replica = Replica(directory / "replica.log", {"NOTIFIER_INSECURE": "false", **files})

    def write(self, name: str, text: str) -> None:
        """Replace a file as Kubernetes does, in one step."""
        new = self.directory / f"{name}.new"
        new.write_text(f"{text}\n")
        new.rename(self.directory / name)

    async def reload(self, event: str) -> dict[str, Any]:
        """Send the signal, and wait until the log says so. Returns the line."""

        def said() -> list[dict[str, Any]]:
            return [line for line in self.replica.log_lines() if line["event"] == event]

        async def is_said() -> bool:
            return len(said()) > before

        before = len(said())
        self.replica.process.send_signal(signal.SIGHUP)
        await eventually(is_said)
        return said()[-1]

    def connect(self, key: str, *topics: str) -> connect:
        """A session under a token that was signed with the key."""
        offered: list[Any] = [PROTOCOL, f"bearer.{signed(key)}"]
        return connect(f"{self.replica.ws_url}?topics={','.join(topics)}", subprotocols=offered, ping_interval=None)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    """A replica whose settings stand in files."""
    mounted = Mounted(tmp_path)
    yield mounted
    mounted.replica.stop()


def signed(key: str) -> str:
    return mint(issuer="https://id.example", audience="push", key=key, algorithm="HS256", user="alice", scopes=SCOPES)


SCOPES = ["notify:send"]
BODY = {"to": {"users": ["alice"]}, "type": "t", "title": "x"}


async def test_keys_rules_origins_and_limits_are_taken_over_and_sessions_stay(mounted: Mounted) -> None:
    old = {"Authorization": f"Bearer {signed(OLD_KEY)}", "Origin": PAGE}
    new = {"Authorization": f"Bearer {signed(NEW_KEY)}", "Origin": PAGE}
    async with httpx.AsyncClient(base_url=mounted.replica.url, verify=False) as backend:
        async with mounted.connect(OLD_KEY, "news") as connection:
            client = Client(connection)
            welcome = await client.frame("welcome")
            before = await backend.post("/notify", json=BODY, headers=old)
            ticket = (await backend.post("/ticket", headers=old)).json()["ticket"]
            mounted.write("key", NEW_KEY)
            mounted.write("rules", '[{"match": {"any": true}, "allow": ["news"]}]')
            mounted.write("origins", PAGE)
            mounted.write("send", "1/day")
            mounted.write("tickets", "n" * 32)
            line = await mounted.reload("settings reloaded")
            refused = await backend.post("/notify", json=BODY, headers=old)
            late = await backend.get("/events", params={"ticket": ticket}, headers={"Origin": PAGE})
            after = await backend.post("/notify", json=BODY, headers=new)
            over = await backend.post("/notify", json=BODY, headers=new)
            arrived = [(await client.notification())["id"] for _ in range(2)]
            await client.say(type="refresh", token=signed(NEW_KEY), ref=1)
            refreshed = await client.frame("refreshed")
            await client.say(type="subscribe", topics=["news"], ref=2)
            subscribed = await client.frame("subscribed")
        async with mounted.connect(NEW_KEY, "news") as connection:
            welcome_of_now = await Client(connection).frame("welcome")

    assert (before.status_code, before.headers.get("access-control-allow-origin")) == (202, None)
    assert line["changed"] == [
        "NOTIFIER_HTTP__ALLOWED_ORIGINS",
        "NOTIFIER_ACCESS__TOPIC_RULES",
        "NOTIFIER_ACCESS__TICKET_SECRETS",
        "NOTIFIER_LIMITS__SEND",
    ]
    assert (late.status_code, late.json()["code"]) == (401, "ticket_invalid")
    assert (refused.status_code, refused.json()["code"]) == (401, "token_invalid")
    assert (after.status_code, after.headers.get("access-control-allow-origin")) == (202, PAGE)
    assert over.status_code == 429
    assert arrived == [before.json()["id"], after.json()["id"]]
    assert (welcome["topics"], refreshed["topics"], subscribed["topics"]) == ([], [], ["news"])
    assert welcome_of_now["topics"] == ["news"]


async def test_a_bad_file_leaves_all_as_it_was_and_says_so(mounted: Mounted) -> None:
    mounted.write("key", NEW_KEY)
    mounted.write("rules", '[{"match": {"any": true}, "allow": ["a..b"]}]')
    line = await mounted.reload("settings not reloaded")
    mounted.write("rules", "[")
    not_json = await mounted.reload("settings not reloaded")
    headers = {"Authorization": f"Bearer {signed(OLD_KEY)}"}
    async with httpx.AsyncClient(base_url=mounted.replica.url, verify=False) as backend:
        answer = await backend.post("/notify", json=BODY, headers=headers)
        page = await backend.get(f"{mounted.replica.operations_url}/metrics")

    assert answer.status_code == 202
    assert line["level"] == "error"
    (problem,) = line["problems"]
    assert problem.startswith("NOTIFIER_ACCESS__TOPIC_RULES[0]: ")
    (problem,) = not_json["problems"]
    assert problem.startswith("NOTIFIER_ACCESS__TOPIC_RULES_FILE: ")
    assert NEW_KEY not in mounted.replica.log_path.read_text()
    assert 'notifier_reloads_total{result="refused"} 2.0' in page.text
    assert 'notifier_reloads_total{result="taken"} 0.0' in page.text


async def test_what_takes_a_restart_is_named_as_long_as_it_differs(mounted: Mounted) -> None:
    mounted.write("level", "debug")
    first = await mounted.reload("settings take a restart")
    again = await mounted.reload("settings take a restart")
    mounted.write("level", "info")
    await mounted.reload("settings reloaded")

    assert first["settings"] == again["settings"] == ["NOTIFIER_TELEMETRY__LOG_LEVEL"]
    assert [line["event"] for line in mounted.replica.log_lines()][-1] == "settings reloaded"
    assert mounted.replica.stop() == 0
