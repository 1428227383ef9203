"""The ledger of a proof: it finds each loss, stranger, swap and double that is planted, and nothing where none is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.clients.prove.delays import Delays
from notifier.clients.prove.ledger import Ledger
from notifier.clients.prove.recipients import Recipient, Track
from notifier.clients.prove.sends import Audience, Lane, Position, Send
from notifier.clients.prove.verdict import Verdict, is_outstanding, judge

EVERYONE = Audience(everyone=True)
ANN, BOB = Audience(users=("ann",)), Audience(users=("bob",))
NEWS = Audience(topics=("news",))


@dataclass(frozen=True)
class Receipt:
    """A notification as a recipient gets it."""

    n: int
    id: str
    position: Position


class Run:
    """A proof in miniature: a clock that ticks with each event, one journal, and recipients to tell what they get."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.now = 0.0
        self.epoch, self.offset = "one", 0
        self.places: dict[Send, Position] = {}
        self.lanes: dict[tuple[Audience, str], Lane] = {}

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    def tail(self) -> Position:
        return Position(self.epoch, self.offset, 0)

    def welcomed(self, user: str, *topics: str) -> Recipient:
        """A recipient with an open session."""
        recipient = self.ledger.recipient()
        recipient.user, recipient.topics = user, frozenset(topics)
        self.ledger.welcome(recipient, "new", self.tail(), self.tick())
        return recipient

    def begun(self, audience: Audience, door: str = "http") -> Send:
        """A send that has no outcome yet, and that the journal has."""
        lane = self.lanes.get((audience, door)) or self.ledger.lane(audience, door)
        self.lanes[audience, door] = lane
        send = self.ledger.begin(lane, self.tick())
        self.offset += 1
        self.places[send] = self.tail()
        return send

    def accepted(self, audience: Audience, door: str = "http") -> Send:
        send = self.begun(audience, door)
        self.ledger.accept(send, self.tick(), f"id-{send.n}" if door == "http" else None)
        return send

    def receipt(self, send: Send) -> Receipt:
        return Receipt(send.n, f"id-{send.n}", self.places[send])

    def receives(self, recipient: Recipient, *sends: Send) -> None:
        for send in sends:
            self.takes(recipient, self.receipt(send))

    def takes(self, recipient: Recipient, receipt: Receipt) -> None:
        self.ledger.receive(recipient, receipt.n, receipt.id, receipt.position, self.tick())

    def reset(self, recipient: Recipient) -> None:
        """The recipient comes back and is told that it cannot have what it missed."""
        self.ledger.leave(recipient, 1006, self.tick())
        self.ledger.welcome(recipient, "reset", self.tail(), self.tick())

    def counts(self) -> tuple[int, int, int, int]:
        """Lost, unexpected, out of order, repeated."""
        return counts(self.verdict())

    def verdict(self) -> Verdict:
        return judge(self.ledger)


def counts(verdict: Verdict) -> tuple[int, int, int, int]:
    return verdict.lost.count, verdict.unexpected.count, verdict.out_of_order.count, verdict.repeated.count


# -- a whole history, and one thing wrong in it ------------------------------------------------------------------------

PEOPLE = (("ann", ("news",)), ("ann", ()), ("bob", ("news",)), ("cid", ()))
AUDIENCES = (ANN, BOB, NEWS, EVERYONE, Audience(users=("bob", "cid"), topics=("news",)))
History = tuple[Run, list[Recipient], list[list[Receipt]]]


def history(audiences: Sequence[Audience]) -> History:
    """Everything sent in turn, and what each recipient has to get, in order."""
    run = Run()
    recipients = [run.welcomed(user, *topics) for user, topics in PEOPLE]
    sends = [run.accepted(audience) for audience in audiences]
    entitled = [
        [run.receipt(send) for send in sends if send.lane.audience.reaches(recipient.user, recipient.topics)]
        for recipient in recipients
    ]
    return run, recipients, entitled


def played(past: History) -> Verdict:
    run, recipients, receipts = past
    for recipient, own in zip(recipients, receipts, strict=True):
        for receipt in own:
            run.takes(recipient, receipt)
    return run.verdict()


audiences = st.lists(st.sampled_from(AUDIENCES), min_size=1, max_size=30).filter(lambda drawn: EVERYONE in drawn)


