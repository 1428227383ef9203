"""Which keyed envelopes are repeats, decided by the order of the journal alone, so on every replica alike."""

from collections import OrderedDict
from typing import NamedTuple

from notifier.core.envelope import Envelope


class FirstUse(NamedTuple):
    """The envelope that owns a key."""

    id: str
    accepted_at_ms: int
    content_digest: bytes | None


class SeenKeys:
    """Remembers the keyed envelopes of the last `span_seconds`, at most `capacity` of them.

    Time is the records' own `accepted_at`, never the clock: a replica that reads later decides the same.
    """

    def __init__(self, *, span_seconds: int = 600, capacity: int = 200_000) -> None:
        self._span_ms = span_seconds * 1000
        self._capacity = capacity
        self._uses: OrderedDict[bytes, FirstUse] = OrderedDict()

    def __len__(self) -> int:
        return len(self._uses)

    def clear(self) -> None:
        """Forget all: another journal begins, in which nothing was said yet."""
        self._uses.clear()

    def first_use(self, envelope: Envelope) -> FirstUse | None:
        """Return the earlier use of the envelope's key; None makes this envelope the first. Call once per envelope."""
        digest = envelope.key_digest
        if digest is None:
            return None
        earlier = self._uses.get(digest)
        if earlier is not None and envelope.accepted_at_ms - earlier.accepted_at_ms <= self._span_ms:
            return earlier
        self._uses[digest] = FirstUse(envelope.id, envelope.accepted_at_ms, envelope.content_digest)
        self._uses.move_to_end(digest)
        self._forget(envelope.accepted_at_ms)
        return None

    def _forget(self, now_ms: int) -> None:
        """Drop what can match no more. Twice the span, since the clocks of two replicas may differ."""
        while len(self._uses) > self._capacity:
            self._uses.popitem(last=False)
        while self._uses and now_ms - next(iter(self._uses.values())).accepted_at_ms > 2 * self._span_ms:
            self._uses.popitem(last=False)
