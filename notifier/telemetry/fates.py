"""What became of one notification for one session: only what is known, and `unknown` where it is not."""

from typing import Literal, NamedTuple

from notifier.core.audience import EVERYONE, Address
from notifier.core.stays import Stay
from notifier.core.trail import Trail
from notifier.core.window import Entry

Outcome = Literal[
    "written",  # To the session's transport.
    "waiting",  # The session is behind, and has not come to it.
    "left",  # The session was closed before it came to it.
    "passed",  # The session was behind, and it was superseded or expired: written, or left out.
    "before",  # The session began behind it, and so did not ask for it.
    "excluded",
    "not_addressed",
    "unknown",  # Roles or topics of the session have changed since, and it depends on them.
]


class Fate(NamedTuple):
    """The outcome; for `written`, Unix milliseconds by which it was."""

    outcome: Outcome
    by_ms: int | None = None


def fate_of(entry: Entry, stay: Stay, trail: Trail, *, is_superseded: bool, now_ms: int) -> Fate:
    """Tell what became of the entry for the session of this stay."""
    position, envelope = entry
    stranger = _stranger(entry, stay)
    if stranger is not None:
        return Fate(stranger)
    if position.epoch != stay.position.epoch:  # Closed when the epoch changed, as all were.
        return Fate("left")
    if position <= stay.started:
        return Fate("before")
    if position > stay.position:
        return Fate("waiting" if stay.closed_at_ms is None else "left")
    caught_up = stay.caught_up
    was_behind = stay.is_behind or (caught_up is not None and position.ordinal <= caught_up.ordinal)
    looked_at_ms = stay.closed_at_ms or now_ms
    if not was_behind:
        return Fate("written", min(trail.written_by_ms(position) or looked_at_ms, looked_at_ms))
    is_caught_up = caught_up is not None and position.ordinal <= caught_up.ordinal
    by_ms = caught_up.at_ms if caught_up is not None and is_caught_up else looked_at_ms
    if is_superseded or envelope.expires_at_ms <= by_ms:
        return Fate("passed")
    return Fate("written", by_ms)


def _stranger(entry: Entry, stay: Stay) -> Outcome | None:
    """Why the entry was not for the session; None when it was."""
    position, (audience, user) = entry.position, (entry.envelope.audience, Address("user", stay.identity.user))
    if user in audience.exclude:
        return "excluded"
    addresses = stay.addresses()
    if position.ordinal <= stay.changed_at and position.epoch == stay.position.epoch:
        is_sure = not addresses.isdisjoint({user, EVERYONE} & set(audience.include))
        if not is_sure or any(kind == "role" for kind, _ in audience.exclude):
            return "unknown"
    if addresses.isdisjoint(audience.include):
        return "not_addressed"
    return None if addresses.isdisjoint(audience.exclude) else "excluded"
