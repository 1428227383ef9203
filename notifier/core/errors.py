"""The errors notifier raises on purpose, a class per decision the receiver can take.

    NotifierError
    ├── BadRequest             make it readable: syntax, encoding, a header
    ├── UpgradeRequired        speak the protocol of this address
    ├── UnsupportedMediaType   send it as JSON
    ├── InvalidNotification    mend the named fields
    ├── NotFound               name something that is there
    ├── TooLarge               send less
    ├── HeadersTooLarge        send fewer or shorter headers
    ├── IdempotencyKeyReused   the key stands for other content: take a new one
    ├── Unauthenticated        bring a token, or a fresh one
    ├── Forbidden              ask for a scope, a tenant, an origin
    ├── LimitExceeded          wait, then send the same again
    └── Unavailable            try again soon: journal, drain, overload

They carry data and no status: each door keeps one table from error to HTTP status, acknowledgement or close code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


class NotifierError(Exception):
    """Base of the tree: `code` is stable and for machines, `detail` is one sentence for a person."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class BadRequest(NotifierError):
    """What came cannot be read at all."""


class UpgradeRequired(NotifierError):
    """This address speaks WebSocket with a named subprotocol, and the request does not."""


class UnsupportedMediaType(NotifierError):
    """What came is not in a content type or encoding that this door reads."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule. `pointer` is a JSON pointer (RFC 6901) into the request; empty means the whole."""

    pointer: str
    code: str
    detail: str


class InvalidNotification(NotifierError):
    """The request was read, and breaks the rules named in `violations`."""

    def __init__(self, violations: Sequence[Violation], code: str = "invalid_notification") -> None:
        first = violations[0]
        super().__init__(code, f"{first.pointer or 'the body'}: {first.detail}")
        self.violations = tuple(violations)


class NotFound(NotifierError):
    """What the request is about is not here."""


class TooLarge(NotifierError):
    """The request or its sealed form is over the limit."""


class HeadersTooLarge(NotifierError):
    """The headers of the request are over the limit together."""


class IdempotencyKeyReused(NotifierError):
    """The key was used within the last minutes for a notification with other content."""


class Unauthenticated(NotifierError):
    """There is no token, or it is not accepted.

    `reason` is for the operator's log and `notifier check --token`: precise, and never holds a part of the token.
    """

    def __init__(self, code: str, detail: str, *, reason: str = "") -> None:
        super().__init__(code, detail)
        self.reason = reason or detail


class Forbidden(NotifierError):
    """The caller is known and may not do this. `scope` names the scope that would allow it, where one would."""

    def __init__(self, code: str, detail: str, *, scope: str | None = None) -> None:
        super().__init__(code, detail)
        self.scope = scope


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands with one limit: `remaining` of `quota` now, all of it again in `reset_seconds`."""

    policy: str
    quota: int
    window_seconds: int
    remaining: int
    reset_seconds: int


class LimitExceeded(NotifierError):
    """The caller is over a limit; the same request is welcome after `retry_after`."""

    def __init__(self, code: str, detail: str, *, retry_after: timedelta, standing: Standing | None = None) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after
        self.standing = standing


class Unavailable(NotifierError):
    """The service cannot do this now; a retry after `retry_after` is harmless."""

    def __init__(self, code: str, detail: str, *, retry_after: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after
