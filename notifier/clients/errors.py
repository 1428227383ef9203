"""What a sender can be told, by what it can do about it.

NotSent
|-- Refused           the same request will be refused again: correct it
|   |-- Unauthenticated   401: the token is missing, expired or not good here
|   |-- Forbidden         403: the token is good, and does not allow this
|   |-- Invalid           400, 413, 415, 422: the request breaks rules, which `violations` names
|   `-- KeyReused         422: the idempotency key was used for a notification that says something else
`-- Unconfirmed       it may have been sent, and nobody said so in time: send again with the same idempotency key
    `-- RateLimited       429: too many, and it was not sent
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a request breaks.

    Args:
        pointer: where, as a JSON pointer (RFC 6901) into the request.
        code: stable, such as `unknown_field`.
    """

    pointer: str
    code: str
    detail: str


class NotSent(Exception):
    """It is not known to be sent.

    Args:
        code: the stable code of the service's problem (RFC 9457), such as `tenant_forbidden`; `no_answer` without one.
        status: of HTTP; None without an answer.
        request_id: what to look for in the service's log; None without an answer.
        idempotency_key: that of the request; None where none was sent.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.status = status
        self.request_id = request_id
        self.idempotency_key = idempotency_key


class Refused(NotSent):
    """The same request will be refused again."""


class Unauthenticated(Refused):
    """The token is missing, expired or not good here."""


class Forbidden(Refused):
    """The token is good, and does not allow this."""


class Invalid(Refused):
    """The request breaks rules."""

    violations: Sequence[Violation] = ()


class KeyReused(Refused):
    """The idempotency key was used for a notification that says something else."""


class Unconfirmed(NotSent):
    """It may have been sent, and nobody said so in time. With the same idempotency key, trying again is harmless."""


class RateLimited(Unconfirmed):
    """Too many in too short a time; it was not sent."""


def from_problem(
    problem: Mapping[str, Any], status: int, *, request_id: str | None, idempotency_key: str | None
) -> NotSent:
    """The error for a problem object of the service, or for an empty one where something else answered."""
    code, detail = str(problem.get("code", "no_problem")), str(problem.get("detail", f"the answer was {status}"))
    kind = _kind(status, code)
    error = kind(code, detail, status=status, request_id=request_id, idempotency_key=idempotency_key)
    if isinstance(error, Invalid):
        error.violations = [
            Violation(each.get("pointer", ""), each.get("code", ""), each.get("detail", ""))
            for each in problem.get("errors", ())
        ]
    return error


def read_problem(body: bytes) -> Mapping[str, Any]:
    """The problem object in an answer; empty for one that is none, as of a proxy in between."""
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _kind(status: int, code: str) -> type[NotSent]:
    if code == "idempotency_key_reused":
        return KeyReused
    if status >= 500:
        return Unconfirmed
    kinds: Mapping[int, type[NotSent]] = {
        400: Invalid,
        401: Unauthenticated,
        403: Forbidden,
        408: Unconfirmed,
        413: Invalid,
        415: Invalid,
        422: Invalid,
        425: Unconfirmed,
        429: RateLimited,
    }
    return kinds.get(status, Refused)
