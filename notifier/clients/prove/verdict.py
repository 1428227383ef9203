"""What a ledger means: what was lost, came unexpected, out of order or repeated, and how long the rest took."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from notifier.clients.prove.delays import Delays
from notifier.clients.prove.ledger import Ledger, Tally
from notifier.clients.prove.recipients import Recipient
from notifier.clients.prove.sends import Lane, Outcome, Send


@dataclass(frozen=True, slots=True)
class Latency:
    """From the start of the accepted attempt to the receipt, in milliseconds.

    The answer to a keyed request comes after its item was read back, so often after the receipt. The start of the
    attempt is the latest moment that is certainly before the acceptance.
    """

    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, recipients: Iterable[Recipient]) -> "Latency":
        delays = Delays.merged(recipient.delays for recipient in recipients)
        seconds = delays.quantile(0.5), delays.quantile(0.99), delays.longest_seconds
        return cls(*(round(each * 1000, 2) for each in seconds))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of a ledger.

    Args:
        sent: sends that were begun; each was accepted, refused or of unknown outcome.
        arrived_unknown: sends of unknown outcome that arrived all the same.
        retries: attempts without an answer that decides, by what came instead.
        receipts: notifications received, with the `redelivered`, which clients drop by their id.
        foreign: notifications of somebody else.
        lost: had to reach a recipient and did not.
        unexpected: received by somebody not entitled, or never sent, or refused.
        out_of_order: first received behind something that is later in the journal, or was sent later.
        repeated: one send under two ids, which no client can drop.
        reset_gaps: not received, but the recipient was told `reset`, and it may lie in what that was about.
        silent: sessions that never opened.
        shut: doors through which something was sent and nothing was accepted.
        closes: ends of sessions by close code.
        longest_absence_seconds: of those that came back.
    """

    sessions: int
    sent: int
    accepted: int
    refused: int
    unknown: int
    arrived_unknown: int
    retries: dict[str, int]
    slowest_attempt_seconds: float
    receipts: int
    redelivered: int
    foreign: int
    lost: Tally
    unexpected: Tally
    out_of_order: Tally
    repeated: Tally
    reset_gaps: Tally
    refusals: Tally
    silent: int
    shut: tuple[str, ...]
    resets: int
    closes: dict[int, int]
    longest_absence_seconds: float
    latency_ms: Latency

    @property
    def is_clean(self) -> bool:
        """Nothing was lost, unexpected, out of order or repeated, and there was something that could have been."""
        offences = (self.lost, self.unexpected, self.out_of_order, self.repeated)
        return not any(tally.count for tally in offences) and self.accepted > 0 and self.silent == 0 and not self.shut

    def as_json(self) -> dict[str, Any]:
        """All of it, for a machine."""
        return {"clean": self.is_clean, **asdict(self)}

    def __str__(self) -> str:
        offences = {
            "lost": self.lost,
            "unexpected": self.unexpected,
            "out of order": self.out_of_order,
            "repeated": self.repeated,
        }
        said = ", ".join(f"{name} {tally.count}" for name, tally in offences.items())
        first = [f"{name}: {words}" for name, tally in offences.items() for words in tally.first]
        shut = [f"nothing was accepted by {door}" for door in self.shut]
        return "\n".join([f"{said} ({self.accepted} accepted, {self.silent} sessions silent)", *shut, *first])


def missing(ledger: Ledger) -> Iterator[tuple[Recipient, Send]]:
    """Every send that had to reach a recipient and has not yet."""
    due = {lane: lane.due() for lane in ledger.lanes}
    entitled = _Entitled(ledger.lanes)
    for recipient in ledger.recipients:
        if recipient.entitled_from is None:
            continue
        for lane in entitled(recipient):
            track = recipient.tracks.get(lane)
            if bits := due[lane] & ~track.bits if track else due[lane]:
                for send in lane.at(bits):
                    if send.begun_at >= recipient.entitled_from:
                        yield recipient, send


