"""The Python client of notifier: `Notifier` sends over HTTP, and needs httpx alone.

async with Notifier("https://push.example.com", token=token) as notifier:
    await notifier.send(to=users("alice"), type="order.shipped", title="On its way")
"""

from notifier.clients.addressing import Audience, everyone, roles, topics, users
from notifier.clients.credentials import ClientCredentials
from notifier.clients.errors import (
    Forbidden,
    Invalid,
    KeyReused,
    NotSent,
    RateLimited,
    Refused,
    Unauthenticated,
    Unconfirmed,
    Violation,
)
from notifier.clients.notification import Notification, Sent
from notifier.clients.sender import Notifier, SyncNotifier

__all__ = [
    "Audience",
    "ClientCredentials",
    "Forbidden",
    "Invalid",
    "KeyReused",
    "NotSent",
    "Notification",
    "Notifier",
    "RateLimited",
    "Refused",
    "Sent",
    "SyncNotifier",
    "Unauthenticated",
    "Unconfirmed",
    "Violation",
    "everyone",
    "roles",
    "topics",
    "users",
]