@given(audiences)
def test_a_faithful_history_is_clean(drawn: list[Audience]) -> None:
    past = history(drawn)

    verdict = played(past)

    assert verdict.is_clean
    assert (verdict.sent, verdict.accepted) == (len(drawn), len(drawn))
    assert verdict.receipts == sum(len(own) for own in past[2])
    assert not is_outstanding(past[0].ledger)


@given(audiences, st.data())
def test_each_loss_is_found(drawn: list[Audience], data: st.DataObject) -> None:
    past = history(drawn)
    own = data.draw(st.sampled_from([own for own in past[2] if own]))
    lost = own.pop(data.draw(st.integers(0, len(own) - 1)))

    verdict = played(past)

    assert counts(verdict) == (1, 0, 0, 0)
    assert verdict.lost.first[0].startswith(f"n={lost.n} (id {lost.id}, ")
    assert is_outstanding(past[0].ledger)


@given(audiences, st.data())
def test_each_swap_is_found(drawn: list[Audience], data: st.DataObject) -> None:
    past = history([*drawn, EVERYONE, EVERYONE])
    own = data.draw(st.sampled_from(past[2]))
    at = data.draw(st.integers(0, len(own) - 2))
    own[at], own[at + 1] = own[at + 1], own[at]

    assert counts(played(past)) == (0, 0, 1, 0)


@given(audiences, st.data())
def test_each_stranger_is_found(drawn: list[Audience], data: st.DataObject) -> None:
    past = history([*drawn, ANN])
    own = data.draw(st.sampled_from(past[2][2:]))  # Those who are not Ann.
    own.insert(data.draw(st.integers(0, len(own))), past[2][0][-1])

    assert counts(played(past)) == (0, 1, 0, 0)


@given(audiences, st.data())
def test_each_double_under_another_id_is_found(drawn: list[Audience], data: st.DataObject) -> None:
    past = history(drawn)
    own = data.draw(st.sampled_from([own for own in past[2] if own]))
    at = data.draw(st.integers(0, len(own) - 1))
    own.insert(at + 1, replace(own[at], id="another", position=own[at].position._replace(item=1)))

    assert counts(played(past)) == (0, 0, 0, 1)


@given(audiences, st.data())
def test_a_repeat_under_the_same_id_is_dropped_as_clients_do(drawn: list[Audience], data: st.DataObject) -> None:
    past = history(drawn)
    own = data.draw(st.sampled_from([own for own in past[2] if own]))
    at = data.draw(st.integers(0, len(own) - 1))
    own.insert(data.draw(st.integers(at + 1, len(own))), own[at])

    verdict = played(past)

    assert verdict.is_clean
    assert verdict.redelivered == 1


# -- what cannot be a proof --------------------------------------------------------------------------------------------


def test_nothing_accepted_proves_nothing() -> None:
    run = Run()
    run.welcomed("ann")

    assert run.counts() == (0, 0, 0, 0)
    assert not run.verdict().is_clean


def test_a_session_that_never_opened_is_no_proof() -> None:
    run = Run()
    ann = run.welcomed("ann")
    run.ledger.recipient()
    run.receives(ann, run.accepted(EVERYONE))

    assert run.counts() == (0, 0, 0, 0)
    assert run.verdict().silent == 1
    assert not run.verdict().is_clean


def test_who_came_later_need_not_have_what_was_sent_before() -> None:
    run = Run()
    run.accepted(ANN)
    early = run.begun(ANN)
    ann = run.welcomed("ann")
    run.ledger.accept(early, run.tick(), "id-1")
    run.receives(ann, run.accepted(ANN))

    assert run.verdict().is_clean


# -- outcomes ----------------------------------------------------------------------------------------------------------


def test_an_unknown_outcome_may_be_nothing() -> None:
    run = Run()
    ann = run.welcomed("ann")
    run.ledger.give_up(run.begun(ANN), run.tick())
    run.receives(ann, run.accepted(ANN))

    verdict = run.verdict()

    assert verdict.is_clean
    assert (verdict.unknown, verdict.arrived_unknown) == (1, 0)


