"""`notifier listen`: prints what arrives, one JSON object per line, reconnects and resumes."""

import argparse
import asyncio
import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from notifier.commands.failure import fail
from notifier.commands.target import add_target, given_tls, given_token

if TYPE_CHECKING:
    import ssl

    from notifier.clients.listen import Transport


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    listen = commands.add_parser("listen", help="print what arrives, one JSON object per line; reconnect and resume")
    listen.set_defaults(command=_listen)
    add_target(listen)
    listen.add_argument("--topic", action="append", default=[], help="subscribe to it; may be repeated")
    listen.add_argument("--role", action="append", default=[], help="a role of the development token")
    listen.add_argument("--position", help="resume from it, or earliest")
    listen.add_argument("--sse", action="store_true", help="by a stream of events, where WebSockets are blocked")
    listen.add_argument("--all", action="store_true", help="print every frame, not only notifications")


def _listen(options: argparse.Namespace) -> int:
    from notifier.clients.listen import Listener
    from notifier.clients.sessions import Refused

    try:
        tls = given_tls(options)
        given = given_token(options, [])
    except ValueError as error:
        return fail(str(error), code=2)
    listener = Listener(
        options.url,
        # A development token is minted anew for each attempt, so that a night of listening does not end at its expiry.
        (lambda: given) if options.token else (lambda: given_token(options, [])),
        topics=options.topic,
        position=options.position,
        transport=_transport(tls, is_stream=options.sse),
    )

    async def run() -> None:
        async for frame in listener:
            if frame["type"] == "notification":
                print(json.dumps(frame["notification"], ensure_ascii=False), flush=True)
            elif options.all:
                print(json.dumps(frame, ensure_ascii=False), flush=True)
            elif frame["type"] in ("welcome", "disconnected"):
                print(_said(frame, options.url), file=sys.stderr, flush=True)

    try:
        asyncio.run(run())
    except (Refused, ValueError) as error:
        return fail(str(error))
    return 0


def _transport(tls: "ssl.SSLContext | None", *, is_stream: bool) -> "Transport":
    """A stream is there in the base install; a WebSocket is not."""
    if is_stream:
        from notifier.clients.event_stream import event_stream

        return partial(event_stream, tls=tls)
    from notifier.clients.socket import socket

    return partial(socket, tls=tls)


def _said(frame: dict[str, Any], url: str) -> str:
    if frame["type"] == "disconnected":
        return f"{url}: {frame['reason']}; trying again in {frame['after_ms'] / 1000:.1f} s"
    return f"{url}: listening as {frame['user']} of {frame['tenant']} ({frame['resume']['status']})"
