"""The requests that the load posts, and the tokens of those who take part."""

import json
from functools import cache
from typing import Any, Final

from tests.tokens import token

MARKER: Final = "@@T" + "0" * 19
"""The load writes the number of the message here, and finds it again in what sessions receive."""

NOTIFICATION_BYTES: Final = 202  # Size of the JSON of one notification, as in the comparison with other servers.
BATCH_ITEMS: Final = 1_000
TEXT: Final = (
    "Your order left our warehouse in Rotterdam this morning, and will reach you tomorrow between nine and noon. "
    "Somebody has to be at home to sign for it; call us when that does not suit you."
)
"""What people are told; compression makes of it what it makes of text, and not of one letter."""


def session_tokens(count: int) -> list[str]:
    """One token for each of `user-0`, `user-1`, and so on."""
    return [_session_token(number) for number in range(count)]


@cache
def _session_token(number: int) -> str:
    # Lives longer than any run: the server tells a session when its token is about to end.
    return token(f"user-{number}", roles=["member"], topics=["orders.#"], lifetime_seconds=8 * 3_600)


def one_notification(to: dict[str, Any]) -> bytes:
    """A request with one notification."""
    return _request("/notify", _notification(to, MARKER))


def batch_to_users() -> bytes:
    """A request with a notification to each of 1,000 users, of whom `user-0` comes first."""
    items = [
        _notification({"users": [f"user-{number}"]}, MARKER if number == 0 else "-" * len(MARKER))
        for number in range(BATCH_ITEMS)
    ]
    return _request("/notify/batch", f"[{','.join(items)}]")


def _notification(to: dict[str, Any], title: str) -> str:
    fields = {"to": to, "type": "order.shipped", "title": title, "link": "/orders/1234", "body": ""}
    padding = NOTIFICATION_BYTES - len(json.dumps(fields, separators=(",", ":")))
    return json.dumps(fields | {"body": TEXT[:padding]}, separators=(",", ":"))


def _request(path: str, body: str) -> bytes:
    sender = token("backend", scopes=["notify:send", "notify:broadcast"])
    head = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {sender}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, "", body]).encode()