def test_an_unknown_outcome_may_arrive_late_but_once() -> None:
    run = Run()
    ann = run.welcomed("ann")
    unknown, later = run.begun(ANN), run.accepted(ANN)
    run.ledger.give_up(unknown, run.tick())
    run.places[unknown] = Position("one", 9, 0)
    run.receives(ann, later, unknown)
    run.offset = 9

    verdict = run.verdict()
    assert verdict.is_clean
    assert (verdict.unknown, verdict.arrived_unknown) == (1, 1)

    run.takes(ann, Receipt(unknown.n, "another", Position("one", 10, 0)))
    assert run.counts() == (0, 0, 0, 1)


def test_an_unknown_outcome_that_arrived_somewhere_has_to_arrive_everywhere() -> None:
    run = Run()
    ann, _ = run.welcomed("ann"), run.welcomed("bob")
    unknown = run.begun(EVERYONE)
    run.ledger.give_up(unknown, run.tick())
    run.receives(ann, unknown, run.accepted(ANN))

    assert run.counts() == (1, 0, 0, 0)


def test_a_send_without_an_outcome_yet_is_as_good_as_unknown() -> None:
    run = Run()
    run.welcomed("ann")
    run.begun(ANN)

    assert run.counts() == (0, 0, 0, 0)
    assert run.verdict().unknown == 1


def test_what_was_refused_must_not_arrive() -> None:
    run = Run()
    ann = run.welcomed("ann")
    refused = run.begun(ANN)
    run.ledger.refuse(refused, "403", run.tick())
    assert run.counts() == (0, 0, 0, 0)

    run.receives(ann, refused)
    assert run.counts() == (0, 1, 0, 0)


def test_what_was_never_sent_is_unexpected() -> None:
    run = Run()
    ann = run.welcomed("ann")
    run.takes(ann, Receipt(7, "id-7", Position("one", 1, 0)))

    assert run.counts() == (0, 1, 0, 0)


def test_an_answer_with_another_id_than_was_delivered_is_a_repeat() -> None:
    run = Run()
    ann = run.welcomed("ann")
    send = run.begun(ANN)
    run.receives(ann, send)
    run.ledger.accept(send, run.tick(), "another")

    assert run.counts() == (0, 0, 0, 1)


def test_two_recipients_that_get_one_send_under_two_ids_make_a_repeat() -> None:
    run = Run()
    one, other = run.welcomed("ann"), run.welcomed("ann")
    send = run.accepted(ANN, "amqp")
    run.receives(one, send)
    run.takes(other, replace(run.receipt(send), id="another"))

    assert run.counts() == (0, 0, 0, 1)


# -- order -------------------------------------------------------------------------------------------------------------


def test_a_lane_that_was_accepted_in_one_order_and_journalled_in_another_is_out_of_order() -> None:
    """The positions rise: the journal itself has them the wrong way round."""
    run = Run()
    ann = run.welcomed("ann")
    first, second = run.accepted(ANN), run.accepted(ANN)
    run.places[first], run.places[second] = run.places[second], run.places[first]
    run.receives(ann, second, first)

    assert run.counts() == (0, 0, 1, 0)


def test_two_lanes_have_no_order_between_them() -> None:
    run = Run()
    ann = run.welcomed("ann")
    first, second = run.accepted(ANN, "amqp"), run.accepted(ANN, "http")
    run.places[first], run.places[second] = run.places[second], run.places[first]
    run.receives(ann, second, first)

    assert run.verdict().is_clean


def test_a_notification_behind_a_position_that_was_heard_is_out_of_order() -> None:
    """A heartbeat says that everything up to there has been written."""
    run = Run()
    ann = run.welcomed("ann")
    send = run.accepted(ANN)
    run.ledger.hear(ann, Position("one", 5, 0))
    run.receives(ann, send)

    assert run.counts() == (0, 0, 1, 0)


def test_an_older_position_takes_nothing_back() -> None:
    run = Run()
    ann = run.welcomed("ann")
    send = run.accepted(ANN)
    run.ledger.hear(ann, Position("one", 5, 0))
    run.ledger.hear(ann, Position("one", 0, 0))
    run.receives(ann, send)

    assert run.counts() == (0, 0, 1, 0)


def test_one_send_at_two_positions_is_out_of_order() -> None:
    """Replicas that read one journal agree on it."""
    run = Run()
    one, other = run.welcomed("ann"), run.welcomed("ann")
    send = run.accepted(ANN)
    run.receives(one, send)
    run.takes(other, replace(run.receipt(send), position=Position("one", 5, 0)))

    assert run.counts() == (0, 0, 1, 0)


