"""Records: what is written is read back exactly, what is newer is passed over, what is broken is refused."""

import json
from struct import pack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifier.core.audience import EVERYONE, Address, Audience
from notifier.core.envelope import Envelope, Trace
from notifier.core.identity import Tenant
from notifier.core.ports import Item, Marker, Unknown
from notifier.journal.record import BrokenRecord, Kind, Stamp, Tick, decode, encode

PROPERTY = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

texts = st.text(max_size=12)
times = st.integers(min_value=0, max_value=2**53)
digests = st.none() | st.binary(min_size=16, max_size=16)
addresses = st.just(EVERYONE) | st.builds(Address, st.sampled_from(["user", "topic", "role"]), texts)
audiences = st.builds(
    Audience,
    st.lists(addresses, min_size=1, max_size=4).map(tuple),
    st.lists(addresses, max_size=3).map(tuple),
)
envelopes = st.builds(
    Envelope,
    id=texts,
    tenant=texts.map(Tenant),
    audience=audiences,
    sealed=st.binary(max_size=40),
    accepted_at_ms=times,
    expires_at_ms=times,
    live_only=st.booleans(),
    collapse_key=st.none() | texts,
    key_digest=digests,
    content_digest=digests,
    trace=st.none() | st.builds(Trace, texts, texts, st.none()),
)
items: st.SearchStrategy[Item] = envelopes | st.builds(Marker, texts)
STAMP = Stamp("e1", 41)
MARKER = {"nonce": "n", "epoch": "e1", "seen": 41}
HEADER = {"id": "x", "tenant": "acme", "to": ["ualice"], "accepted": 1, "expires": 2}
ALICES = Envelope("x", Tenant("acme"), Audience((Address("user", "alice"),)), b"{}", 1, 2)


def raw_item(kind: int, header: Any, sealed: bytes = b"") -> bytes:
    """An item as a newer, or a broken, writer would write it."""
    written = header if isinstance(header, bytes) else json.dumps(header).encode()
    return pack(">BII", kind, 4 + len(written) + len(sealed), len(written)) + written + sealed


def raw_record(*written: bytes, major: int = 1, minor: int = 0) -> bytes:
    return b"NTFY" + pack(">BBI", major, minor, len(written)) + b"".join(written)


@PROPERTY
@given(st.lists(items, max_size=5))
def test_what_is_written_is_read_back(written: list[Item]) -> None:
    assert decode(encode(written, STAMP))[:2] == (tuple(written), 0)


def test_a_trace_that_is_broken_is_none() -> None:
    """Nothing goes by it, and a notification must not be lost over it."""
    broken: list[dict[str, Any]] = [{"trace": 1}, {"trace": None}, {"trace": []}, {"trace": "x", "tracestate": 1}]
    for members in broken:
        assert decode(raw_record(raw_item(1, HEADER | members, b"{}"))).items == (ALICES,)


def test_what_only_the_origin_knows_of_a_trace_stays_there() -> None:
    written = ALICES._replace(trace=Trace("x", "y", object()))

    assert decode(encode([written], STAMP)).items == (ALICES._replace(trace=Trace("x", "y")),)


def test_a_full_record_round_trips() -> None:
    written: list[Item] = [Marker("m"), *[ALICES] * 999]

    assert decode(encode(written, STAMP)).items == tuple(written)


def test_ticks_and_markers_carry_the_stamp_of_their_writer() -> None:
    decoded = decode(encode([ALICES, Tick(), Marker("n")], STAMP))

    assert decoded.items == (ALICES, Unknown(Kind.TICK), Marker("n"))
    assert decoded.stamp == STAMP


def test_notifications_carry_no_stamp() -> None:
    assert decode(encode([ALICES], STAMP)).stamp is None


STAMPS_OF_NOBODY = [{}, {"epoch": "e"}, {"epoch": "", "seen": 1}, {"epoch": "é", "seen": 1}, {"epoch": "e", "seen": -2}]


@pytest.mark.parametrize("stamp", [*STAMPS_OF_NOBODY, {"epoch": "e", "seen": True}, {"epoch": "e" * 25, "seen": 1}])
def test_a_tick_without_a_stamp_that_can_be_read_is_refused(stamp: dict[str, object]) -> None:
    with pytest.raises(BrokenRecord, match="epoch"):
        decode(raw_record(raw_item(Kind.TICK, stamp)))


@pytest.mark.parametrize("kind", [Kind.WITHDRAW, Kind.STATE, Kind.PRESENCE, 200])
def test_an_unknown_kind_keeps_its_index(kind: int) -> None:
    # Not even its header is looked at: a new kind may have another.
    record = raw_record(raw_item(1, HEADER, b"{}"), raw_item(kind, b"\xff", b"rest"), raw_item(2, MARKER))

    decoded = decode(record)

    assert decoded.items == (ALICES, Unknown(kind), Marker("n"))
    assert decoded.skipped == 1


