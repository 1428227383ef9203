"""The ledger of a proof: every notification that was sent, against everything that every recipient received.

Pure data: it knows no sockets, brokers or clocks. Ten million receipts fit. What they mean is for `verdict.py` to say.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from notifier.clients.prove.recipients import Absence, Gap, Recipient, Track
from notifier.clients.prove.sends import Audience, Lane, Outcome, Position, Send

SHOWN: Final = 20


@dataclass(slots=True)
class Tally:
    """How many there were, and the first of them in words."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def note(self, *words: object) -> None:
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(" ".join(str(word) for word in words))


class Ledger:
    """Takes down what happens, in the order in which it happens."""

    def __init__(self) -> None:
        self.sends: list[Send] = []
        self.lanes: list[Lane] = []
        self.recipients: list[Recipient] = []
        self.refusals = Tally()
        self.retries: Counter[str] = Counter()  # By what the attempt got instead of an answer that decides.
        self.slowest_attempt_seconds = 0.0
        self.receipts = 0
        self.redelivered = 0  # Repeats that a client drops by their id.
        self.foreign = 0  # Notifications of somebody else.
        # Found as they come; what only the end can tell is left to the verdict.
        self.unexpected = Tally()
        self.misplaced = Tally()
        self.repeated = Tally()
        self.late: list[tuple[Recipient, Send, Send]] = []  # Received behind one of its lane that was begun later.

    # -- sends ---------------------------------------------------------------------------------------------------

    def lane(self, audience: Audience, door: str) -> Lane:
        """Open a lane."""
        self.lanes.append(Lane(audience, door))
        return self.lanes[-1]

    def begin(self, lane: Lane, at: float) -> Send:
        """A send begins. Its number is in its data from the first attempt on."""
        send = Send(len(self.sends), lane, len(lane.sends), begun_at=at, attempted_at=at)
        self.sends.append(send)
        lane.sends.append(send)
        return send

    def attempt(self, send: Send, at: float) -> None:
        """An attempt begins."""
        send.attempted_at = at

    def retry(self, send: Send, reason: str, at: float) -> None:
        """An attempt got no answer that decides."""
        self._note_attempt(send, at)
        self.retries[reason] += 1

    def accept(self, send: Send, at: float, notification_id: str | None = None, *, via: str = "") -> None:
        """The service has it, taken at `via`; the request queue does not say under which id."""
        self._settle(send, Outcome.ACCEPTED, at)
        send.via = via
        if send.id is None:
            send.id = notification_id
        elif notification_id not in (None, send.id):
            self.repeated.note(send, "was answered with another id:", notification_id)

    def refuse(self, send: Send, reason: str, at: float) -> None:
        """The service does not want it, and never had it."""
        self._settle(send, Outcome.REFUSED, at)
        self.refusals.note(send, reason)

    def give_up(self, send: Send, at: float) -> None:
        """The last attempt has failed as well; an earlier one may have worked."""
        send.outcome, send.settled_at = Outcome.UNKNOWN, at

    def _settle(self, send: Send, outcome: Outcome, at: float) -> None:
        self._note_attempt(send, at)
        send.outcome, send.settled_at = outcome, at

    def _note_attempt(self, send: Send, at: float) -> None:
        self.slowest_attempt_seconds = max(self.slowest_attempt_seconds, at - send.attempted_at)

    # -- receipts ------------------------------------------------------------------------------------------------

    def recipient(self) -> Recipient:
        """Somebody takes part."""
        self.recipients.append(Recipient(len(self.recipients)))
        return self.recipients[-1]

    def welcome(self, recipient: Recipient, status: str, position: Position | None, at: float) -> None:
        """A session opens; `status` is that of its `resume`, `position` that of the welcome."""
        if recipient.entitled_from is None:
            recipient.entitled_from = at
        if recipient.absences and recipient.absences[-1].back_at is None:
            recipient.absences[-1].back_at, recipient.absences[-1].status = at, status
        if status == "reset" and recipient.heard is not None and position is not None:
            recipient.gaps.append(Gap(recipient.heard, position, dict(recipient.newest), at))
        if status != "resumed" or recipient.heard is None:
            recipient.heard = position

    def leave(self, recipient: Recipient, code: int, at: float) -> None:
        """A session ends, with the close code that the client saw."""
        recipient.absences.append(Absence(recipient.url, code, at))

    def hear(self, recipient: Recipient, position: Position) -> None:
        """A frame that is no notification says how far the session stands."""
        if recipient.heard is None or position.is_after(recipient.heard):
            recipient.heard = position

    def receive(self, recipient: Recipient, n: int, notification_id: str, position: Position | None, at: float) -> None:
        """A notification of this proof arrives."""
        self.receipts += 1
        if not 0 <= n < len(self.sends):
            self.unexpected.note(f"n={n} (id {notification_id}) was never sent; received by", recipient)
            return
        send = self.sends[n]
        lane = send.lane
        track = recipient.tracks.get(lane)
        if track is None:
            if not lane.audience.reaches(recipient.user, recipient.topics):
                self.unexpected.note(send, "received by", recipient)
                return
            track = recipient.tracks[lane] = Track()
        is_first = track.add(send.index)
        if send.id is None:
            send.id = notification_id
        if send.id != notification_id:
            self.repeated.note(send, f"received as {notification_id} by", recipient)
        elif is_first:
            self._order(recipient, send, track, position)
            recipient.delays.add(at - send.attempted_at)
        else:
            self.redelivered += 1

    def _order(self, recipient: Recipient, send: Send, track: Track, position: Position | None) -> None:
        """Judge the place of a first receipt: in the journal, among the recipient's, and in its lane."""
        heard, newest = recipient.heard, recipient.newest
        if send.begun_at > newest.get(send.lane.door, 0.0):
            newest[send.lane.door] = send.begun_at
        if send.position is None:
            send.position = position
        if position is None or send.position != position:
            self.misplaced.note(send, f"at {position}, elsewhere at {send.position}; received by", recipient)
        elif heard is not None and not position.is_after(heard):
            self.misplaced.note(send, f"at {position}, behind {heard}; received by", recipient)
        elif send.index < track.newest:
            self.late.append((recipient, send, send.lane.sends[track.newest]))
        if position is not None:
            self.hear(recipient, position)
        track.newest = max(track.newest, send.index)