def test_another_epoch_without_a_reset_is_out_of_order() -> None:
    run = Run()
    ann = run.welcomed("ann")
    run.epoch = "two"
    run.receives(ann, run.accepted(ANN))

    assert run.counts() == (0, 0, 1, 0)


def test_a_position_that_is_none_is_out_of_order() -> None:
    run = Run()
    ann = run.welcomed("ann")
    send = run.accepted(ANN)
    run.ledger.receive(ann, send.n, "id-0", Position.parse("what"), run.tick())

    assert run.counts() == (0, 0, 1, 0)


# -- sessions that end -------------------------------------------------------------------------------------------------


def test_a_resumed_session_has_to_have_all_that_it_missed() -> None:
    run = Run()
    ann = run.welcomed("ann")
    run.receives(ann, run.accepted(ANN))
    run.ledger.leave(ann, 1006, run.tick())
    missed, then = run.accepted(ANN), run.accepted(ANN)
    run.ledger.welcome(ann, "resumed", Position("one", 1, 0), run.tick())
    run.receives(ann, then)
    assert run.counts() == (1, 0, 0, 0)

    run.receives(ann, missed)
    assert run.counts() == (0, 0, 1, 0)


def test_a_session_that_comes_back_as_new_is_not_excused() -> None:
    run = Run()
    ann = run.welcomed("ann")
    run.receives(ann, run.accepted(ANN))
    run.ledger.leave(ann, 1006, run.tick())
    run.accepted(ANN)
    run.ledger.welcome(ann, "new", run.tail(), run.tick())

    assert run.counts() == (1, 0, 0, 0)


def test_absences_are_timed_and_counted() -> None:
    run = Run()
    ann = run.welcomed("ann")
    run.receives(ann, run.accepted(ANN))
    run.ledger.leave(ann, 4001, run.tick())
    run.ledger.welcome(ann, "resumed", run.tail(), run.now + 2.5)
    run.ledger.leave(ann, 1006, run.now + 3.0)

    verdict = run.verdict()

    assert verdict.closes == {4001: 1, 1006: 1}
    assert verdict.longest_absence_seconds == 2.5
    assert [absence.status for absence in ann.absences] == ["resumed", ""]


def test_what_a_reset_was_about_is_counted_apart() -> None:
    run = Run()
    ann = run.welcomed("ann")
    run.receives(ann, run.accepted(ANN))
    run.accepted(ANN)
    run.reset(ann)
    run.receives(ann, run.accepted(ANN))

    verdict = run.verdict()

    assert counts(verdict) == (0, 0, 0, 0)
    assert (verdict.resets, verdict.reset_gaps.count) == (1, 1)
    assert not is_outstanding(run.ledger)


def test_a_reset_excuses_nothing_that_was_sent_after_it() -> None:
    run = Run()
    ann = run.welcomed("ann")
    run.reset(ann)
    run.accepted(ANN)

    assert run.counts() == (1, 0, 0, 0)


def test_a_reset_excuses_nothing_before_what_was_received() -> None:
    """Nobody got it, so its position is not known; but what was begun after its acceptance was received."""
    run = Run()
    ann = run.welcomed("ann")
    run.accepted(ANN)
    run.receives(ann, run.accepted(ANN))
    run.reset(ann)

    assert run.counts() == (1, 0, 0, 0)


def test_doors_are_apart_where_positions_are_not_known() -> None:
    """What the queue has accepted may reach the journal later than what was sent over HTTP after it."""
    run = Run()
    ann = run.welcomed("ann")
    run.accepted(ANN, "amqp")
    run.receives(ann, run.accepted(ANN))
    run.reset(ann)

    assert run.counts() == (0, 0, 0, 0)
    assert run.verdict().reset_gaps.count == 1


def test_a_known_position_decides_what_a_reset_excuses() -> None:
    run = Run()
    ann, bob = run.welcomed("ann"), run.welcomed("bob")
    before, inside = run.accepted(EVERYONE), run.accepted(EVERYONE)
    run.ledger.hear(ann, run.places[before])
    run.receives(bob, before, inside)
    run.reset(ann)

    verdict = run.verdict()

    assert counts(verdict) == (1, 0, 0, 0)
    assert verdict.lost.first[0].startswith("n=0 ")
    assert verdict.reset_gaps.first[0].startswith("n=1 ")


