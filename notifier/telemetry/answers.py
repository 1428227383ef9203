"""Answers of one replica to "Did Alice get it?": what it knows of sessions, and of a notification for a user."""

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from notifier.core.audience import EVERYONE, Address
from notifier.core.envelope import Envelope
from notifier.core.hub import Hub
from notifier.core.identity import Tenant
from notifier.core.notification import rfc3339
from notifier.core.stays import Stay
from notifier.core.window import Entry, Window
from notifier.telemetry.fates import Fate, fate_of


class Answers:
    """Looks at one replica, and changes nothing. Times are RFC 3339; a time that is not known is None.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, hub: Hub, window: Window, *, clock: Callable[[], float] = time.time) -> None:
        self._hub = hub
        self._window = window
        self._clock = clock
        self._replica = platform.node()

    def sessions(self, tenant: str | None, user: str | None) -> Iterator[Mapping[str, Any]]:
        """The sessions open here, of one tenant and user if these are given. Those that end meanwhile are left out."""
        named = self._hub if tenant is None or user is None else self._hub.sessions_of(Tenant(tenant), user)
        for session in named:
            identity = session.identity
            is_meant = tenant in (None, identity.tenant) and user in (None, identity.user)
            if is_meant and session in self._hub:
                yield self._describe(self._hub.stay_of(session))

    def notification(self, notification_id: str, tenant: str, user: str | None) -> Mapping[str, Any]:
        """What is known of a notification; with a user, what became of it for each session of theirs here."""
        found: dict[str, Any] = {
            "replica": self._replica,
            "id": notification_id,
            "tenant": tenant,
            "tail": str(self._window.tail),
            "remembers_closed_since": rfc3339(self._hub.departed.since_ms),
            "available_since": rfc3339(self._window.available_since_ms(Tenant(tenant))),
        }
        stays = [] if user is None else self._stays(Tenant(tenant), user)
        entry = self._window.find(Tenant(tenant), notification_id)
        if entry is None:
            found |= {"in_window": False, "other_tenant": self._window.tenant_with(notification_id)}
            fates: list[dict[str, Any]] = [{} for _ in stays]
        else:
            found |= {"in_window": True, **self._describe_entry(entry)}
            fates = [self._describe_fate(entry, stay) for stay in stays]
        if user is not None:
            found["user"] = user
            found["sessions"] = [self._describe(stay) | fate for stay, fate in zip(stays, fates, strict=True)]
            if entry is not None:
                found |= self._describe_user(entry.envelope, user)
        return found

    def _stays(self, tenant: Tenant, user: str) -> list[Stay]:
        """The user's sessions here: the open ones, then those that were closed, the newest first."""
        gone = [stay for stay in self._hub.departed if (stay.identity.tenant, stay.identity.user) == (tenant, user)]
        return [self._hub.stay_of(session) for session in self._hub.sessions_of(tenant, user)] + gone

    def _describe_entry(self, entry: Entry) -> dict[str, Any]:
        position, envelope = entry
        include = envelope.audience.include
        return {
            "position": str(position),
            "accepted_at": rfc3339(envelope.accepted_at_ms),
            "read_by": _time(self._hub.trail.written_by_ms(position)),
            "expires_at": rfc3339(envelope.expires_at_ms),
            "expired": envelope.expires_at_ms <= self._now_ms(),
            "collapse_key": envelope.collapse_key,
            "audience": {
                "everyone": envelope.audience.everyone,
                "users": sum(kind == "user" for kind, _ in include),
                "topics": [value for kind, value in include if kind == "topic"],
                "roles": [value for kind, value in include if kind == "role"],
            },
        }

    def _describe_user(self, envelope: Envelope, user: str) -> dict[str, Any]:
        address = Address("user", user)
        newer = self._newer(envelope, frozenset({EVERYONE, address}))
        return {
            "named": envelope.audience.everyone or address in envelope.audience.include,
            "excluded": address in envelope.audience.exclude,
            "superseded_by": newer,
        }

    def _describe_fate(self, entry: Entry, stay: Stay) -> dict[str, Any]:
        newer = self._newer(entry.envelope, stay.addresses())
        fate: Fate = fate_of(entry, stay, self._hub.trail, is_superseded=newer is not None, now_ms=self._now_ms())
        return {"outcome": fate.outcome, "written_by": _time(fate.by_ms), "superseded_by": newer}

    def _newer(self, envelope: Envelope, addresses: frozenset[Address]) -> str | None:
        """The id of the newest of its collapse key for somebody at these addresses, if that is another one."""
        if envelope.collapse_key is None:
            return None
        newest = self._window.newest_of(envelope.tenant, envelope.collapse_key, addresses)
        return None if newest is None or newest.envelope.id == envelope.id else newest.envelope.id

    def _describe(self, stay: Stay) -> dict[str, Any]:
        identity = stay.identity
        described = {
            "session": stay.session,
            "tenant": identity.tenant,
            "user": identity.user,
            "roles": sorted(identity.roles),
            "topics": sorted(stay.topics),
            "state": "behind" if stay.is_behind else "live",
            "position": str(stay.position),
            "delivered": stay.delivered,
            "opened_at": rfc3339(stay.opened_at_ms),
            "expires_at": rfc3339(int(identity.expires_at * 1000)),
        }
        if stay.closed_at_ms is not None:
            described |= {
                "state": "closed",
                "closed_at": rfc3339(stay.closed_at_ms),
                "code": stay.code,
                "reason": stay.reason,
            }
        return described

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)
