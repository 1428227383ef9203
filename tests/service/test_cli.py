"""`notifier send` and `notifier listen`, as a person runs them, against a replica."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.replica import Replica
from tests.service.client import complaints, eventually, sessions_of
from tests.service.conftest import StartReplica
from tests.tokens import token

DEADLINE_SECONDS = 30.0


class Command:
    """A `notifier` command under way."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> dict[str, Any]:
        """The next line on standard output, which is JSON."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            line: dict[str, Any] = json.loads(await self.process.stdout.readline())
        return line

    async def says(self, words: str) -> str:
        """The next line on standard error that holds these words."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            while words not in (line := (await self.process.stderr.readline()).decode()):
                assert line, f"it ended without saying {words!r}"
        return line

    async def end(self) -> tuple[int, str, str]:
        """Exit code, and the rest of both outputs."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def notifier(*arguments: str) -> AsyncIterator[Command]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "notifier", *arguments, stdout=pipe, stderr=pipe
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def run(*arguments: str) -> tuple[int, str, str]:
    async with notifier(*arguments) as command:
        return await command.end()


async def test_listen_prints_what_send_sends(replica: Replica) -> None:
    async with notifier("listen", "--url", replica.url, "--as", "ann", "--topic", "news.eu") as listener:
        await listener.says("listening as ann of default (new)")
        to_user = await run("send", "--url", replica.url, "--user", "ann", "--title", "Grüße", "--data", '{"n": 1}')
        to_topic = await run("send", "--url", replica.url, "--topic", "news.eu", "--body", "b", "--ttl-seconds", "60")
        to_all = await run("send", "--url", replica.url, "--everyone", "--title", "all", "--ttl-seconds", "0")
        printed = [await listener.line() for _ in range(3)]
        listener.process.send_signal(signal.SIGINT)
        exit_code, rest, err = await listener.end()

    for code, out, err_of_send in (to_user, to_topic, to_all):
        assert (code, err_of_send) == (0, "")
        assert json.loads(out)["status"] == "queued"
    assert [each["id"] for each in printed] == [json.loads(out)["id"] for _, out, _ in (to_user, to_topic, to_all)]
    assert (printed[0]["title"], printed[0]["data"], printed[1]["topics"]) == ("Grüße", {"n": 1}, ["news.eu"])
    assert (exit_code, rest) == (130, "")
    assert "Traceback" not in err


async def test_listen_goes_on_after_the_service_was_killed_and_started_again(start_replica: StartReplica) -> None:
    first = start_replica()

    async with notifier("listen", "--url", first.url, "--as", "ann") as listener:
        await listener.says("(new)")
        await run("send", "--url", first.url, "--user", "ann", "--title", "before")
        before = await listener.line()
        first.stop(signal.SIGKILL)
        await listener.says("; trying again in 0.")
        second = start_replica(HTTP__PORT=str(first.port))
        await listener.says("(reset)")
        await run("send", "--url", second.url, "--user", "ann", "--title", "after")
        after = await listener.line()

    assert (before["title"], after["title"]) == ("before", "after")
    second.stop()
    assert complaints(second.log_path) == []


async def test_listen_resumes_what_it_missed_after_a_rebalance(replica: Replica) -> None:
    async with notifier("listen", "--url", replica.url, "--as", "moved", "--all") as listener:
        welcome = await listener.line()
        async with httpx.AsyncClient(base_url=replica.operations_url, verify=False) as operator:
            await operator.post("/rebalance?fraction=1")
        reconnect = await listener.line()
        await run("send", "--url", replica.url, "--user", "moved", "--title", "missed or not")
        frames = [await listener.line() for _ in range(3)]

    assert (welcome["type"], reconnect["type"], reconnect["reason"]) == ("welcome", "reconnect", "rebalance")
    assert [frame["type"] for frame in frames] == ["disconnected", "welcome", "notifier-cli.message"]
    assert frames[1]["resume"]["status"] == "resumed"


async def test_listen_does_the_same_by_a_stream_of_events(replica: Replica) -> None:
    """Also where WebSockets are blocked; a text with U+2028 is one line."""
    async with notifier("listen", "--url", replica.url, "--as", "sse", "--sse", "--all") as listener:
        welcome = await listener.line()
        async with httpx.AsyncClient(base_url=replica.operations_url, verify=False) as operator:
            await operator.post("/rebalance?fraction=1")
        reconnect = await listener.line()
        await run("send", "--url", replica.url, "--user", "sse", "--title", "missed\u2028or not")
        frames = [await listener.line() for _ in range(3)]

    assert (welcome["type"], reconnect["type"]) == ("welcome", "reconnect")
    assert [frame["type"] for frame in frames] == ["disconnected", "welcome", "notifier-cli.message"]
    assert frames[1]["resume"]["status"] == "resumed"
    assert frames[2]["title"] == "missed\u2028or not"


async def test_listen_by_a_stream_stops_when_its_token_is_refused(replica: Replica) -> None:
    code, _, err = await run("listen", "--url", replica.url, "--sse", "--token", "a.b.c")

    assert (code, err.startswith("notifier: refused with 401")) == (1, True)


async def test_listen_from_the_earliest_prints_what_was_sent_before(replica: Replica) -> None:
    await run("send", "--url", replica.url, "--user", "late", "--title", "one")
    await run("send", "--url", replica.url, "--user", "late", "--title", "two")

    async with notifier("listen", "--url", replica.url, "--as", "late", "--position", "earliest") as listener:
        assert [(await listener.line())["title"] for _ in range(2)] == ["one", "two"]


@pytest.mark.parametrize(
    "make",
    [lambda: "a.b.c", lambda: token("late", extra={"iat": 1_700_000_000, "exp": 1_700_003_600})],
    ids=["invalid", "expired"],
)
async def test_listen_stops_with_a_message_when_its_token_is_refused(replica: Replica, make: Callable[[], str]) -> None:
    code, out, err = await run("listen", "--url", replica.url, "--token", make())

    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("notifier: refused with 401")
    assert "Traceback" not in err


async def test_listen_stops_when_its_token_ends_and_there_is_no_other(start_replica: StartReplica) -> None:
    """It asks once more; the service takes the token again, since clocks may differ, and ends that session too."""
    replica = start_replica(ACCESS__LEEWAY_SECONDS="3")
    code, out, err = await run("listen", "--url", replica.url, "--token", token("brief", lifetime_seconds=2))

    assert (code, out) == (1, "")
    assert err.count("listening as brief") == 2
    assert "refused with 401: token_expired" in err


async def test_send_prints_the_problem_of_a_refusal(replica: Replica) -> None:
    code, out, _ = await run("send", "--url", replica.url, "--user", "ann")

    assert code == 1
    assert json.loads(out)["status"] == 422


@pytest.mark.parametrize("command", [("send", "--user", "a"), ("revoke", "--user", "a"), ("listen",)])
async def test_what_can_be_no_token_is_told_and_not_shown(command: tuple[str, ...]) -> None:
    code, out, err = await run(*command, "--token", "eyJ.a\neyJ.b", "--url", "http://127.0.0.1:1")

    assert (code, out) == (2, "")
    assert err.startswith("notifier: --token: ")
    assert "eyJ" not in err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("send", "--user", "a", "--title", "t", "--url", "http://127.0.0.1:1"), 1),
        (("send", "--user", "a", "--title", "t", "--url", "http://[bad"), 1),
        (("send", "--user", "a", "--data", "{no"), 2),
        (("listen", "--url", "nonsense"), 1),
    ],
)
async def test_what_cannot_work_ends_with_a_message(arguments: tuple[str, ...], code: int) -> None:
    exit_code, out, err = await run(*arguments)

    assert (exit_code, out) == (code, "")
    assert err.startswith("notifier: ")
    assert "Traceback" not in err


async def test_listeners_leave_no_session_behind(replica: Replica) -> None:
    async def is_empty() -> bool:
        return not [user for user in ("ann", "moved", "late") if await sessions_of(replica.operations_url, user)]

    await eventually(is_empty)

    assert complaints(replica.log_path) == []