def test_unknown_header_names_are_skipped_and_counted() -> None:
    newer = raw_item(1, {**HEADER, "priority": 3, "deliver_at": {"deep": [1]}}, b"{}")

    assert decode(raw_record(newer, raw_item(2, {**MARKER, "other": 7})))[:2] == ((ALICES, Marker("n")), 3)


def test_a_newer_minor_is_read() -> None:
    assert decode(raw_record(raw_item(1, HEADER, b"{}"), minor=255)).items == (ALICES,)


@pytest.mark.parametrize("major", [0, 2, 255])
def test_another_major_is_refused(major: int) -> None:
    with pytest.raises(BrokenRecord, match="major"):
        decode(raw_record(raw_item(1, HEADER, b"{}"), major=major))


@PROPERTY
@given(st.lists(items, min_size=1, max_size=3), st.data())
def test_a_truncated_record_is_refused_wherever_it_ends(written: list[Item], data: st.DataObject) -> None:
    record = encode(written, STAMP)
    end = data.draw(st.integers(0, len(record) - 1))

    with pytest.raises(BrokenRecord):
        decode(record[:end])


def test_more_bytes_than_the_items_are_refused() -> None:
    with pytest.raises(BrokenRecord, match="end at byte"):
        decode(encode([ALICES], STAMP) + b"\0")


@PROPERTY
@given(st.lists(items, min_size=1, max_size=3), st.data())
def test_flipped_bytes_raise_nothing_but_the_one_error(written: list[Item], data: st.DataObject) -> None:
    record = bytearray(encode(written, STAMP))
    for at, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(record) - 1), st.integers(0, 255)), min_size=1, max_size=4)
    ):
        record[at] = byte

    assert_decodes_or_is_refused(bytes(record))


@PROPERTY
@given(st.binary(max_size=80))
def test_noise_raises_nothing_but_the_one_error(noise: bytes) -> None:
    assert_decodes_or_is_refused(noise)
    assert_decodes_or_is_refused(raw_record(raw_item(1, noise)))


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@PROPERTY
@given(st.sampled_from([*HEADER, "not", "live", "collapse", "key", "content"]), json_values)
def test_a_header_value_of_another_type_never_gets_into_an_envelope(name: str, value: Any) -> None:
    record = raw_record(raw_item(1, {**HEADER, name: value}, b"{}"))

    assert_decodes_or_is_refused(record)


WRONG_VALUES: dict[str, list[Any]] = {
    "to": [["xalice"], [""], "ualice", [["u", "alice"]], [1], None, {}],
    "not": [["xalice"], None, {"ualice": 1}],
    "accepted": [True, 1.0, "1", None],
    "key": ["zz", "0", 5, ["00"]],
    "live": [1],
    "collapse": [1],
    "tenant": [None],
    "id": [["x"]],
}


@pytest.mark.parametrize(
    "wrong",
    [{name: value} for name, values in WRONG_VALUES.items() for value in values],
    ids=str,
)
def test_a_header_value_of_another_type_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BrokenRecord):
        decode(raw_record(raw_item(1, {**HEADER, **wrong})))


@pytest.mark.parametrize("name", HEADER)
def test_a_header_without_a_name_that_every_notification_has_is_refused(name: str) -> None:
    header = {other: value for other, value in HEADER.items() if other != name}

    with pytest.raises(BrokenRecord):
        decode(raw_record(raw_item(1, header)))


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5_000,
        b'{"nonce":"n"}{"nonce":"n"}',
        b'{"nonce":"\xc3\xa9"}',
        b"[]",
        b"null",
        b"",
        {"nonce": 1},
        {},
    ],
    ids=lambda header: str(header)[:20],
)
def test_a_header_that_is_no_marker_is_refused(header: object) -> None:
    with pytest.raises(BrokenRecord):
        decode(raw_record(raw_item(2, header)))


def assert_decodes_or_is_refused(record: bytes) -> None:
    """Whatever the bytes say, the items that come out have the types that they promise, and can be written again."""
    try:
        decoded = decode(record)
    except BrokenRecord:
        return
    known = [item for item in decoded.items if not isinstance(item, Unknown)]

    assert all(has_the_types_of_an_envelope(item) for item in known if isinstance(item, Envelope))
    assert list(decode(encode(known, STAMP)).items) == known


def has_the_types_of_an_envelope(envelope: Envelope) -> bool:
    typed: list[tuple[type, object]] = [
        (str, envelope.id),
        (str, envelope.tenant),
        *((str, part) for address in envelope.audience.include for part in address),
        (int, envelope.accepted_at_ms),
        (int, envelope.expires_at_ms),
        (bool, envelope.live_only),
    ]
    optional: list[tuple[type, object]] = [
        (str, envelope.collapse_key),
        (bytes, envelope.key_digest),
        (bytes, envelope.content_digest),
    ]
    typed += [(wanted, value) for wanted, value in optional if value is not None]
    return all(type(value) is wanted for wanted, value in typed)