def test_a_reset_excuses_nothing_that_landed_behind_it() -> None:
    run = Run()
    ann, bob = run.welcomed("ann"), run.welcomed("bob")
    slow = run.begun(EVERYONE)
    run.reset(ann)
    run.places[slow] = Position("one", run.offset + 1, 0)
    run.ledger.accept(slow, run.tick(), "id-0")
    run.receives(bob, slow)

    assert run.counts() == (1, 0, 0, 0)


def test_a_journal_that_began_anew_is_covered_by_the_reset() -> None:
    run = Run()
    ann, bob = run.welcomed("ann"), run.welcomed("bob")
    run.receives(bob, run.accepted(EVERYONE))  # Of the old journal, behind what Ann has heard.
    run.epoch, run.offset = "two", 0
    run.accepted(ANN)
    run.reset(ann)
    run.reset(bob)
    run.receives(ann, after := run.accepted(EVERYONE))
    run.receives(bob, after)

    verdict = run.verdict()

    assert verdict.is_clean
    assert sorted(words.split()[0] for words in verdict.reset_gaps.first) == ["n=0", "n=1"]


# -- figures -----------------------------------------------------------------------------------------------------------


def test_latency_is_from_the_latest_attempt_to_the_first_receipt() -> None:
    run = Run()
    ann = run.welcomed("ann")
    send = run.begun(ANN)
    run.ledger.attempt(send, 100.0)
    run.ledger.receive(ann, send.n, "id-0", run.places[send], 100.25)
    run.ledger.receive(ann, send.n, "id-0", run.places[send], 170.0)

    latency = run.verdict().latency_ms

    assert latency.longest == 250.0
    assert latency.p50 == latency.p99 == pytest.approx(250.0, rel=0.03)


def test_attempts_without_an_answer_are_counted_by_what_came_instead() -> None:
    run = Run()
    run.welcomed("ann")
    send = run.begun(ANN)
    for reason, at in (("503", 14.0), ("503", 11.0), ("TimeoutError", 12.0)):
        run.ledger.attempt(send, 10.0)
        run.ledger.retry(send, reason, at)
    run.ledger.refuse(run.begun(ANN), "403 forbidden", run.now)

    verdict = run.verdict()

    assert verdict.retries == {"503": 2, "TimeoutError": 1}
    assert verdict.slowest_attempt_seconds == 4.0
    assert (verdict.refused, verdict.refusals.count) == (1, 1)
    assert verdict.refusals.first[0].endswith("403 forbidden")


@given(st.lists(st.floats(1e-5, 160.0), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_is_right_to_a_few_percent(seconds: list[float], share: float) -> None:
    delays = Delays()
    for each in seconds:
        delays.add(each)

    exact = sorted(seconds)[max(0, -int(-len(seconds) * share // 1) - 1)]

    assert exact * 0.97 <= delays.quantile(share) <= exact * 1.03
    assert delays.longest_seconds == max(seconds)


@given(st.lists(st.floats(0.0, 500.0)), st.lists(st.floats(0.0, 500.0)))
def test_delays_together_are_the_delays_of_each(one: list[float], other: list[float]) -> None:
    parts = Delays(), Delays(), Delays()
    for part, seconds in zip(parts, (one, other, [*one, *other]), strict=True):
        for each in seconds:
            part.add(each)

    merged = Delays.merged(parts[:2])

    assert len(merged) == len(one) + len(other)
    assert [merged.quantile(share) for share in (0.5, 0.99)] == [parts[2].quantile(share) for share in (0.5, 0.99)]


@given(st.lists(st.integers(0, 200)))
def test_a_track_remembers_each_receipt_in_one_bit(indices: list[int]) -> None:
    track = Track()

    firsts = [index for index in indices if track.add(index)]

    assert firsts == list(dict.fromkeys(indices))
    assert track.bits == sum(1 << index for index in set(indices))
    assert track.size_bytes == (max(indices) // 8 + 1 if indices else 0)


def test_the_first_of_many_findings_are_told_and_all_are_counted() -> None:
    run = Run()
    run.welcomed("ann")
    for _ in range(100):
        run.accepted(ANN)

    lost = run.verdict().lost

    assert lost.count == 100
    assert len(lost.first) < 100
