"""Which epoch a stream is in: judged by what its records say, so on every replica alike. Pure."""

import secrets

from notifier.journal.record import Stamp


class Epochs:
    """Reads stamps in the order of the stream.

    A stream that was deleted and made anew counts its offsets from 0 again, and a position of the old one must not be
    taken for one of the new. So ticks and markers carry the epoch in which their writer believes, and the highest
    offset that it had read (`seen`). A writer that has read further than the stream reaches is talking about another
    stream, and is ignored. In force is the newest epoch of all others; before there is any, the first proposal.
    """

    def __init__(self) -> None:
        self.in_force: str | None = None  # None until the stream says one that can be trusted.
        self._proposal = secrets.token_hex(4)
        self._distrusted: str | None = None  # The epoch of a stream that turned out to be another one.
        self._seen = -1

    def read(self, offset: int, stamp: Stamp | None) -> bool:
        """Take in the record at the offset. True when it puts another epoch in force."""
        self._seen = offset
        if stamp is None or stamp.seen >= offset or stamp.epoch in (self.in_force, self._distrusted):
            return False
        if stamp.seen < 0 and self.in_force is not None:
            return False
        self.in_force = stamp.epoch
        return True

    def stamp(self) -> Stamp:
        """What a record written now carries."""
        if self.in_force is None:
            return Stamp(self._proposal, self._seen)
        return Stamp(self.in_force, self._seen)

    def distrust(self) -> None:
        """The stream is not the one that was read before: its epoch counts no more, and another one is proposed."""
        self._distrusted, self.in_force = self.in_force or self._distrusted, None
        self._proposal = secrets.token_hex(4)
        self._seen = -1
