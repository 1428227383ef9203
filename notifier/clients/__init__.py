"""The Python client of notifier, on httpx alone: `Notifier` sends, `listen` receives.

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
from notifier.clients.listen import Listener, listen
from notifier.clients.notification import Notification, Sent
from notifier.clients.sender import Notifier, SyncNotifier

__all__ = [
    "Audience",
    "ClientCredentials",
    "Forbidden",
    "Invalid",
    "KeyReused",
    "Listener",
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
    "listen",
    "roles",
    "topics",
    "users",
]
