"""The window: what it holds, what it lets go of and for whom, and reading it against a model that scans everything."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifier.core.audience import EVERYONE, Address
from notifier.core.envelope import Envelope, Position
from notifier.core.identity import Tenant
from notifier.core.window import BLOCK, COUNTED, Entry, Track, Window
from tests.core.builders import ACME, NEVER, OTHER, at, envelope, role, topic, user

MAX_BYTES = 60
MAX_INDEX_ENTRIES = 14
TENANTS = [Tenant("t0"), Tenant("t1"), Tenant("t2")]
INCLUDED = [EVERYONE, user("alice"), user("bob"), topic("orders"), role("admin")]
EXCLUDED = [user("alice"), role("admin")]
PEOPLE = [
    frozenset([EVERYONE, user("alice")]),
    frozenset([EVERYONE, user("alice"), role("admin"), topic("orders")]),
    frozenset([EVERYONE, user("bob"), topic("orders")]),
]
SMALL_BYTES, MANY_ENTRIES = 30, 10**6


def window(*, max_bytes: int = 10**6, max_index_entries: int = MANY_ENTRIES, max_age_seconds: float = 3600) -> Window:
    return Window(
        at(0),
        opened_at_ms=5,
        max_bytes=max_bytes,
        max_index_entries=max_index_entries,
        max_age_seconds=max_age_seconds,
    )


def fill(filled: Window, envelopes: Iterable[Envelope]) -> None:
    for offset, item in enumerate(envelopes, start=filled.tail.offset + 1):
        filled.append(at(offset), item)


def ids(entries: Sequence[Entry]) -> list[str]:
    return [entry.envelope.id for entry in entries]


def read(filled: Window, *addresses: Address, tenant: Tenant = ACME, after: int = 0, now_ms: int = 0) -> list[str]:
    return ids(filled.read(tenant, addresses, after, now_ms=now_ms, max_bytes=10**9).entries)


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_bytes_are_bounded_and_the_oldest_goes_first() -> None:
    filled = window(max_bytes=SMALL_BYTES)

    fill(filled, [envelope(name=f"n{number}", sealed=b"x" * 10) for number in range(5)])

    assert filled.size_bytes == 30
    assert read(filled, EVERYONE) == ["n2", "n3", "n4"]


def test_index_entries_are_bounded_and_an_envelope_counts_once_for_each_address() -> None:
    filled = window(max_index_entries=5)

    fill(filled, [envelope(user("a"), user("b"), name=f"n{number}") for number in range(5)])

    assert filled.index_entries == 4
    assert read(filled, user("b")) == ["n3", "n4"]


def test_age_is_bounded() -> None:
    filled = window(max_age_seconds=10)
    fill(filled, [envelope(name=f"n{second}", accepted_at_ms=second * 1000) for second in range(5)])

    filled.expire(12_000)

    assert read(filled, EVERYONE) == ["n2", "n3", "n4"]
    assert not filled.holds_all_after(ACME, at(1))
    assert filled.holds_all_after(ACME, at(2))


def test_an_envelope_over_the_whole_window_is_not_held_and_leaves_no_silent_hole() -> None:
    filled = window(max_bytes=SMALL_BYTES)

    filled.append(at(1), envelope(sealed=b"x" * 31))

    assert len(filled) == 0
    assert not filled.holds_all_after(ACME, at(0))
    assert filled.holds_all_after(ACME, at(1))


# -- fairness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flood_audience", [[EVERYONE], [user(f"u{number}") for number in range(10)]])
def test_a_flood_of_one_tenant_evicts_nothing_of_another(flood_audience: list[Address]) -> None:
    filled = window(max_bytes=1_000, max_index_entries=100)
    fill(filled, [envelope(name=f"quiet{number}", tenant=OTHER, sealed=b"x" * 10) for number in range(40)])

    fill(filled, [envelope(*flood_audience, tenant=ACME, sealed=b"x" * 90) for _ in range(500)])

    assert len(read(filled, EVERYONE, tenant=OTHER)) == 40
    assert filled.holds_all_after(OTHER, at(0))
    assert filled.size_bytes <= 1_000


def test_a_lone_tenant_may_have_the_whole_window() -> None:
    filled = window(max_bytes=1_000)

    fill(filled, [envelope(sealed=b"x" * 10) for _ in range(100)])

    assert len(filled) == 100


def test_a_tenant_with_the_whole_window_gives_way_to_those_who_come() -> None:
    filled = window(max_bytes=1_000)
    fill(filled, [envelope(tenant=ACME, sealed=b"x" * 10) for _ in range(100)])

    fill(filled, [envelope(tenant=OTHER, sealed=b"x" * 10) for _ in range(50)])

    assert filled.holds_all_after(OTHER, at(100))
    assert len(read(filled, EVERYONE, tenant=ACME)) == 50


def test_a_tenant_that_has_given_way_is_one_like_any_other() -> None:
    filled = window(max_bytes=1_000)
    fill(filled, [envelope(tenant=ACME, sealed=b"x" * 10) for _ in range(100)])
    fill(filled, [envelope(tenant=OTHER, sealed=b"x" * 10) for _ in range(50)])
    fill(filled, [envelope(tenant=ACME, sealed=b"x" * 10) for _ in range(5)])
    had = len(read(filled, EVERYONE, tenant=ACME))

    fill(filled, [envelope(tenant=Tenant("third"), sealed=b"x" * 10) for _ in range(49)])
    fill(filled, [envelope(tenant=Tenant("fourth"), sealed=b"x" * 10) for _ in range(20)])

    assert had == 50
    assert len(read(filled, EVERYONE, tenant=ACME)) == 5
    assert len(read(filled, EVERYONE, tenant=OTHER)) == 26


def test_a_tenant_that_outgrew_another_heavy_one_is_found_out() -> None:
    """By bytes one holds over half, by index entries another: a third one that holds little loses nothing."""
    filled = window(max_bytes=1_000, max_index_entries=100)
    small = Tenant("small")
    fill(filled, [envelope(tenant=small, name="first", sealed=b"x")])
    fill(filled, [envelope(tenant=ACME, sealed=b"x" * 90) for _ in range(10)])
    fill(filled, [envelope(*[user(f"u{n}") for n in range(8)], tenant=OTHER, sealed=b"x") for _ in range(10)])

    fill(filled, [envelope(tenant=small, sealed=b"x") for _ in range(30)])

    assert read(filled, EVERYONE, tenant=small)[0] == "first"


# -- reading ---------------------------------------------------------------------------------------------------------


def test_a_read_is_cut_into_chunks_that_join_to_the_whole() -> None:
    filled = window()
    fill(filled, [envelope(name=f"n{number}", sealed=b"x" * (number % 7 + 1)) for number in range(40)])
    chunks, after = [], 0
    while after < filled.tail.ordinal:
        share = filled.read(ACME, [EVERYONE], after, now_ms=0, max_bytes=10)
        chunks.append(share.entries)
        after = share.reached

    assert [name for chunk in chunks for name in ids(chunk)] == [f"n{number}" for number in range(40)]
    assert all(sum(len(entry.envelope.sealed) for entry in chunk) <= 10 for chunk in chunks)


def test_a_chunk_holds_at_least_one_entry_however_large() -> None:
    filled = window()
    fill(filled, [envelope(name="large", sealed=b"x" * 100), envelope(name="next")])

    share = filled.read(ACME, [EVERYONE], 0, now_ms=0, max_bytes=10)

    assert (ids(share.entries), share.reached) == (["large"], at(1).ordinal)


def test_a_read_goes_no_further_than_it_is_told() -> None:
    filled = window()
    fill(filled, [envelope(name=f"n{number}") for number in range(1, 6)])

    share = filled.read(ACME, [EVERYONE], at(1).ordinal, now_ms=0, max_bytes=100, until=at(3).ordinal)

    assert (ids(share.entries), share.reached) == (["n2", "n3"], at(3).ordinal)


def test_the_newest_of_a_collapse_key_is_read_alone_and_in_its_own_place() -> None:
    filled = window()
    names = ["old", "between", "new", "after"]
    fill(filled, [envelope(name=name, collapse_key="k" if name in {"old", "new"} else None) for name in names])

    assert read(filled, EVERYONE) == ["between", "new", "after"]


def test_a_newer_one_that_is_not_for_the_reader_supersedes_nothing() -> None:
    filled = window()
    fill(filled, [envelope(name="mine", collapse_key="k"), envelope(exclude=[user("alice")], collapse_key="k")])

    assert read(filled, EVERYONE, user("alice")) == ["mine"]


def test_a_narrowed_read_still_heeds_whom_an_entry_excludes_and_what_superseded_it() -> None:
    filled = window()
    orders = topic("orders")
    fill(filled, [envelope(orders, exclude=[user("alice")], name="not for alice"), envelope(orders, name="orders")])
    fill(filled, [envelope(orders, name="old", collapse_key="k"), envelope(user("alice"), collapse_key="k")])
    alice = [EVERYONE, user("alice"), orders]

    share = filled.read(ACME, alice, 0, now_ms=0, max_bytes=10**6, only={orders})

    assert ids(share.entries) == ["orders"]
    assert filled.count(ACME, alice, 0, now_ms=0, only={orders}) == 1


def test_a_narrowed_read_brings_nothing_of_an_address_that_the_reader_has_no_more() -> None:
    filled = window()
    fill(filled, [envelope(topic("orders")), envelope(topic("orders"), user("alice"))])
    alice = [EVERYONE, user("alice")]

    assert filled.read(ACME, alice, 0, now_ms=0, max_bytes=100, only={topic("orders")}).entries == []


def test_a_tenant_that_was_never_heard_of_reads_nothing_and_has_missed_nothing() -> None:
    filled = window()
    fill(filled, [envelope(tenant=ACME)])

    assert read(filled, EVERYONE, tenant=OTHER) == []
    assert filled.holds_all_after(OTHER, at(0))
    assert filled.floor(OTHER) == at(0)


def test_a_position_of_another_epoch_or_ahead_is_not_held() -> None:
    filled = window()
    fill(filled, [envelope()])

    assert filled.holds_all_after(ACME, at(1))
    assert not filled.holds_all_after(ACME, at(1, epoch="other"))
    assert not filled.holds_all_after(ACME, at(1, 1))


def test_what_is_available_since_is_told_by_the_last_that_was_let_go() -> None:
    filled = window(max_bytes=SMALL_BYTES)
    opened_since = filled.available_since_ms(ACME)
    fill(filled, [envelope(sealed=b"x" * 10, accepted_at_ms=100 + number) for number in range(5)])

    assert (opened_since, filled.available_since_ms(ACME), filled.available_since_ms(OTHER)) == (5, 101, 5)


def test_one_notification_is_found_by_its_id_in_its_tenant_only() -> None:
    filled = window()
    fill(filled, [envelope(name="x"), envelope(name="y")])

    found = filled.find(ACME, "y")

    assert found is not None
    assert (found.position, filled.find(ACME, "z"), filled.find(OTHER, "y")) == (at(2), None, None)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(-1, 9), max_size=60), st.integers(0, 200), st.integers(0, 200), st.integers(1, 70))
def test_a_track_is_a_list_that_loses_its_front(steps: list[int], after: int, until: int, most: int) -> None:
    track, last = Track(), 0
    model: list[int] = []
    for step in steps:
        if step < 0 and model:
            track.drop_first()
            model.pop(0)
        elif step >= 0:
            last += step + 1
            track.append(last)
            model.append(last)

    assert len(track) == len(model)
    assert track.between(after, until, most) == [ordinal for ordinal in model if after < ordinal <= until][:most]
    assert list(track.newest_first(after)) == [ordinal for ordinal in reversed(model) if ordinal > after]


# -- against a model that scans --------------------------------------------------------------------------------------


@dataclass
class Scan:
    """Everything that was ever appended, and which of it must still be here; slow, and plainly right."""

    appended: list[tuple[Position, Envelope]]

    def expected(self, tenant: Tenant, mine: frozenset[Address], after: Position, now_ms: int) -> list[str]:
        meant = [
            item
            for position, item in self.appended
            if item.tenant == tenant and position > after and item.audience.reaches(mine)
        ]
        return [
            item.id
            for number, item in enumerate(meant)
            if item.expires_at_ms > now_ms
            and (item.collapse_key is None or all(n.collapse_key != item.collapse_key for n in meant[number + 1 :]))
        ]

    def held(self, of: Window) -> dict[str, Envelope]:
        return {item.id: item for _, item in self.appended if of.find(item.tenant, item.id)}


sent_envelopes = st.builds(
    envelope,
    st.sampled_from(INCLUDED),
    st.sampled_from(INCLUDED),
    exclude=st.lists(st.sampled_from(EXCLUDED), max_size=1),
    tenant=st.sampled_from([TENANTS[0], TENANTS[0], *TENANTS]),
    sealed=st.integers(1, 20).map(lambda size: b"x" * size),
    expires_at_ms=st.sampled_from([NEVER, NEVER, 15]),
    collapse_key=st.sampled_from([None, None, "k", "j"]),
)


@pytest.fixture(params=[2, BLOCK], ids=["in blocks of two", "in blocks"], scope="module")
def block(request: pytest.FixtureRequest) -> Iterator[int]:
    """What is taken from a track at a time: as in service, and so few that every reading takes several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("notifier.core.window.BLOCK", request.param)
        yield request.param


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.one_of([sent_envelopes] * 8 + [st.sampled_from(["skip", "expire"])]), max_size=40),
    st.sampled_from([0, 20]),
)
def test_any_history_reads_as_a_scan_of_it_or_is_known_to_have_a_hole(
    block: int, history: list[Envelope | str], now_ms: int
) -> None:
    filled = window(max_bytes=MAX_BYTES, max_index_entries=MAX_INDEX_ENTRIES, max_age_seconds=10)
    scan = Scan([])
    positions = [at(0)]
    for offset, doing in enumerate(history, start=1):
        positions.append(at(offset))
        if isinstance(doing, Envelope):
            before = scan.held(filled)
            filled.append(at(offset), doing)
            scan.appended.append((at(offset), doing))
            assert_bounded(filled, scan)
            assert_fair(before | {doing.id: doing}, scan.held(filled))
            continue
        filled.advance(at(offset))
        if doing == "expire":
            filled.expire(20_000)
            assert len(filled) == 0
    held = scan.held(filled)

    for tenant in TENANTS:
        for position in positions:
            everything = {item.id for place, item in scan.appended if item.tenant == tenant and place > position}
            assert filled.holds_all_after(tenant, position) == (everything <= held.keys())
            if filled.holds_all_after(tenant, position):
                for mine in PEOPLE:
                    share = filled.read(tenant, mine, position.ordinal, now_ms=now_ms, max_bytes=10**9)
                    assert ids(share.entries) == scan.expected(tenant, mine, position, now_ms)
                    assert filled.count(tenant, mine, position.ordinal, now_ms=now_ms) == len(share.entries)


