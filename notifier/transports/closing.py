"""Why a connection ends: codes 4000 to 4399 come back and resume, 4400 to 4499 not until something changes."""

from typing import Final

from notifier.core.errors import Forbidden, LimitExceeded, NotifierError, Unauthenticated, Unavailable
from notifier.core.ports import CloseReason

AUTH_TIMEOUT: Final = 4003
TOO_MANY_MESSAGES: Final = 4002
NOT_A_JSON_OBJECT: Final = 4400
MESSAGE_TOO_BIG: Final = 1009

# What a fresh token or ticket mends, at once.
_EXPIRED: Final = frozenset({"token_expired", "ticket_expired", "ticket_used"})
# What ends an open session just so, and its errors say in the same words.
_TAKEN_BACK: Final = frozenset({CloseReason.TOKEN_REVOKED.value, CloseReason.SUPERSEDED.value})
CODE_OF_REASON: Final = {
    CloseReason.FELL_BEHIND: 4000,
    CloseReason.DRAIN: 4001,
    CloseReason.REBALANCE: 4001,
    CloseReason.TOKEN_EXPIRED: 4401,
    CloseReason.TOKEN_REVOKED: 4403,
    CloseReason.SUPERSEDED: 4409,
    CloseReason.TOKEN_INVALID: 4402,
    CloseReason.ANOTHER_USER: 4403,
    CloseReason.SHUTDOWN: 1012,
    CloseReason.SILENT: 1011,
}
_CODE_OF_ERROR: Final[tuple[tuple[type[NotifierError], int], ...]] = (
    (LimitExceeded, 4004),
    (Unavailable, 4005),
    (Unauthenticated, 4402),
    (Forbidden, 4403),
)


class HangUp(Exception):
    """The connection is to be closed with this code; `reason` is for people, at most 123 bytes of UTF-8."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason

    @classmethod
    def because(cls, error: NotifierError) -> "HangUp":
        """Translate a refusal."""
        if error.code in _EXPIRED:
            return cls(4401, error.code)
        if error.code in _TAKEN_BACK:
            return cls(CODE_OF_REASON[CloseReason(error.code)], error.code)
        code = next((code for kind, code in _CODE_OF_ERROR if isinstance(error, kind)), 1011)
        return cls(code, error.code)
