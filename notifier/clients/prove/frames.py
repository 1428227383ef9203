"""What the service says to a session, read no further than a proof needs it."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from notifier.clients.prove.sends import Position

PROOF_TYPE: Final = "notifier-prove.item"
NEVER_SENT: Final = -1


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `place` is its position read; `n` is the number of a send of this proof, None for all else."""

    kind: str
    position: str | None = None
    place: Position | None = None
    n: int | None = None
    id: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


def read_frame(text: str | bytes, *, run: str) -> Frame:
    """Read a frame. Worth a cache: a broadcast comes to every session in the same text."""
    fields = json.loads(text)
    kind, position = fields["type"], fields.get("position")
    place = Position.parse(position) if isinstance(position, str) else None
    if kind != "notification":
        return Frame(kind, position, place, fields=fields)
    notification = fields["notification"]
    data = notification.get("data")
    is_ours = notification["type"] == PROOF_TYPE and isinstance(data, dict) and data.get("run") == run
    if not is_ours:
        return Frame(kind, position, place, id=notification["id"])
    n = data.get("n")
    return Frame(kind, position, place, n if isinstance(n, int) else NEVER_SENT, notification["id"])
