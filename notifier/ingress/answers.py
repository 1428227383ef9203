"""What a sender is told of its notifications, in the same words at every door."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from notifier.core.errors import NotifierError
from notifier.core.notification import rfc3339
from notifier.core.pipeline import Receipt
from notifier.ingress.problems import problem, status_of

Outcome: TypeAlias = Receipt | NotifierError


def accepted(receipt: Receipt) -> Mapping[str, Any]:
    """The body of a 202."""
    return {
        "id": receipt.id,
        "tenant": receipt.tenant,
        "accepted_at": rfc3339(receipt.accepted_at_ms),
        "status": "queued",
    }


def result(index: int, outcome: Outcome) -> Mapping[str, Any]:
    """One of the results of a batch."""
    if isinstance(outcome, NotifierError):
        return {"index": index, "status": status_of(outcome), "problem": problem(outcome)}
    fields = {"index": index, "status": 202, "id": outcome.id}
    return fields | {"replayed": True} if outcome.is_replay else fields
