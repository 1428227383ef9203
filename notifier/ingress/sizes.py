"""How much one request may bring, at every door."""

from collections.abc import Sequence
from typing import Final

from notifier.core.errors import InvalidNotification, TooLarge, Violation

REQUEST_LIMIT_BYTES: Final = 64 * 1024
REVOCATION_LIMIT_BYTES: Final = 8 * 1024
BATCH_LIMIT_BYTES: Final = 4 * 1024 * 1024
BATCH_LIMIT_ITEMS: Final = 1_000


def counted(values: Sequence[object]) -> Sequence[object]:
    """The notifications of a batch, as they are. Raises what is wrong with there being none, or too many."""
    if not values:
        raise InvalidNotification([Violation("", "empty_batch", "the batch has no notification")])
    if len(values) > BATCH_LIMIT_ITEMS:
        raise TooLarge("batch_too_large", f"a batch has at most {BATCH_LIMIT_ITEMS} notifications")
    return values