def assert_bounded(filled: Window, scan: Scan) -> None:
    held = scan.held(filled).values()
    assert filled.size_bytes == sum(len(item.sealed) for item in held) <= MAX_BYTES
    assert filled.index_entries == sum(len(item.audience.include) for item in held) <= MAX_INDEX_ENTRIES
    assert len(filled) == len(held)


def assert_fair(before: dict[str, Envelope], after: dict[str, Envelope]) -> None:
    """Who held at most half loses something only when nobody holds over half any more; and nobody loses needlessly."""
    losers = {before[name].tenant for name in before.keys() - after.keys()}
    if losers:
        assert (
            sum(len(item.sealed) for item in before.values()) > MAX_BYTES
            or sum(len(item.audience.include) for item in before.values()) > MAX_INDEX_ENTRIES
        )
    if all(weight(before, tenant) <= 0.5 for tenant in TENANTS):
        assert list(after) == list(before)[len(before) - len(after) :]  # The oldest of all went.
    if any(weight(before, loser) <= 0.5 for loser in losers):
        assert all(weight(after, tenant) <= 0.5 for tenant in TENANTS)


def weight(held: dict[str, Envelope], tenant: Tenant) -> float:
    mine = [item for item in held.values() if item.tenant == tenant]
    return max(
        sum(len(item.sealed) for item in mine) / MAX_BYTES,
        sum(len(item.audience.include) for item in mine) / MAX_INDEX_ENTRIES,
    )


