"""Epochs and places: a stream that takes the place of another one is never taken for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from notifier.core.envelope import Position
from notifier.core.ports import Record
from notifier.journal.epochs import REMEMBERED_RECORDS, AnotherStream, Epochs, Message, NotThereYet, Place
from notifier.journal.record import Decoded, Stamp, Tick, decode, encode

BEGINNING = Position("", 0, 0)


def message(offset: int, *, batch_id: str | None = None, read_id: str | None = None) -> Message:
    return Message(offset, batch_id or f"m{offset}", read_id, b"")


def decoded(stamp: Stamp | None = None) -> Decoded:
    return Decoded((), 0, stamp)


def reading(*stamps: Stamp | None) -> Epochs:
    """Epochs that have read messages m0, m1, ... with these stamps; each was written by one that had read the last."""
    epochs = Epochs()
    for offset, stamp in enumerate(stamps):
        epochs.read(message(offset, read_id=f"m{offset - 1}"), stamp)
    return epochs


def settled_place(*, last: int = 5) -> Place:
    """A place that has read m0 to m<last>, in the epoch `a`."""
    place = Place(BEGINNING)
    for offset in range(last + 1):
        read(place, message(offset, read_id=f"m{offset - 1}"), Stamp("a", offset - 1))
    return place


def read(place: Place, news: Message, stamp: Stamp | None = None) -> list[Record]:
    assert place.is_news(news)
    return list(place.records(news, decoded(stamp)))


# -- epochs --------------------------------------------------------------------------------------------------------


def test_before_anything_is_in_force_the_first_proposal_is_taken() -> None:
    epochs = Epochs()

    changes = [epochs.read(message(0), Stamp("a", -1)), epochs.read(message(1), Stamp("b", -1))]

    assert (changes, epochs.in_force) == ([True, False], "a")


def test_a_proposal_is_made_once() -> None:
    """It may have been in force, for others, in a stream that is gone."""
    epochs = Epochs()

    assert epochs.stamp().seen == epochs.stamp().seen == -1
    assert epochs.stamp().epoch != epochs.stamp().epoch


def test_what_is_written_says_the_epoch_in_force_and_the_message_that_was_read_last() -> None:
    epochs = reading(Stamp("a", -1), None, None)

    assert (epochs.stamp(), epochs.read_id) == (Stamp("a", 2), "m2")


def test_the_newest_epoch_of_a_writer_that_has_read_the_same_is_in_force() -> None:
    epochs = reading(Stamp("a", -1), None)

    assert epochs.read(message(2, read_id="m1"), Stamp("b", 1))
    assert epochs.in_force == "b"


@pytest.mark.parametrize(("seen", "read_id"), [(1, "other"), (1, None), (0, "m1"), (2, "m1"), (900, "m900")])
def test_a_writer_that_has_not_read_the_same_is_ignored(seen: int, read_id: str | None) -> None:
    """It has read another stream, however short that one was."""
    epochs = reading(Stamp("a", -1), None)

    assert not epochs.read(message(2, read_id=read_id), Stamp("b", seen))
    assert epochs.in_force == "a"


def test_a_writer_that_has_read_what_was_before_us_is_not_judged() -> None:
    epochs = Epochs()
    epochs.read(message(7, read_id="m6"), Stamp("a", 6))
    nothing_in_force = epochs.in_force
    epochs.read(message(8, read_id="m7"), Stamp("a", 7))

    assert (nothing_in_force, epochs.in_force) == (None, "a")


def test_the_ids_that_are_remembered_are_bounded() -> None:
    epochs = reading(Stamp("a", -1), *[None] * REMEMBERED_RECORDS)
    last = REMEMBERED_RECORDS + 1

    assert not epochs.read(message(last, read_id="m0"), Stamp("b", 0))
    assert epochs.read(message(last + 1, read_id="m3"), Stamp("b", 3))


def test_a_distrusted_epoch_does_not_come_back_and_one_that_was_only_forgotten_does() -> None:
    for is_distrusted in (True, False):
        epochs = reading(Stamp("a", -1), None)
        epochs.forget(is_distrusted=is_distrusted)
        epochs.read(message(0), None)
        epochs.read(message(1, read_id="m0"), Stamp("a", 0))

        assert (epochs.in_force is None) == is_distrusted


def test_a_follower_that_begins_at_a_position_knows_its_epoch_but_proposes_until_it_has_read() -> None:
    place = Place(Position("a", 4, 0))
    before = place.epochs.stamp()
    (record,) = read(place, message(4))

    assert (before.seen, before.epoch != "a") == (-1, True)
    assert (record.epoch, record.offset, place.epochs.stamp()) == ("a", 5, Stamp("a", 4))


# -- places --------------------------------------------------------------------------------------------------------


def test_a_follower_without_a_position_begins_as_far_back_as_is_remembered() -> None:
    assert Place(BEGINNING).start() is None
    assert Place(Position("a", 4, 0)).start() == 4


def test_records_are_held_until_it_is_known_which_epoch_is_in_force() -> None:
    place = Place(BEGINNING)

    held = read(place, message(0)) + read(place, message(1))
    released = read(place, message(2), Stamp("a", -1))

    assert held == []
    assert [(record.epoch, record.offset, record.follows_gap) for record in released] == [
        ("a", 1, False),
        ("a", 2, False),
        ("a", 3, False),
    ]


def test_a_new_connection_that_finds_the_same_last_message_goes_on_without_repeat_and_without_gap() -> None:
    place = settled_place(last=5)

    start = place.start()
    is_news = place.is_news(message(5))
    (record,) = read(place, message(6))

    assert (start, is_news) == (5, False)
    assert (record.epoch, record.offset, record.follows_gap) == ("a", 7, False)


@pytest.mark.parametrize("found", [message(5, batch_id="other"), message(0), message(4)])
def test_another_message_in_the_place_of_the_last_begins_anew_behind_a_gap_in_another_epoch(found: Message) -> None:
    place = settled_place(last=5)
    place.start()

    with pytest.raises(AnotherStream):
        place.is_news(found)
    start = place.start()
    held = read(place, message(0, batch_id="n0")) + read(place, message(1, batch_id="n1", read_id="n0"), Stamp("a", 0))
    first, *_ = read(place, message(2, batch_id="n2"), Stamp("b", -1))

    assert (start, held) == (None, [])
    assert (first.epoch, first.offset, first.follows_gap) == ("b", 1, True)


def test_when_retention_took_the_last_message_the_epoch_may_go_on_behind_a_gap() -> None:
    place = settled_place(last=5)
    place.start()

    with pytest.raises(AnotherStream):
        place.is_news(message(90))
    start = place.start()
    read(place, message(90))
    first, *_ = read(place, message(91, read_id="m90"), Stamp("a", 90))

    assert (start, first.epoch, first.offset, first.follows_gap) == (None, "a", 91, True)


def test_a_message_that_comes_twice_over_one_connection_is_news_once() -> None:
    place = settled_place(last=5)

    assert not place.is_news(message(4))
    assert place.is_news(message(6))


def test_the_next_message_is_left_out_when_two_connections_in_a_row_died_of_it() -> None:
    place = settled_place(last=5)
    place.start()
    careful = [place.is_careful]
    left_out = [place.note_loss(is_undecodable=True)]
    careful.append(place.is_careful)
    place.start()
    left_out += [place.is_news(message(5)), place.note_loss(is_undecodable=True)]

    start = place.start()
    (record,) = read(place, message(7))

    assert (careful, left_out, start) == ([False, True], [False, False, True], 7)
    assert (record.offset, record.follows_gap) == (8, False)


def test_a_connection_lost_for_another_reason_in_between_begins_the_count_anew() -> None:
    place = settled_place()

    assert not any(place.note_loss(is_undecodable=dies) for dies in (True, False, True))


def test_a_loss_behind_a_message_that_was_left_out_leaves_no_other_out() -> None:
    """Going back to the one that was left out would kill two more connections, and then leave out its innocent heir."""
    place = settled_place(last=5)
    for _ in range(2):
        place.note_loss(is_undecodable=True)
    first = place.start()
    place.note_loss(is_undecodable=False)

    assert (first, place.start()) == (7, 7)


def test_a_stream_made_anew_is_noticed_also_behind_a_message_that_was_left_out() -> None:
    place = settled_place(last=5)
    for _ in range(2):
        place.note_loss(is_undecodable=True)
    place.start()

    with pytest.raises(AnotherStream):
        place.is_news(message(0, batch_id="n0"))


def test_a_place_that_hears_nothing_looks_at_the_end_of_the_stream() -> None:
    """A stream made anew is shorter, and an offset beyond its end stays silent until it has grown that far."""
    place = settled_place(last=5)
    place.start()
    place.note_silence()

    start = place.start()
    with pytest.raises(AnotherStream):
        place.is_news(message(1, batch_id="n1"))

    assert (start, place.start()) == ("last", None)


def test_the_end_of_the_same_stream_settles_the_doubt() -> None:
    place = settled_place(last=5)
    place.start()
    place.note_silence()
    place.start()

    news = [place.is_news(message(4)), place.is_news(message(5))]
    is_verified = place.is_verified
    (record,) = read(place, message(6))

    assert (news, is_verified) == ([False, False], True)
    assert (record.offset, record.follows_gap) == (7, False)


def test_a_stream_that_has_grown_meanwhile_is_read_from_the_last_message_again() -> None:
    place = settled_place(last=5)
    place.start()
    place.note_silence()
    place.start()

    with pytest.raises(NotThereYet):
        place.is_news(message(9))

    assert place.start() == 5


def test_a_verified_place_that_hears_nothing_has_no_doubt() -> None:
    place = settled_place(last=5)
    place.start()
    place.is_news(message(5))
    place.note_silence()

    assert place.start() == 5


# -- many replicas over streams that come and go -------------------------------------------------------------------


@dataclass
class Stream:
    """One of the streams that have the name in turn. None stands for a message that nobody can decode."""

    number: int
    first: int = 0
    messages: list[Message | None] = field(default_factory=list)
    is_poisoned: bool = False

    @property
    def end(self) -> int:
        return self.first + len(self.messages)


class Replica:
    """One replica: the real place and epochs; a window that holds of each record the stream that it came from."""

    def __init__(self) -> None:
        self.place = Place(BEGINNING)
        self.consumer: tuple[Stream, int] | None = None  # The stream, also when it is gone, and what comes next.
        self.unconfirmed: tuple[bytes, str | None] | None = None  # Written, and on its way into the stream.
        self.epoch = ""
        self.window: list[tuple[int, int]] = []  # Offset and number of the stream.

    def connect(self, stream: Stream, *, back: int) -> None:
        """Consume where the place says. What is gone is clamped in silence; beyond the end, nothing comes before it."""
        start = self.place.start()
        if start is None or start == "last":
            start = stream.end - back
        elif start == "next":
            start = stream.end
        self.consumer = stream, max(start, stream.first)

    def lose(self, *, is_undecodable: bool = False) -> None:
        if self.consumer is not None:
            self.consumer = None
            self.place.note_loss(is_undecodable=is_undecodable)

    def read(self) -> bool:
        """Read one message. False when there is none."""
        if self.consumer is None:
            return False
        stream, at = self.consumer
        at = max(at, stream.first)
        if at >= stream.end:
            return False
        self.consumer = stream, at + 1
        arrived = stream.messages[at - stream.first]
        if arrived is None:
            self.lose(is_undecodable=True)
            return True
        try:
            if self.place.is_news(arrived):
                self._take(self.place.records(arrived, decode(arrived.body)), stream.number)
        except (AnotherStream, NotThereYet):
            self.lose()
        return True

    def fall_silent(self) -> None:
        """Nothing came, for a while."""
        if self.consumer is not None and self.consumer[1] >= self.consumer[0].end:
            self.place.note_silence()
            self.lose()

    def _take(self, records: Sequence[Record], number: int) -> None:
        for record in records:
            if record.follows_gap or record.epoch != self.epoch:
                self.epoch, self.window = record.epoch, []
            self.window.append((record.offset, number))

    def write(self) -> None:
        epochs = self.place.epochs
        self.unconfirmed = encode([Tick()], epochs.stamp()), epochs.read_id


REPLICAS = st.integers(0, 2)


class Replicas(RuleBasedStateMachine):
    """Replicas that come and go, notice late, and write what was true when they wrote it."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = Stream(0)
        self.replicas: dict[int, Replica] = {}
        self.positions: set[tuple[str, int, int]] = set()  # Given to clients: epoch, offset, number of the stream.
        self.poisoned: set[tuple[int, int]] = set()
        self.batch_ids = (f"id{number}" for number in count())

    @rule(name=REPLICAS)
    def boot(self, name: int) -> None:
        self.replicas.setdefault(name, Replica())

    @rule(name=REPLICAS)
    def kill(self, name: int) -> None:
        self.replicas.pop(name, None)

    @rule(name=REPLICAS)
    def write(self, name: int) -> None:
        if (replica := self.replicas.get(name)) and replica.unconfirmed is None:
            replica.write()

    @rule(name=REPLICAS)
    def confirm(self, name: int) -> None:
        if replica := self.replicas.get(name):
            self._confirm(replica)

    def _confirm(self, replica: Replica) -> None:
        if replica.unconfirmed is not None:
            body, read_id = replica.unconfirmed
            self.stream.messages.append(Message(self.stream.end, next(self.batch_ids), read_id, body))
            replica.unconfirmed = None

    @rule(name=REPLICAS, back=st.integers(1, 20))
    def connect(self, name: int, back: int) -> None:
        if (replica := self.replicas.get(name)) and replica.consumer is None:
            replica.connect(self.stream, back=back)

    @rule(name=REPLICAS)
    def lose(self, name: int) -> None:
        if replica := self.replicas.get(name):
            replica.lose()

    @rule(name=REPLICAS)
    def fall_silent(self, name: int) -> None:
        if replica := self.replicas.get(name):
            replica.fall_silent()

    @rule(name=REPLICAS, most=st.integers(1, 8))
    def read(self, name: int, most: int) -> None:
        if replica := self.replicas.get(name):
            for _ in range(most):
                self._read(replica)

    def _read(self, replica: Replica) -> bool:
        has_read = replica.read()
        if replica.window:
            self.positions.add((replica.epoch, *replica.window[-1]))
        return has_read

    @precondition(lambda self: not self.stream.is_poisoned)
    @rule()
    def make_anew(self) -> None:
        """Not behind a poisoned message: who has left that one out cannot tell before the next one comes."""
        self.stream = Stream(self.stream.number + 1)

    @rule(most=st.integers(1, 3))
    def retain(self, most: int) -> None:
        dropped = min(most, len(self.stream.messages) - 1)
        if dropped > 0:
            self.stream.first += dropped
            del self.stream.messages[:dropped]

    @rule()
    def poison(self) -> None:
        self.poisoned.add((self.stream.end, self.stream.number))
        self.stream.is_poisoned = True
        self.stream.messages.append(None)

    @invariant()
    def no_position_is_resumed_over_a_hole(self) -> None:
        """A window is one piece of one stream, and what was given of another stream is not found in it."""
        for replica in self.replicas.values():
            if not replica.window:
                continue
            offsets = [offset for offset, _ in replica.window]
            (number,) = {number for _, number in replica.window}
            left_out = set(range(offsets[0], offsets[-1])) - set(offsets)
            assert all((offset - 1, number) in self.poisoned for offset in left_out)
            for epoch, offset, of_stream in self.positions:
                if epoch == replica.epoch and offsets[0] - 1 <= offset <= offsets[-1]:
                    assert of_stream == number

    def teardown(self) -> None:
        """Once each live replica has read to the end and ticked twice, they agree.

        Once is not enough for one that joins at the very end: it has read nothing by which to judge the others.
        """
        for _ in range(2):
            self._read_to_the_end()
            for replica in self.replicas.values():
                self._confirm(replica)
                replica.write()  # All at the same time, so that none knows of the others'.
            for replica in self.replicas.values():
                self._confirm(replica)
        self._read_to_the_end()
        assert len({replica.place.epochs.in_force for replica in self.replicas.values()}) <= 1

    def _read_to_the_end(self) -> None:
        for replica in self.replicas.values():
            if replica.consumer is not None and replica.consumer[0] is not self.stream:
                replica.lose()
            self._settle(replica)
        self.no_position_is_resumed_over_a_hole()

    def _settle(self, replica: Replica) -> None:
        """Read to the end of a stream that moves: a place in doubt writes a tick of its own, and looks again."""
        while True:
            if replica.consumer is None:
                replica.connect(self.stream, back=20)
            if self._read(replica) or replica.consumer is None:
                continue
            if replica.place.is_verified:
                return
            replica.fall_silent()
            self._confirm(replica)
            replica.write()
            self._confirm(replica)


Replicas.TestCase.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)
TestReplicas = Replicas.TestCase
