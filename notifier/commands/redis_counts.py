"""The Redis where replicas count together, for `notifier check`: everything that is asked of it, once."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from notifier.access.shared import Shared
    from notifier.settings import Settings

_SCRIPT: Final = "return 1"
_KEPT_MS: Final = 60_000  # What is left of a trial that was refused half way.


def try_counts(settings: "Settings") -> bool:
    """Try the Redis of the settings, if they name one, and print what came. Returns whether all of it works."""
    from notifier.counts import shared_of

    shared = shared_of(settings)
    return shared is None or asyncio.run(_try(shared, settings))


def trials(prefix: str) -> Sequence[tuple[str | int, ...]]:
    """Each command that the service sends, itself or by a script, on keys of our own; nothing of them is left."""
    key = f"{prefix}:check:{secrets.token_hex(8)}"
    ordered, queue, count, previous = f"{key}:ordered", f"{key}:queue", f"{key}:count", f"{key}:previous"
    return [
        ("SCRIPT LOAD", _SCRIPT),
        ("EVALSHA", hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest(), 0),
        ("TIME",),
        ("ZADD", ordered, 0, "session"),
        ("PEXPIRE", ordered, _KEPT_MS),
        ("ZCARD", ordered),
        ("ZRANGE", ordered, 0, 0),
        ("ZRANGEBYSCORE", ordered, 0, "+inf"),
        ("ZREMRANGEBYSCORE", ordered, "-inf", -1),
        ("ZREM", ordered, "session"),
        ("RPUSH", queue, "session"),
        ("PEXPIRE", queue, _KEPT_MS),
        ("LPOP", queue, 2),
        ("SET", count, 0, "PX", _KEPT_MS),
        ("GET", count),
        ("PTTL", count),
        ("EXISTS", count),
        ("INCRBY", count, 1),
        ("RENAME", count, previous),
        ("PEXPIRE", previous, 1),
    ]


async def _try(shared: "Shared", settings: "Settings") -> bool:
    from redis.exceptions import RedisError

    place = _place(shared)
    try:
        await _introduce(shared, place, patience_seconds=settings.counts.patience_seconds)
        refused: dict[str, str] = {}
        for name, *arguments in trials(shared.prefix):
            if (problem := await _refusal(shared, str(name), arguments)) is not None:
                has_key = str(arguments[0] if arguments else "").startswith(f"{shared.prefix}:")
                refused.setdefault(f"{name} on keys {shared.prefix}:*" if has_key else str(name), problem)
    except (RedisError, OSError) as error:
        print(f"missing: {place}: {_problem(error, shared)}")
        return False
    finally:
        await shared.pool.disconnect()
    for what, problem in refused.items():
        print(f"missing: {place}: {what}: {problem}")
    if not refused:
        print(f"ok: commands and scripts on keys {shared.prefix}:*")
    return not refused


async def _introduce(shared: "Shared", place: str, *, patience_seconds: float) -> None:
    """Print what answers, and how soon. Raises RedisError."""
    began = time.perf_counter()
    await shared.client.execute_command("PING")  # type: ignore[no-untyped-call]  # redis-py's
    connect_seconds = time.perf_counter() - began
    began = time.perf_counter()
    await shared.client.execute_command("PING")  # type: ignore[no-untyped-call]
    round_trip_seconds = time.perf_counter() - began
    line = f"{place}: connected in {connect_seconds * 1000:.0f} ms, a round trip in {round_trip_seconds * 1000:.1f} ms"
    if round_trip_seconds > patience_seconds:
        line += ", longer than NOTIFIER_COUNTS__PATIENCE_SECONDS: replicas would count for themselves"
    print(line)


async def _refusal(shared: "Shared", name: str, arguments: Sequence[Any]) -> str | None:
    """Why a command is refused; None when it is not. Raises RedisError when there is no answer at all."""
    from redis.exceptions import NoScriptError, ResponseError

    try:
        await shared.client.execute_command(name, *arguments)  # type: ignore[no-untyped-call]
    except NoScriptError:
        return None  # It was not loaded, which has been told.
    except ResponseError as error:
        return _problem(error, shared)
    return None


def _problem(error: Exception, shared: "Shared") -> str:
    """What to do about it, and in the words of Redis or of the system what is wrong."""
    from redis.exceptions import AuthenticationError, ResponseError
    from redis.exceptions import TimeoutError as NoAnswer

    said = str(error) or type(error).__name__
    match error:
        case AuthenticationError():
            return f"user or password are wrong: {said}"
        case NoAnswer() | TimeoutError():
            return f"no answer: {said}"
        case ResponseError() if "DB index" in said:
            return f"there is no database {shared.pool.connection_kwargs.get('db')}: {said}"
        case ResponseError():
            return said
    return f"it cannot be reached: {said}"


def _place(shared: "Shared") -> str:
    """Its address without the password."""
    options = shared.pool.connection_kwargs
    user = f"{options['username']}@" if options.get("username") else ""
    return f"Redis at {user}{options.get('host')}:{options.get('port', 6379)}/{options.get('db') or 0}"
