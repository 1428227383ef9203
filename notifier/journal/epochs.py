"""How far a stream was read, and in which epoch it is. Pure.

Both are judged by what the messages of the stream say, so on every replica alike.
"""

import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from notifier.core.envelope import Position
from notifier.core.ports import Record
from notifier.journal.record import Decoded, Stamp

REMEMBERED_RECORDS: Final = 10_000  # A writer that has read no further than those before them is not judged.
HELD_RECORDS: Final = 10_000


class AnotherStream(Exception):
    """The stream is not the one that was read before, or too much of it is gone to tell."""


class NotThereYet(Exception):
    """The last message that was read did not come, but what comes does not speak against the stream: try once more."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a stream.

    `batch_id` tells it from any other; `read_id` is that of the last one that its writer had read. None: not given.
    """

    offset: int
    batch_id: str | None
    read_id: str | None
    body: bytes


class Epochs:
    """Reads stamps in the order of the stream.

    A stream that was deleted and made anew counts its offsets from 0 again, and a position of the old one must not be
    taken for one of the new. So ticks and markers carry the epoch in which their writer believes, and say which message
    it had read last: its offset (`seen`) and its id. A writer that has not read the same there as we have is talking
    about another stream, and is ignored. In force is the newest epoch of all others; before there is any, the first
    proposal.
    """

    def __init__(self, in_force: str | None = None) -> None:
        self.in_force = in_force  # None until the stream says one that can be trusted.
        self._distrusted: str | None = None  # The epoch of a stream that turned out to be another one.
        self._seen = -1
        self._ids: dict[int, str] = {}  # By offset, of what was read last; the oldest first.

    def read(self, message: Message, stamp: Stamp | None) -> bool:
        """Take in a message and its stamp. True when it puts another epoch in force."""
        is_change = stamp is not None and stamp.epoch != self.in_force and self._is_trusted(stamp, message.read_id)
        if stamp is not None and is_change:
            self.in_force = stamp.epoch
        if message.batch_id is not None:
            self._seen = message.offset
            self._ids[message.offset] = message.batch_id
            if len(self._ids) > REMEMBERED_RECORDS:
                del self._ids[next(iter(self._ids))]
        return is_change

    def _is_trusted(self, stamp: Stamp, read_id: str | None) -> bool:
        if stamp.epoch == self._distrusted:
            return False
        if stamp.seen < 0:
            return self.in_force is None
        return read_id is not None and self._ids.get(stamp.seen) == read_id

    def has_read(self, message: Message) -> bool:
        """Whether this very message was read before, as far as is remembered."""
        return message.batch_id is not None and self._ids.get(message.offset) == message.batch_id

    def stamp(self) -> Stamp:
        """What a record written now carries. A proposal is made once: it may have been in force in another stream."""
        if self.in_force is None or self._seen < 0:
            return Stamp(secrets.token_hex(4), -1)
        return Stamp(self.in_force, self._seen)

    @property
    def read_id(self) -> str | None:
        """The id of the message that was read last."""
        return self._ids.get(self._seen)

    def forget(self, *, is_distrusted: bool) -> None:
        """Begin anew. `is_distrusted`: the epoch so far is that of another stream, and counts no more."""
        if is_distrusted:
            self._distrusted = self.in_force or self._distrusted
        self.in_force = None
        self._seen = -1
        self._ids.clear()


