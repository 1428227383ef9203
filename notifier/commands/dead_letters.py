"""`notifier dlq`: looks at the dead letters of the request queue, sends them again, or drops them."""

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from notifier.commands.failure import fail

if TYPE_CHECKING:
    from notifier.ingress.dead_letters import DeadLetter, DeadLetters

DEFAULT_PREFIX: Final = "notifier"
SHOWN_BYTES: Final = 64 * 1024
UNDECODABLE: Final = "cannot be decoded"
Verb = Callable[["DeadLetters", argparse.Namespace], Coroutine[Any, Any, int]]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are meant, in one of these ways."""

    numbers: frozenset[int]
    ids: frozenset[str]
    codes: frozenset[str]
    everything: bool

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Selection":
        """Raises ValueError when none is named, or in more than one way."""
        numbers = options.numbers if isinstance(options.numbers, list) else [options.numbers]
        selection = cls(
            frozenset(number for number in numbers if number is not None),
            frozenset(options.ids),
            frozenset(getattr(options, "codes", [])),
            getattr(options, "all", False),
        )
        if sum(map(bool, (selection.numbers, selection.ids, selection.codes, selection.everything))) != 1:
            ways = "a number, --id, --code or --all" if hasattr(options, "all") else "a number or --id"
            raise ValueError(f"say which letters: {ways}, one of these")
        return selection

    def __contains__(self, letter: "DeadLetter") -> bool:
        return (
            self.everything
            or letter.number in self.numbers
            or letter.message.message_id in self.ids
            or letter.code in self.codes
        )

    def ends_at(self, letter: "DeadLetter") -> bool:
        """Whether none of those behind this one is meant."""
        return bool(self.numbers) and letter.number >= max(self.numbers)


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    dlq = commands.add_parser(
        "dlq",
        help="look at messages that could not be sent, send them again, or drop them",
        description="Letters that are looked at stay, in their order. While a command runs it holds those that it has "
        "seen: another one at the same time does not see them, and the order of what both have seen may change.",
    )
    verbs = dlq.add_subparsers(required=True, metavar="VERB")
    listing = _add_verb(verbs, "list", _list, "a line for each, from the oldest", limit=100)
    listing.add_argument("--json", action="store_true", help="a JSON object for each")
    show = _add_verb(verbs, "show", _show, "one of them whole", limit=1_000)
    _add_selection(show, one=True)
    show.add_argument("--body", action="store_true", help="write its body, as it is, and nothing else")
    replay = _add_verb(verbs, "replay", _replay, "send again, and take out once the broker has them", limit=1_000)
    _add_selection(replay)
    drop = _add_verb(verbs, "drop", _drop, "take out for good", limit=1_000)
    _add_selection(drop)
    drop.add_argument("--yes", action="store_true", help="do not ask")


def _add_verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, verb: Verb, text: str, *, limit: int
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text)
    parser.set_defaults(command=lambda options: _dlq(verb, options))
    parser.add_argument("--amqp", metavar="URL", help="of RabbitMQ; default: that of the settings in the environment")
    parser.add_argument("--prefix", help="begins the names of the queues; default: as NOTIFIER_BROKER__PREFIX")
    parser.add_argument(
        "--limit",
        type=_count,
        default=limit,
        metavar="N",
        help=f"look at N that stay, at most; default {limit}",
    )
    return parser


def _add_selection(parser: argparse.ArgumentParser, *, one: bool = False) -> None:
    numbers: dict[str, Any] = {"nargs": "?" if one else "*", "type": _count, "metavar": "N"}
    parser.add_argument("numbers", help="as in the list, where 1 is the oldest", **numbers)
    parser.add_argument(
        "--id", dest="ids", metavar="ID", action="append", default=[], help="by message id; may be repeated"
    )
    if not one:
        parser.add_argument("--code", dest="codes", metavar="CODE", action="append", default=[], help="all with it")
        parser.add_argument("--all", action="store_true", help="every one that is there now")


def _count(text: str) -> int:
    if not (number := int(text)) > 0:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _dlq(verb: Verb, options: argparse.Namespace) -> int:
    from notifier.broker.connection import BrokerError
    from notifier.settings import SettingsError

    logging.basicConfig(level=logging.CRITICAL)  # Libraries tell of refusals too, at length.
    try:
        url, prefix = _target(options)
        if hasattr(options, "numbers"):
            Selection.of(options)  # Better said before anybody is asked.
        if getattr(options, "yes", True) or _is_sure():
            return asyncio.run(_run(verb, options, url, prefix))
        return fail("nothing was dropped")
    except SettingsError as error:
        return fail(*error.problems, "or say where the queue is: --amqp amqp://…", code=2)
    except ValueError as error:
        return fail(str(error), code=2)
    except BrokerError as error:
        return fail(str(error))


def _target(options: argparse.Namespace) -> tuple[str, str]:
    """The URL and the prefix. Raises SettingsError, or ValueError for what was given."""
    if options.amqp is None:
        from notifier.settings import read_settings

        settings = read_settings()
        if settings.queue_url is None:
            raise ValueError("the settings name no queue: say where it is, --amqp amqp://…")
        return settings.queue_url, options.prefix or settings.broker.prefix
    if urlsplit(options.amqp).scheme not in ("amqp", "amqps") or not urlsplit(options.amqp).hostname:
        raise ValueError("--amqp takes amqp:// or amqps:// and a host")
    return options.amqp, options.prefix or os.environ.get("NOTIFIER_BROKER__PREFIX") or DEFAULT_PREFIX


def _is_sure() -> bool:
    if not sys.stdin.isatty():
        raise ValueError("drop is for good: --yes where nobody can be asked")
    return input("Drop these dead letters for good? [y/N] ").strip().lower() in ("y", "yes")


async def _run(verb: Verb, options: argparse.Namespace, url: str, prefix: str) -> int:
    from notifier.broker.lenient import LenientBroker
    from notifier.broker.topology import Names
    from notifier.ingress.dead_letters import DeadLetters

    broker = LenientBroker(url, name="notifier/dlq")
    async with broker.connect("read") as reading, broker.connect("write") as writing:
        letters = DeadLetters(reading, writing, Names(prefix))
        code = await reading.run(verb(letters, options))
        await letters.settle()
        return code


# -- verbs -------------------------------------------------------------------------------------------------------------


async def _list(letters: "DeadLetters", options: argparse.Namespace) -> int:
    seen = 0
    async with aclosing(letters.read(limit=options.limit)) as reading:
        async for letter in reading:
            if not seen and not options.json:
                print(f"{'N':>4}  {'message id':<36}  {'routing key':<24}  {'code':<26}  {'age':>5}  {'bytes':>8}")
            print(_as_json(letter) if options.json else _line(letter))
            seen += 1
    if seen < letters.waiting:
        print(f"{seen} of {letters.waiting}; --limit shows more", file=sys.stderr)
    elif not seen and not options.json:
        print("there are no dead letters")
    return 0


async def _show(letters: "DeadLetters", options: argparse.Namespace) -> int:
    async with aclosing(_selected(letters, options)) as selected:
        async for letter in selected:
            _show_body(letter) if options.body else print("\n".join(_whole(letter)))
            return 0
    return _none(letters, options)


async def _replay(letters: "DeadLetters", options: argparse.Namespace) -> int:
    from notifier.ingress.dead_letters import NotReplayed

    replayed = refused = 0
    async with aclosing(_selected(letters, options)) as selected:
        async for letter in selected:
            try:
                left_out = await letters.replay(letter)
            except NotReplayed as error:
                refused += 1
                print(f"not replayed: {_name(letter)}: {error}", file=sys.stderr)
            else:
                replayed += 1
                print(
                    f"replayed: {_name(letter)}" + (f", without the headers {', '.join(left_out)}" if left_out else "")
                )
    if not replayed and not refused:
        return _none(letters, options)
    return 1 if refused else 0


async def _drop(letters: "DeadLetters", options: argparse.Namespace) -> int:
    dropped = 0
    async with aclosing(_selected(letters, options)) as selected:
        async for letter in selected:
            await letters.drop(letter)
            dropped += 1
            print(f"dropped: {_name(letter)}")
    return 0 if dropped else _none(letters, options)


async def _selected(letters: "DeadLetters", options: argparse.Namespace) -> AsyncGenerator["DeadLetter", None]:
    selection = Selection.of(options)
    async with aclosing(letters.read(limit=options.limit)) as reading:
        async for letter in reading:
            if letter in selection:
                yield letter
            if selection.ends_at(letter):
                return


def _none(letters: "DeadLetters", options: argparse.Namespace) -> int:
    more = f"; of {letters.waiting} the first {options.limit} were looked at, --limit looks at more"
    return fail("there is no such dead letter" + (more if letters.waiting > options.limit else ""))


# -- in words ----------------------------------------------------------------------------------------------------------


def _line(letter: "DeadLetter") -> str:
    message = letter.message
    code = UNDECODABLE if letter.flaw else letter.code
    return (
        f"{letter.number:>4}  {_safe(message.message_id or '-'):<36}  {_safe(message.routing_key or '-'):<24}  "
        f"{_safe(code):<26}  {_age(letter.age):>5}  {len(message.body):>8}"
    )


def _as_json(letter: "DeadLetter") -> str:
    age = letter.age
    fields = {
        "number": letter.number,
        "message_id": letter.message.message_id,
        "routing_key": letter.message.routing_key,
        "code": letter.code,
        "error": letter.detail,
        "undecodable": letter.flaw,
        "age_seconds": None if age is None else int(age.total_seconds()),
        "bytes": len(letter.message.body),
    }
    return json.dumps(fields, ensure_ascii=True)


def _whole(letter: "DeadLetter") -> list[str]:
    message = letter.message
    names = ("message_id", "routing_key", "content_type", "content_encoding", "correlation_id", "user_id", "app_id")
    properties = {name.replace("_", " "): getattr(message, name) for name in (*names, "type", "timestamp")}
    facts = {
        "number": letter.number,
        UNDECODABLE: letter.flaw,
        "code": letter.code,
        "error": letter.detail,
        "died at": letter.died_at,
        **properties,
        "bytes": len(message.body),
    }
    lines = [f"{name + ':':<18} {_safe(str(value))}" for name, value in facts.items() if value not in (None, "")]
    lines += [f"{'header:':<18} {_safe(name)}: {_safe(str(value))}" for name, value in sorted(message.headers.items())]
    cut = f"\n… {len(message.body) - SHOWN_BYTES} more bytes; --body writes all"
    return [*lines, "", _text(message.body[:SHOWN_BYTES]) + (cut if len(message.body) > SHOWN_BYTES else "")]


def _show_body(letter: "DeadLetter") -> None:
    sys.stdout.buffer.write(letter.message.body)


def _name(letter: "DeadLetter") -> str:
    return f"{letter.number} {_safe(letter.message.message_id or '-')}"


def _age(age: timedelta | None) -> str:
    if age is None:
        return "-"
    seconds = max(0, int(age.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _text(body: bytes) -> str:
    return "\n".join(map(_safe, body.decode(errors="backslashreplace").split("\n")))


def _safe(text: str) -> str:
    """Without what a terminal would act on: senders write these."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
