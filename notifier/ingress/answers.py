"""What a sender is told of its notifications, in the same words at every door.

It is JSON from the start: ids, tenants and times hold nothing that would have to be escaped.
"""

import json
from collections.abc import Sequence
from typing import TypeAlias

from notifier.core.errors import NotifierError
from notifier.core.notification import rfc3339
from notifier.core.pipeline import Receipt
from notifier.ingress.problems import problem, status_of

Outcome: TypeAlias = Receipt | NotifierError


def accepted(receipt: Receipt) -> str:
    """The body of a 202."""
    accepted_at = rfc3339(receipt.accepted_at_ms)
    return f'{{"id":"{receipt.id}","tenant":"{receipt.tenant}","accepted_at":"{accepted_at}","status":"queued"}}'


def results(outcomes: Sequence[Outcome]) -> str:
    """The body of an answer to a batch."""
    return f'{{"results":[{",".join([_result(index, outcome) for index, outcome in enumerate(outcomes)])}]}}'


def _result(index: int, outcome: Outcome) -> str:
    if isinstance(outcome, NotifierError):
        return json.dumps({"index": index, "status": status_of(outcome), "problem": problem(outcome)})
    replayed = ',"replayed":true' if outcome.is_replay else ""
    return f'{{"index":{index},"status":202,"id":"{outcome.id}"{replayed}}}'
