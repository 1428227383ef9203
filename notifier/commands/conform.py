"""`notifier conform`: holds a running server against the protocol `notifier.v1`, rule by rule."""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from notifier.commands.failure import fail
from notifier.commands.target import add_url, given_tls

if TYPE_CHECKING:
    from notifier.clients.conform.check import Check
    from notifier.clients.conform.run import Result
    from notifier.clients.conform.target import Objections, Target

REACH_SECONDS: Final = 10.0


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    conform = commands.add_parser(
        "conform",
        help="hold a server of notifier.v1 against the protocol, rule by rule",
        description="Prints a line for each rule: ok, FAILED with what was expected and what came, or skipped with the "
        "reason; then a summary. Ends with 1 when a rule is broken. The user of the token should hear nothing else "
        "meanwhile. What it does not try is in docs/protocol.md.",
    )
    conform.set_defaults(command=_conform)
    add_url(conform)
    tokens = conform.add_mutually_exclusive_group()
    tokens.add_argument("--token-file", type=Path, metavar="FILE", help="the token of a user, for the sessions")
    tokens.add_argument("--insecure-development", action="store_true", help="mint tokens with the development keys")
    conform.add_argument("--sender-token-file", type=Path, metavar="FILE", help="one with notify:send, same tenant")
    conform.add_argument("--origin", help="of pages that the server lets in, such as https://app.example.com")
    conform.add_argument(
        "--topic", default="conform", help="one that the token allows and nobody else hears; default conform"
    )
    conform.add_argument("--frame-limit-bytes", type=int, default=16_384, help="of a client's frame; default 16384")
    conform.add_argument("--within-seconds", type=float, default=300.0, help="for all together; default 300")
    conform.add_argument("--only", action="append", metavar="NAME", help="try this rule alone; may be repeated")
    conform.add_argument("--list", action="store_true", help="print the rules and where they stand, and try none")


def _conform(options: argparse.Namespace) -> int:
    from notifier.clients.conform.run import CHECKS, hold

    if unknown := set(options.only or ()) - {check.name for check in CHECKS}:
        return fail(f"--only: there is no rule {', '.join(sorted(unknown))}; --list has them", code=2)
    checks = [check for check in CHECKS if not options.only or check.name in options.only]
    if options.list:
        print("\n".join(_line(check) for check in checks))
        return 0
    try:
        target = _target(options)
        _reach(target)
    except ValueError as error:
        return fail(str(error), code=2)
    except OSError as error:
        return fail(str(error))
    began = time.monotonic()
    results = asyncio.run(hold(target, checks, within_seconds=options.within_seconds, report=_report))
    verdicts = Counter(result.verdict for result in results)
    print(
        f"{len(results)} rules: {verdicts['ok']} ok, {verdicts['FAILED']} FAILED, {verdicts['skipped']} skipped, "
        f"in {time.monotonic() - began:.1f} s"
    )
    return 1 if verdicts["FAILED"] or not verdicts["ok"] else 0


def _target(options: argparse.Namespace) -> "Target":
    """Raises ValueError for what argparse cannot judge, and for files that cannot be read."""
    from notifier.clients.conform.target import Target

    parts = urlsplit(options.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--url takes http:// or https:// and a host, not {options.url}")
    given: dict[str, Any] = {
        "url": options.url.rstrip("/"),
        "tls": given_tls(options),
        "objections": _objections(),
        "origin": options.origin,
        "topic": options.topic,
        "frame_limit_bytes": options.frame_limit_bytes,
    }
    sender_token = _read("--sender-token-file", options.sender_token_file)
    if options.token_file is not None:
        return Target(token=_read("--token-file", options.token_file) or "", sender_token=sender_token, **given)
    if not options.insecure_development:
        raise ValueError("say --token-file, or --insecure-development for the keys of a server in insecure mode")
    from notifier.trust import development_token

    mint = partial(development_token, topics=["#"])
    sender_token = sender_token or mint(user="conform-sender", scopes=["notify:send"])
    return Target(token=mint(user="conform"), sender_token=sender_token, mint=mint, **given)


def _read(option: str, file: Path | None) -> str | None:
    try:
        return None if file is None else file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{option}: {error}") from error


def _reach(target: "Target") -> None:
    """See that there is something to be held against the rules.

    Raises OSError where nothing answers, or with TLS what was asked without; ValueError for no URL.
    """
    import httpx

    from notifier.clients.tls import told

    try:
        answer = httpx.get(f"{target.url}/ws", timeout=REACH_SECONDS, verify=target.tls or True)
    except httpx.TransportError as error:
        raise OSError(f"{target.url}: {told(error)}") from error
    except httpx.InvalidURL as error:
        raise ValueError(f"--url: {error}") from error
    # So say nginx, Apache and Go's server where TLS is expected.
    if target.url.startswith("http:") and answer.status_code == 400 and "HTTPS" in answer.text:
        raise OSError(f"{target.url}: it speaks TLS there: https:// in place of http://")


def _objections() -> "Objections":
    """What the models of openapi/asyncapi.yaml have against a frame."""
    from typing import get_args

    from pydantic import ValidationError

    from notifier.transports.messages import FROM_SERVICE

    models = {get_args(model.model_fields["type"].annotation)[0]: model for model in FROM_SERVICE}

    def objections(frame: Mapping[str, Any]) -> Sequence[str]:
        model = models.get(frame["type"])
        if model is None:
            return []
        try:
            model.model_validate(frame, strict=True)
        except ValidationError as error:
            return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        return []

    return objections


def _report(result: "Result") -> None:
    words = f": {result.words}" if result.words else ""
    print(f"{result.verdict:<7}  {_line(result.check)}{words}", flush=True)


def _line(check: "Check") -> str:
    return f"{check.name}: {check.claim} [{check.source}]"
