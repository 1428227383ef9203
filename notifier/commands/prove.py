"""`notifier prove`: sends a load through a running service, and proves by a ledger that nothing of it was lost."""

import argparse
import asyncio
import json
import logging
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from notifier.commands.failure import fail
from notifier.commands.target import DEFAULT_URL, add_ca_file, given_tls

if TYPE_CHECKING:
    from notifier.clients.prove.proof import Proof
    from notifier.clients.prove.verdict import Verdict

TOKEN_SECONDS: Final = 30.0
SHOWN: Final = 5
MINTED_SENDERS: Final = 4  # Each has limits of its own. Where tokens are given, one caller has to do.
TokenOf = Callable[[str], str]


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    prove = commands.add_parser(
        "prove",
        help="send a load, and prove that all of it arrived, in order and once",
        description="Opens sessions, sends, and holds every accepted notification against everything that every "
        "session received, over reconnects too. Ends with 1 when anything was lost, unexpected, out of order or "
        "repeated. Kill what you like meanwhile.",
    )
    prove.set_defaults(command=_prove)
    prove.add_argument("--url", action="append", help=f"of a replica; may be repeated; default {DEFAULT_URL}")
    add_ca_file(prove)
    prove.add_argument("--amqp", metavar="URL", help="send half through the request queue of this RabbitMQ")
    prove.add_argument(
        "--prefix",
        default=os.environ.get("NOTIFIER_BROKER__PREFIX") or "notifier",
        help="begins the names of the queues, as NOTIFIER_BROKER__PREFIX",
    )
    prove.add_argument("--sessions", type=_count, default=100)
    prove.add_argument("--users", type=_count, help="whose sessions these are; default: one for each session")
    prove.add_argument("--rate", type=_positive, default=100.0, help="notifications per second in total")
    prove.add_argument("--seconds", type=_positive, default=10.0, help="how long to send")
    prove.add_argument("--settle-seconds", type=_positive, default=30.0, help="then wait so long for what is missing")
    prove.add_argument("--broadcast-share", type=_share, default=0.01, help="how much goes to everyone; default 0.01")
    prove.add_argument("--topic-share", type=_share, default=0.1, help="how much goes to a topic; default 0.1")
    prove.add_argument("--topic", action="append", help="subscribe to this one, and send to it; may be repeated")
    prove.add_argument("--json", action="store_true", help="print the verdict as JSON")
    _add_token_options(prove)


def _add_token_options(prove: argparse.ArgumentParser) -> None:
    tokens = prove.add_argument_group("tokens", "development tokens, unless one of these says otherwise")
    source = tokens.add_mutually_exclusive_group()
    source.add_argument("--token", help="one token for sessions and senders; - reads it from standard input")
    source.add_argument("--token-command", metavar="COMMAND", help="prints a token for {user}, senders' tokens too")
    source.add_argument("--key-file", type=Path, help="mint with this secret, or private key in PEM")
    tokens.add_argument("--issuer")
    tokens.add_argument("--audience")
    tokens.add_argument("--algorithm", default="HS256")
    tokens.add_argument("--tenant")


def _prove(options: argparse.Namespace) -> int:
    from notifier.clients.prove.proof import Proof, ProofFailed

    logging.basicConfig(level=logging.CRITICAL)  # Libraries tell of every lost connection, and so does the verdict.
    try:
        _check(options)
        session_token, sender_token = _tokens(options)
        session_token("prove-try")  # What is wrong with it is better said now and once than by every session.
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            proof = Proof(
                urls=options.url or [DEFAULT_URL],
                session_token=session_token,
                sender_token=sender_token,
                sessions=options.sessions,
                users=options.users,
                rate=options.rate,
                seconds=options.seconds,
                topics=options.topic,
                topic_share=options.topic_share,
                broadcast_share=options.broadcast_share,
                amqp_url=options.amqp,
                prefix=options.prefix,
                tls=given_tls(options),
                senders=1 if options.token or options.token_command else MINTED_SENDERS,
            )
            verdict = runner.run(_run(proof, options.settle_seconds))
    except ValueError as error:
        return fail(str(error), code=2)
    except (OSError, ProofFailed) as error:
        return fail(str(error))
    print(json.dumps(verdict.as_json()) if options.json else "\n".join(_lines(verdict)))
    return 0 if verdict.is_clean else 1


