"""What the answers of all replicas come to: one verdict, in a sentence. Nothing is said that no answer says."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

if TYPE_CHECKING:
    from notifier.clients.operations import Reply

WRITTEN, NOT_WRITTEN, NOT_KNOWN = 0, 1, 3
"""Exit codes."""
# fmt: off
Verdict = Literal[
    "written",
    "waiting", "excluded", "expired", "superseded", "left", "before", "not_addressed", "not_connected",
    "perhaps", "no_answer", "other_tenant", "not_in_window", "never_seen",
]
# fmt: on
_EXIT_CODES: Final[Mapping[str, int]] = {
    "written": WRITTEN,
    **dict.fromkeys(("perhaps", "no_answer", "other_tenant", "not_in_window", "never_seen"), NOT_KNOWN),
}
NEVER: Final = (
    "no replica has read it: it was not accepted under this id, was the repeat of an idempotency key, had ttl 0, or "
    "had expired when it was read"
)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The verdict, and the sentence that says it."""

    verdict: Verdict
    sentence: str

    @property
    def exit_code(self) -> int:
        """0 written, 1 not written, 3 not known."""
        return _EXIT_CODES.get(self.verdict, NOT_WRITTEN)


def accepted_ms(notification_id: str) -> int:
    """Unix milliseconds at which an id was made (RFC 9562, 5.7). Raises ValueError for what is no UUIDv7."""
    parsed = UUID(notification_id)
    if parsed.version != 7 or str(parsed) != notification_id:
        raise ValueError(notification_id)
    return parsed.int >> 80


def conclude(replies: Sequence["Reply"], notification_id: str, user: str) -> Conclusion:
    """Judge by the answers of all replicas."""
    silent = sum(reply.answer is None for reply in replies)
    answers = [reply.answer for reply in replies if reply.answer is not None]
    holding = [answer for answer in answers if answer["in_window"]]
    found = _found(holding, user) if holding else _not_found(answers, notification_id)
    if found.verdict == "written" or not silent:
        return found
    said = f"; of the others: {found.sentence}" if answers else ""
    return Conclusion("no_answer", f"{silent} of {len(replies)} replicas did not answer{said}")


def _found(holding: Sequence[Mapping[str, Any]], user: str) -> Conclusion:
    written = [session for session in _sessions(holding) if session["outcome"] == "written"]
    if written:
        first = min(session["written_by"] for session in written)
        there = sum(any(session["outcome"] == "written" for session in answer["sessions"]) for answer in holding)
        where = f"{counted(len(written), 'session')} of {user} on {counted(there, 'replica')}"
        return Conclusion("written", f"it was written to {where}, first by {first}")
    outcomes = {session["outcome"]: session for session in _sessions(holding)}
    if holding[0]["excluded"] or "excluded" in outcomes:
        return Conclusion("excluded", f"{user} is excluded from it")
    for outcome in ("unknown", "passed"):
        if outcome in outcomes:
            return Conclusion("perhaps", f"whether it was written to {user} is not known: {said_of(outcomes[outcome])}")
    if "waiting" in outcomes:
        return Conclusion("waiting", f"a session of {user} is behind, and has not come to it yet")
    return _not_written(holding, user)


def _not_written(holding: Sequence[Mapping[str, Any]], user: str) -> Conclusion:
    """It is in the window, and no session of the user has got it, or will as things are."""
    one, since = holding[0], max(answer["remembers_closed_since"] for answer in holding)
    missed = [session for session in _sessions(holding) if session["outcome"] in ("left", "before")]
    newer = next((session["superseded_by"] for session in missed if session["superseded_by"]), one["superseded_by"])
    if one["expired"]:
        return Conclusion("expired", f"it was written to no session of {user} that is remembered, and has expired")
    if newer:
        return Conclusion("superseded", f"it was written to no session of {user}, and {newer} has taken its place")
    until = f"it can be replayed until {one['expires_at']}, or until the window lets go of it"
    if any(session["outcome"] == "before" for session in missed):
        return Conclusion("before", f"{user} connected after it without asking for what was missed; {until}")
    if missed:
        last = max(session["closed_at"] for session in missed)
        return Conclusion("left", f"{user} left before it came, last at {last}; {until}")
    if any(_sessions(holding)) or not (one["named"] or one["audience"]["topics"] or one["audience"]["roles"]):
        return Conclusion("not_addressed", f"it is neither for {user} nor for a role or topic of a session of {user}")
    if not one["named"]:
        detail = f"whether {user} is meant by it is known only while a session tells roles and topics"
        return Conclusion("not_connected", f"{user} is not connected, and {detail}")
    known = f" (closed sessions are remembered since {since})" if since > one["accepted_at"] else ""
    return Conclusion("not_connected", f"{user} is not connected, nor was since it came{known}; {until}")


def _not_found(answers: Sequence[Mapping[str, Any]], notification_id: str) -> Conclusion:
    tenant = next((answer["other_tenant"] for answer in answers if answer["other_tenant"]), None)
    if tenant is not None:
        return Conclusion("other_tenant", f"it is in the tenant {tenant}: ask with --tenant {tenant}")
    since = min((answer["available_since"] for answer in answers), default="")
    # An id may say any time at all, also one that no calendar has.
    if since and accepted_ms(notification_id) <= datetime.fromisoformat(since).timestamp() * 1000:
        return Conclusion(
            "not_in_window", f"it is not in the window, which goes back to {since}: nothing is known of it any more"
        )
    return Conclusion("never_seen", NEVER)


def said_of(session: Mapping[str, Any]) -> str:
    """What became of it for one session, in words."""
    match session.get("outcome"):
        case "written":
            return f"written by {session['written_by']}"
        case "waiting":
            return "behind, and has not come to it"
        case "left":
            return "left before it came"
        case "passed":
            newer = session["superseded_by"]
            why = f"{newer} took its place" if newer else "it expired"
            return f"it was behind, and {why} meanwhile: written, or left out"
        case "before":
            return "began after it, and did not ask for it"
        case "excluded":
            return "excluded"
        case "not_addressed":
            return "not addressed"
        case "unknown":
            return "its roles or topics have changed since"
    return "nothing known of this notification"


def _sessions(answers: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for answer in answers:
        yield from answer["sessions"]


def counted(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
