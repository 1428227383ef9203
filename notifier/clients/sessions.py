"""How a session ends, whatever it came over."""

from collections.abc import Mapping
from typing import Final

LOST: Final = 1006
# A refusal before the session, as a browser would hear it.
_CODES: Final[Mapping[int, int]] = {
    400: 4400,
    401: 4402,
    403: 4403,
    422: 4400,
    426: 4400,
    429: 4004,
    503: 4005,
}


class Ended(Exception):
    """The session is over, or was never opened.

    Args:
        code: a close code of the protocol; 1006 where nobody gave one.
        status: of HTTP, where it was refused before it was opened.
        after_seconds: how long the service asks to wait; None where it does not say.
    """

    def __init__(
        self, code: int, reason: str, *, status: int | None = None, after_seconds: float | None = None
    ) -> None:
        self.code = code
        self.reason = reason
        self.status = status
        self.after_seconds = after_seconds
        super().__init__(f"refused with {status}: {reason}" if status else f"closed with {code} {reason}".rstrip())

    @property
    def is_final(self) -> bool:
        """The service does not want this client back until something changes."""
        return 4400 <= self.code < 4500


class Refused(Exception):
    """The service does not want this client back until something changes; `code` is the close code."""

    def __init__(self, end: Ended) -> None:
        super().__init__(f"refused with {end.status or end.code}: {end.reason}")
        self.code = end.code
        self.reason = end.reason


class Unreachable(Exception):
    """There was no answer; the text says why."""


def refusal(status: int, problem_code: str | None, after_seconds: float | None) -> Ended:
    """What a plain HTTP answer in place of a session means; `problem_code`: that of RFC 9457, if it had one."""
    code = 4401 if problem_code == "token_expired" else _CODES.get(status, LOST)
    return Ended(code, problem_code or f"HTTP {status}", status=status, after_seconds=after_seconds)