async def _run(proof: "Proof", settle_seconds: float) -> "Verdict":
    async with proof:
        print(f"{proof.live} sessions are open; sending {proof.load.left} ...", file=sys.stderr)
        await proof.all_sent(within_seconds=sys.maxsize)
        print("all is sent; waiting until everybody has everything ...", file=sys.stderr)
        await proof.settle(within_seconds=settle_seconds)
        return proof.verdict()


def _check(options: argparse.Namespace) -> None:
    """Raise ValueError for what argparse cannot judge."""
    for url in options.url or []:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError(f"--url takes http:// or https:// and a host, not {url}")
    if options.amqp and urlsplit(options.amqp).scheme not in ("amqp", "amqps"):
        raise ValueError("--amqp takes amqp:// or amqps:// and a host")
    if options.topic_share + options.broadcast_share > 1:
        raise ValueError("--topic-share and --broadcast-share are shares of one whole")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed: it halves what a frame costs. None for asyncio's."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop


def _tokens(options: argparse.Namespace) -> tuple[TokenOf, TokenOf]:
    """From a user to the token of a session, and of a sender."""
    if options.token is not None:
        given = sys.stdin.read().strip() if options.token == "-" else options.token
        return (lambda _: given), (lambda _: given)
    if options.token_command:
        ask = partial(_ask, shlex.split(options.token_command))
        return ask, ask
    mint = _minting(options)
    scopes = ["notify:send", "notify:broadcast"] if options.broadcast_share else ["notify:send"]
    return (lambda user: mint(user=user, topics=["#"])), (lambda user: mint(user=user, scopes=scopes))


def _minting(options: argparse.Namespace) -> Callable[..., str]:
    from notifier.access.development import mint
    from notifier.settings import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER, DEVELOPMENT_SECRET

    try:
        key = options.key_file.read_text().strip() if options.key_file else DEVELOPMENT_SECRET
    except OSError as error:
        raise ValueError(f"--key-file: {error}") from error
    return partial(
        mint,
        issuer=options.issuer or DEVELOPMENT_ISSUER,
        audience=options.audience or DEVELOPMENT_AUDIENCE,
        key=key,
        algorithm=options.algorithm,
        tenant=options.tenant,
    )


def _ask(command: Sequence[str], user: str) -> str:
    """Run the token command for a user. Raises OSError when it fails."""
    words = [word.replace("{user}", user) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TOKEN_SECONDS, check=True)  # noqa: S603
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or "").strip()
        raise OSError(f"the token command failed: {said or error}") from error
    return done.stdout.strip()


def _lines(verdict: "Verdict") -> list[str]:
    """The verdict for people: a line for each figure, then the first of what is wrong."""
    offences = {
        "lost": verdict.lost,
        "unexpected": verdict.unexpected,
        "out of order": verdict.out_of_order,
        "repeated": verdict.repeated,
    }
    latency, absences = verdict.latency_ms, _counted(verdict.closes)
    figures = [
        ("sessions", f"{verdict.sessions}; closes: {absences}; longest absence {verdict.longest_absence_seconds} s"),
        ("sent", f"{verdict.sent}: {verdict.accepted} accepted, {verdict.refused} refused, {verdict.unknown} unknown"),
        ("retried", _counted(verdict.retries)),
        ("received", f"{verdict.receipts}, of them {verdict.redelivered} again, dropped by their id"),
        *((name, str(tally.count)) for name, tally in offences.items()),
        ("resets", f"{verdict.resets}, with {verdict.reset_gaps.count} not received that they may have been about"),
        ("p50", f"{latency.p50} ms"),
        ("p99", f"{latency.p99} ms; at most {latency.longest} ms"),
    ]
    lines = [f"{name:<13}{figure}" for name, figure in figures]
    if verdict.unknown:
        lines.append(f"Of unknown outcome {verdict.arrived_unknown} arrived, which is as good as not.")
    lines += [f"Nothing was accepted by {door}." for door in verdict.shut]
    if verdict.silent:
        lines.append(f"{verdict.silent} sessions never opened.")
    if not verdict.accepted:
        lines.append("Nothing was accepted, so nothing is proven.")
    shown = {**offences, "reset gap": verdict.reset_gaps, "refused": verdict.refusals}
    return lines + [f"{name}: {words}" for name, tally in shown.items() for words in tally.first[:SHOWN]]


def _counted(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in counts.items()) or "none"


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no number of at least 1")
    return int(text)


def _positive(text: str) -> float:
    if not 0 < (number := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not over 0")
    return number


def _share(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return number
