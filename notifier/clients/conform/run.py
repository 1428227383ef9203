"""Runs the checks one after the other, those that only wait beside them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import httpx
from websockets.exceptions import ConnectionClosed

from notifier.clients.conform import conversing, delivering, entering, sending, streaming
from notifier.clients.conform.check import Broken, Check, Inapplicable
from notifier.clients.conform.target import Target

CHECKS: Final[tuple[Check, ...]] = (
    *entering.CHECKS,
    *conversing.CHECKS,
    *sending.CHECKS,
    *delivering.CHECKS,
    *streaming.CHECKS,
)
SHOWN_CHARACTERS: Final = 500
# What reading an answer raises where a member is missing, or of another kind.
_STRANGE: Final = (AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a check; `words` say why, unless it is ok. Nothing of a token is in them."""

    check: Check
    verdict: Literal["ok", "FAILED", "skipped"]
    words: str = ""


async def hold(
    target: Target, checks: Sequence[Check], *, within_seconds: float, report: Callable[[Result], None]
) -> list[Result]:
    """Hold the server against each of them, and tell of each when it is decided.

    One at a time: each counts what its user hears. Those for which there is no time left fail.
    """
    deadline = time.monotonic() + within_seconds
    results: list[Result] = []

    def note(result: Result) -> None:
        results.append(result)
        report(result)

    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(_judge(check, target, deadline)) for check in checks if check.is_slow]
        for check in checks:
            if not check.is_slow:
                note(await _judge(check, target, deadline))
        for judged in waiting:
            note(await judged)
    return results


async def _judge(check: Check, target: Target, deadline: float) -> Result:
    seconds = min(check.within_seconds, deadline - time.monotonic())
    try:
        async with asyncio.timeout(seconds):
            await check.run(target)
    except Broken as broken:
        return Result(check, "FAILED", _shown(str(broken), target))
    except Inapplicable as reason:
        return Result(check, "skipped", str(reason))
    except TimeoutError:
        return Result(check, "FAILED", f"expected to be done in {max(0.0, seconds):.0f} s")
    except (ConnectionClosed, httpx.HTTPError, OSError) as error:
        return Result(check, "FAILED", _shown(f"expected an open connection; got {error}", target))
    except _STRANGE as error:
        return Result(check, "FAILED", _shown(f"expected another answer; got {type(error).__name__}: {error}", target))
    return Result(check, "ok")


def _shown(words: str, target: Target) -> str:
    """On one line, without tokens, and not without end."""
    for token in filter(None, (target.token, target.sender_token)):
        words = words.replace(token, "<token>")
    words = " ".join(words.split())
    return words if len(words) <= SHOWN_CHARACTERS else f"{words[:SHOWN_CHARACTERS]} ..."