def test_a_replay_of_very_much_is_not_counted_before_it_begins() -> None:
    filled = window()
    fill(filled, [envelope() for _ in range(COUNTED + 1)])
    first = next(iter(filled.read(ACME, [EVERYONE], 0, now_ms=0, max_bytes=1).entries)).position

    assert filled.count(ACME, [EVERYONE], 0, now_ms=0) is None
    assert filled.count(ACME, [EVERYONE], first.ordinal, now_ms=0) == COUNTED


# -- cuts ------------------------------------------------------------------------------------------------------------


def test_a_window_that_is_cut_holds_nothing_and_begins_behind_the_cut() -> None:
    cut = window()
    fill(cut, [envelope(user("alice"), collapse_key="k"), envelope(EVERYONE, tenant=OTHER)])

    cut.cut(at(9), opened_at_ms=77)

    assert (len(cut), cut.size_bytes, cut.index_entries) == (0, 0, 0)
    assert (cut.start, cut.tail, cut.floor(ACME), cut.floor(OTHER)) == (at(9),) * 4
    assert cut.available_since_ms(ACME) == cut.available_since_ms(OTHER) == 77
    assert read(cut, EVERYONE, user("alice")) == read(cut, EVERYONE, tenant=OTHER) == []


@pytest.mark.parametrize(
    ("position", "is_held"),
    [
        (at(2), False),
        (at(2, 2**20 - 2), False),
        (Position.before_record("e", 3), True),
        (at(3), True),
        (at(3, 1), True),
        (at(3, 2), False),
        (at(3, epoch="other"), False),
    ],
)
def test_who_read_up_to_a_gap_cannot_resume_over_it(position: Position, is_held: bool) -> None:
    """Nobody knows what was between the last record that was read, 2, and the next, 3."""
    cut = window()
    fill(cut, [envelope(), envelope()])
    cut.cut(Position.before_record("e", 3), opened_at_ms=0)
    cut.append(at(3), envelope(name="a"))
    cut.append(at(3, 1), envelope(name="b"))

    assert cut.holds_all_after(ACME, position) == is_held
    assert cut.holds_all_after(OTHER, position) == is_held
    assert read(cut, EVERYONE) == ["a", "b"]


def test_a_window_that_was_cut_is_bounded_like_a_new_one() -> None:
    cut = window(max_bytes=SMALL_BYTES)
    fill(cut, [envelope(sealed=b"x" * 20, tenant=tenant) for tenant in (ACME, OTHER, ACME)])
    cut.cut(at(9), opened_at_ms=0)

    fill(cut, [envelope(name=f"n{number}", sealed=b"x" * 10) for number in range(5)])
    cut.expire(10**9)

    assert (len(cut), cut.size_bytes, cut.index_entries) == (0, 0, 0)
    assert cut.floor(ACME) == at(14)