def is_excused(recipient: Recipient, send: Send) -> bool:
    """Tell whether the recipient was told that it may have missed the send."""
    return any(gap.may_hold(send) for gap in recipient.gaps)


def is_outstanding(ledger: Ledger) -> bool:
    """Tell whether anything that has to arrive has not."""
    return any(not is_excused(recipient, send) for recipient, send in missing(ledger))


def judge(ledger: Ledger) -> Verdict:
    """Judge what the ledger holds up to now."""
    lost, reset_gaps = Tally(), Tally()
    for recipient, send in missing(ledger):
        tally = reset_gaps if is_excused(recipient, send) else lost
        tally.note(send, "not received by", recipient)
    outcomes = Counter(send.outcome for send in ledger.sends)
    unknown = [send for send in ledger.sends if send.outcome in (Outcome.UNKNOWN, Outcome.PENDING)]
    absences = [absence for recipient in ledger.recipients for absence in recipient.absences]
    return Verdict(
        sessions=len(ledger.recipients),
        sent=len(ledger.sends),
        accepted=outcomes[Outcome.ACCEPTED],
        refused=outcomes[Outcome.REFUSED],
        unknown=len(unknown),
        arrived_unknown=sum(send.position is not None for send in unknown),
        retries=dict(ledger.retries),
        slowest_attempt_seconds=round(ledger.slowest_attempt_seconds, 3),
        receipts=ledger.receipts,
        redelivered=ledger.redelivered,
        foreign=ledger.foreign,
        lost=lost,
        unexpected=_unexpected(ledger),
        out_of_order=_out_of_order(ledger),
        repeated=ledger.repeated,
        reset_gaps=reset_gaps,
        refusals=ledger.refusals,
        silent=sum(recipient.entitled_from is None for recipient in ledger.recipients),
        shut=_shut(ledger),
        resets=sum(len(recipient.gaps) for recipient in ledger.recipients),
        closes=dict(Counter(absence.code for absence in absences)),
        longest_absence_seconds=round(max((absence.seconds or 0.0 for absence in absences), default=0.0), 3),
        latency_ms=Latency.of(ledger.recipients),
    )


def _shut(ledger: Ledger) -> tuple[str, ...]:
    sends: dict[str, list[Outcome]] = {}
    for lane in ledger.lanes:
        sends.setdefault(lane.door, []).extend(send.outcome for send in lane.sends)
    return tuple(door for door, outcomes in sends.items() if outcomes and Outcome.ACCEPTED not in outcomes)


def _unexpected(ledger: Ledger) -> Tally:
    tally = Tally(ledger.unexpected.count, list(ledger.unexpected.first))
    for send in ledger.sends:
        if send.outcome is Outcome.REFUSED and send.position is not None:
            tally.note(send, "was received")
    return tally


def _out_of_order(ledger: Ledger) -> Tally:
    """What lies wrong in the journal's order; and in its lane, if the next was begun after its acceptance.

    One of unknown outcome may land at any later time.
    """
    tally = Tally(ledger.misplaced.count, list(ledger.misplaced.first))
    for recipient, send, later in ledger.late:
        if send.outcome is Outcome.ACCEPTED:
            tally.note(send, "received behind", later, "by", recipient)
    return tally


class _Entitled:
    """From a recipient to the lanes that reach it, found by what the lanes' audiences name."""

    def __init__(self, lanes: Iterable[Lane]) -> None:
        self._by_user: dict[str, list[Lane]] = {}
        self._by_topic: dict[str, list[Lane]] = {}
        self._everyones: list[Lane] = []
        for lane in lanes:
            for user in lane.audience.users:
                self._by_user.setdefault(user, []).append(lane)
            for topic in lane.audience.topics:
                self._by_topic.setdefault(topic, []).append(lane)
            if lane.audience.everyone:
                self._everyones.append(lane)

    def __call__(self, recipient: Recipient) -> Iterable[Lane]:
        topical = [lane for topic in recipient.topics for lane in self._by_topic.get(topic, ())]
        return dict.fromkeys([*self._by_user.get(recipient.user, ()), *topical, *self._everyones])