class Place:
    """How far a follower has read, and how it goes on over a new connection.

    `after`: where it begins; the empty epoch stands for all that is remembered.
    """

    def __init__(self, after: Position) -> None:
        self.epochs = Epochs(after.epoch or None)
        self._offset = after.offset - 1 if after.epoch else None  # Of the last message; None before the first.
        self._batch_id: str | None = None  # Of that message; None where it cannot come again.
        self._is_verified = True  # False on a new connection, until the last message has come again as it was.
        self._is_doubted = False  # The last message does not come again: the end of the stream will tell.
        self._is_after_gap = False  # The next record follows a gap.
        self._is_from_now = False  # Nothing that is remembered can be read.
        self._deaths = 0  # Connections lost over a frame that cannot be decoded, since the last message.
        self._held: deque[tuple[int, Decoded]] = deque(
            maxlen=HELD_RECORDS
        )  # Until it is known in which epoch they are.

    @property
    def is_careful(self) -> bool:
        """Whether messages must come one at a time, to show which it is that connections die of."""
        return self._deaths > 0

    @property
    def is_verified(self) -> bool:
        """Whether this connection has shown that the stream is the one that was read before."""
        return self._is_verified

    def start(self) -> int | Literal["next", "last"] | None:
        """Where a new connection consumes: at the last message, to see it again. None: as far back as is remembered."""
        self._is_verified = self._offset is None
        if self._offset is None:
            return "next" if self._is_from_now else None
        if self._is_doubted:
            return "last"
        return self._offset if self._batch_id is not None else self._offset + 1

    def note_silence(self) -> None:
        """Take in that a connection brought nothing: an offset beyond the end of another stream stays silent."""
        self._is_doubted = self._batch_id is not None and not self._is_verified

    def note_loss(self, *, is_undecodable: bool) -> bool:
        """Count a lost connection. True when it was the second that died of the next message, which is left out now.

        Else it would be the end of all replicas.
        """
        self._deaths = self._deaths + 1 if is_undecodable else 0
        if self._deaths < 2:
            return False
        self._deaths = 0
        if self._offset is None:
            self._is_from_now = True  # It is the first of all that is remembered, and nobody knows its offset.
        elif self._batch_id is not None and not self._is_verified:
            self._begin_anew(is_distrusted=True)  # It is in the place of one that could be read.
            return False
        else:
            self._offset, self._batch_id = self._offset + 1, None
        return True

    def is_news(self, message: Message) -> bool:
        """Tell whether the message is one to read. Raises AnotherStream when what was read before is not there."""
        if self._offset is not None:
            if not self._is_verified:
                self._verify(message, self._offset)
            if message.offset <= self._offset:
                return False
        self._offset, self._batch_id = message.offset, message.batch_id
        self._is_from_now, self._deaths = False, 0
        return True

    def _verify(self, message: Message, last_offset: int) -> None:
        """Judge the first message of a connection: the last that was read, or the next where that one has no id."""
        is_beyond = message.offset > last_offset
        if is_beyond if self._batch_id is None else (message.offset, message.batch_id) == (last_offset, self._batch_id):
            self._is_verified, self._is_doubted = True, False
            return
        if self._is_doubted:
            if not is_beyond and self.epochs.has_read(message):
                return  # The end of the stream begins before the last one that was read.
            if is_beyond:
                self._is_doubted = False
                raise NotThereYet(f"the stream goes on at offset {message.offset}, and was read up to {last_offset}")
        # What is beyond may well be the same stream, without what retention took, and its epoch too.
        self._begin_anew(is_distrusted=not is_beyond)
        raise AnotherStream(f"the last message that was read does not come again, but offset {message.offset}")

    def _begin_anew(self, *, is_distrusted: bool) -> None:
        self.epochs.forget(is_distrusted=is_distrusted)
        self._offset = self._batch_id = None
        self._is_doubted = False
        self._is_after_gap = True
        self._held.clear()

    def records(self, message: Message, decoded: Decoded) -> Sequence[Record]:
        """What can be handed on now that this message was read: until it is known which epoch is in force, nothing."""
        self.epochs.read(message, decoded.stamp)
        self._held.append((message.offset, decoded))
        epoch = self.epochs.in_force
        if epoch is None:
            return ()
        records = [Record(epoch, offset + 1, held.items) for offset, held in self._held]
        self._held.clear()
        if self._is_after_gap:
            self._is_after_gap = False
            records[0] = Record(epoch, records[0].offset, records[0].items, follows_gap=True)
        return records
