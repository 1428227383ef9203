"""`notifier check --connect` on a real Redis: what is there, and a sentence for each way in which it is not."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from limits.aio.storage.redis.bridge import RedisBridge
from redis import Redis

from notifier.access import shared_seats
from notifier.cli import main
from notifier.commands.redis_counts import trials
from tests.redis import PASSWORD, RedisServer

Check = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """A function that runs the command for a Redis; returns its exit code and what it says of that."""

    def run(url: str, **settings: str) -> tuple[int, list[str]]:
        for name, value in {"INSECURE": "true", "COUNTS__URL": url, **settings}.items():
            monkeypatch.setenv(f"NOTIFIER_{name}", value)
        code = main(["check", "--connect"])
        said = capsys.readouterr()
        assert said.err == ""
        assert PASSWORD not in said.out
        *lines, last = said.out.splitlines()
        assert last.startswith("no broker")
        return code, lines

    return run


def test_a_redis_that_does_what_is_asked_is_said_to_be_fine_and_nothing_is_left_there(
    redis: RedisServer, check: Check
) -> None:
    code, (first, second) = check(redis.url, BROKER__PREFIX="shop")

    assert code == 0
    assert re.fullmatch(rf"Redis at 127.0.0.1:{redis.port}/0: connected in \d+ ms, a round trip in [\d.]+ ms", first)
    assert second == "ok: commands and scripts on keys shop:*"
    with Redis.from_url(redis.url) as client:
        assert client.dbsize() in (0, 1)  # One is gone after a millisecond.
        assert client.keys("*") == []


@pytest.mark.parametrize("option", [[], ["--connect"]])
def test_a_client_that_is_not_installed_is_told_as_by_serve(option: list[str]) -> None:
    """A fresh interpreter, since this one has imported it long ago."""
    code = (
        f"import sys; sys.modules['redis'] = None; from notifier.cli import main; sys.exit(main({['check', *option]}))"
    )
    settings = {"NOTIFIER_INSECURE": "true", "NOTIFIER_COUNTS__URL": "redis://127.0.0.1:1/"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert "NOTIFIER_COUNTS__URL needs the extra redis: pip install '.[server,redis]'" in done.stderr


def test_a_redis_that_is_too_far_away_to_be_waited_for_is_told_of(redis: RedisServer, check: Check) -> None:
    code, (first, _) = check(redis.url, COUNTS__PATIENCE_SECONDS="0.000001")

    assert code == 0
    assert "longer than NOTIFIER_COUNTS__PATIENCE_SECONDS" in first


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (PASSWORD, "x", "user or password are wrong: "),
        (f":{PASSWORD}@", "", "user or password are wrong: "),
        ("/0", "/99", "there is no database 99: "),
    ],
)
def test_an_address_that_is_not_right_is_told_of(
    redis: RedisServer, check: Check, old: str, new: str, sentence: str
) -> None:
    url = redis.url.replace(old, new)

    code, (line,) = check(url)

    place = f"Redis at 127.0.0.1:{redis.port}/{url.rpartition('/')[2]}"
    assert (code, line.startswith(f"missing: {place}: {sentence}")) == (1, True), line


def test_a_redis_that_is_away_or_frozen_is_told_of(redis: RedisServer, check: Check) -> None:
    redis.suspend()
    _, (frozen,) = check(redis.url)
    redis.resume()
    redis.kill()
    code, (away,) = check(redis.url)

    place = f"missing: Redis at 127.0.0.1:{redis.port}/0: "
    assert frozen.startswith(f"{place}no answer: "), frozen
    assert away.startswith(f"{place}it cannot be reached: "), away
    assert code == 1


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        (["~*", "+@all", "-zadd"], ["ZADD on keys shop:*"]),
        (["~*", "+@all", "-script", "-time"], ["SCRIPT LOAD", "TIME"]),
        (["~other:*", "+@all"], [f"{name} on keys shop:*" for name in ("ZADD", "RPUSH", "SET", "RENAME")]),
    ],
)
def test_a_user_that_may_not_do_everything_is_told_what_is_missing(
    redis: RedisServer, check: Check, rules: list[str], refused: list[str]
) -> None:
    with Redis.from_url(redis.url) as client:
        client.execute_command("ACL", "SETUSER", "counts", "on", f">{PASSWORD}", *rules)

    code, (_, *lines) = check(redis.url.replace("redis://", "redis://counts"), BROKER__PREFIX="shop")

    place = f"missing: Redis at counts@127.0.0.1:{redis.port}/0: "
    assert code == 1
    for what in refused:
        assert any(line.startswith(f"{place}{what}: ") and "permission" in line for line in lines), lines
    assert len(lines) == len(refused) or rules[0] != "~*"


def test_a_user_with_the_permissions_that_the_documentation_names_is_enough(redis: RedisServer, check: Check) -> None:
    rules = re.search(r"ACL SETUSER notifier on >… (~[^`]+)`", Path("docs/operations.md").read_text())
    assert rules is not None
    with Redis.from_url(redis.url) as client:
        client.execute_command("ACL", "SETUSER", "notifier", "reset", "on", f">{PASSWORD}", *rules[1].split())

    code, (_, line) = check(redis.url.replace("redis://", "redis://notifier"))

    assert (code, line) == (0, "ok: commands and scripts on keys notifier:*")


def test_every_command_of_the_scripts_is_tried() -> None:
    scripts = [script for name, script in vars(shared_seats).items() if name in {"_CLAIM", "_WRITE", "_BEAT"}]
    of_rates = (RedisBridge.SCRIPT_SLIDING_WINDOW, RedisBridge.SCRIPT_ACQUIRE_SLIDING_WINDOW)
    scripts += [script.decode() for script in of_rates]

    called = {name.upper() for script in scripts for name in re.findall(r"redis\.call\('(\w+)'", script)}

    assert len(scripts) == 5
    assert called <= {str(command) for command, *_ in trials("shop")}
