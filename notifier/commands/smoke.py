"""`notifier smoke`: opens a session, sends to it, and sees it arrive: whether an installation works, in one line."""

import argparse
import asyncio
import secrets
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from notifier.commands.failure import fail
from notifier.commands.target import add_url, given_tls

if TYPE_CHECKING:
    import ssl

TYPE: Final = "notifier-cli.smoke"
POST_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 0.5
TTL_SECONDS: Final = 60
# What an installation that starts, drains or has lost its broker says; all else is an answer.
PASSING: Final = frozenset({429, 502, 503, 504})


class SmokeFailed(Exception):
    """It does not work; the text says where it ended."""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    smoke = commands.add_parser("smoke", help="open a session, send, and see it arrive; exit with 1 when it does not")
    smoke.set_defaults(command=_smoke)
    add_url(smoke)
    smoke.add_argument("--token-file", type=Path, help="a token with notify:send; default: a development token")
    smoke.add_argument("--within-seconds", type=float, default=30.0, help="give up after it; default 30")


def _smoke(options: argparse.Namespace) -> int:
    try:
        token = options.token_file.read_text().strip() if options.token_file else _development_token()
    except OSError as error:
        return fail(f"--token-file: {error}", code=2)
    try:
        tls = given_tls(options)
    except ValueError as error:
        return fail(str(error), code=2)
    try:
        print(asyncio.run(_Attempt(options.url, token, tls).run(within_seconds=options.within_seconds)))
    except SmokeFailed as error:
        return fail(f"{options.url}: {error}")
    return 0


class _Attempt:
    """One notification to the bearer of the token itself."""

    def __init__(self, url: str, token: str, tls: "ssl.SSLContext | None") -> None:
        self._url = url
        self._token = token
        self._tls = tls
        self._mark = secrets.token_hex(8)  # Another attempt may send to the same user.
        self._last = "nothing has answered"  # What a failure has to tell: how far it came.

    async def run(self, *, within_seconds: float) -> str:
        """Try until it works. Returns a sentence; raises SmokeFailed at a refusal, and when the time is up."""
        from notifier.clients.errors import Unauthenticated
        from notifier.clients.sessions import Refused

        try:
            async with asyncio.timeout(within_seconds):
                return await self._send_and_receive()
        except TimeoutError:
            raise SmokeFailed(f"not within {within_seconds:g} seconds; at last {self._last}") from None
        except (Refused, Unauthenticated, ValueError) as error:
            raise SmokeFailed(str(error)) from error

    async def _send_and_receive(self) -> str:
        from notifier.clients.listen import Listener
        from notifier.clients.socket import socket

        bearer, sent_at = "", None
        async for frame in Listener(self._url, self._token, transport=partial(socket, tls=self._tls)):
            if frame["type"] == "disconnected":
                self._last = f"no session was open: {frame['reason']}"
            elif frame["type"] == "welcome" and sent_at is None:
                bearer = f"{frame['user']} of {frame['tenant']}"
                # What arrives meanwhile waits in the connection.
                sent_at = await self._send(frame["user"])
                self._last = "it was accepted, and did not arrive"
            elif frame["type"] == "notification" and frame["notification"].get("data") == {"mark": self._mark}:
                assert sent_at is not None
                return f"sent to {bearer}, arrived after {(time.monotonic() - sent_at) * 1000:.0f} ms"
        raise AssertionError("a listener ends by an error only")

    async def _send(self, user: str) -> float:
        """Send until it is accepted. Returns when that request began; raises SmokeFailed at a refusal."""
        import httpx

        from notifier.clients.tls import told

        body = {"to": {"users": [user]}, "type": TYPE, "data": {"mark": self._mark}, "ttl_seconds": TTL_SECONDS}
        headers = {"Authorization": f"Bearer {self._token}"}
        async with httpx.AsyncClient(timeout=POST_SECONDS, verify=self._tls or True) as client:
            while True:
                began = time.monotonic()
                try:
                    answer = await client.post(f"{self._url}/notify", json=body, headers=headers)
                except httpx.TransportError as error:
                    self._last = f"the POST failed: {told(error)}"
                else:
                    if answer.status_code == 202:
                        return began
                    self._last = f"the POST was answered with {answer.status_code}: {answer.text}"
                    if answer.status_code not in PASSING:
                        raise SmokeFailed(self._last)
                await asyncio.sleep(RETRY_SECONDS)


def _development_token() -> str:
    from notifier.trust import development_token

    return development_token(user="smoke", scopes=["notify:send"])
