"""What was said in a conversation with the service, line by line, and what backends do meanwhile.

A line that begins with `>` is the client's, with `<` the service's; the rest says what happened around them.
"""

import json
import re
from typing import Any, Final
from urllib.parse import urlencode

import httpx

from tests.replica import Replica
from tests.service.client import Client
from tests.tokens import bearer

_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# Of a token's life. Long enough for the notice, in the last 10 to 25 % of it, to be ahead of the end by some ticks.
SHORT_SECONDS: Final = 8


class Flow:
    """What was said in one conversation so far."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(_TOKEN.sub("eyJ…", text))

    async def say(self, client: Client, **frame: Any) -> None:
        self.note(f"> {json.dumps(frame)}")
        await client.say(**frame)

    async def hear(self, client: Client, kind: str) -> dict[str, Any]:
        frame = await client.frame(kind)
        self.note(f"< {json.dumps(frame)}")
        return frame

    def connected(self, client: Client, **query: str) -> None:
        self.note(f"> connect /ws{'?' if query else ''}{urlencode(query)}")
        self.note(f"< {json.dumps(client.welcome)}")

    def closed(self, code: int, reason: str) -> None:
        self.note(f"< close {code} {reason}")


async def send(replica: Replica, *, everywhere: Flow | None = None, **notification: Any) -> None:
    """Send it, and note that in the flow."""
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer(), verify=False) as backend:
        body = {"type": "order.shipped", **notification}
        answer = await backend.post("/notify", json=body)
    assert answer.status_code == 202, answer.text
    if everywhere is not None:
        everywhere.note(f"(a backend sends {json.dumps(body)})")


async def revoke(flow: Flow, replica: Replica, user: str) -> None:
    may_revoke = bearer("security", scopes=["notify:revoke"])
    async with httpx.AsyncClient(base_url=replica.url, headers=may_revoke, verify=False) as backend:
        assert (await backend.post("/revocations", json={"user": user})).status_code == 202
    flow.note(f"(a backend posts {json.dumps({'user': user})} to /revocations)")
