"""Records as bytes: what one replica writes into the journal and every replica, also an older or newer one, reads.

    record = "NTFY", major, minor, number of items (4 bytes), items
    item   = kind (1 byte), length of the rest (4), length of the header (4), header, sealed bytes

Numbers are big-endian; a header is a compact JSON object of ASCII. A new minor adds kinds and header names, and readers
skip what they do not know; a new major changes the layout, and is refused. It knows no broker, hub or session.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from notifier.core.audience import Address, Audience
from notifier.core.audience import Kind as AddressKind
from notifier.core.envelope import Envelope, Trace
from notifier.core.identity import Tenant
from notifier.core.ports import Item, Marker, Unknown

MAGIC: Final = b"NTFY"
MAJOR: Final = 1
MINOR: Final = 1
# The limits of one record, whichever journal it is for.
MAX_RECORD_ITEMS: Final = 1_000
MAX_RECORD_BYTES: Final = 1024 * 1024
ITEM_BYTES: Final = 256  # About what an item costs beside its sealed bytes ...
ADDRESS_BYTES: Final = 128  # ... and its addresses, of which there may be a thousand.


class Kind(IntEnum):
    """What an item is. A number that was given once is never given again."""

    NOTIFICATION = 1
    MARKER = 2
    TICK = 3
    WITHDRAW = 4  # This one and the next have numbers so that nothing else takes them; nobody writes them yet.
    STATE = 5
    PRESENCE = 6


class BrokenRecord(ValueError):
    """The bytes are no record, or one of a major version that this reader does not know."""


class Stamp(NamedTuple):
    """What a writer takes for true: the epoch, and the highest offset that it had read; -1 makes it a proposal."""

    epoch: str
    seen: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Shows readers that the journal moves, and carries the stamp of its writer."""


class Decoded(NamedTuple):
    """What a record holds.

    `skipped` counts the items of unknown kinds and the header names that were passed over; `stamp` is that of the
    record's last tick or marker, None without one.
    """

    items: tuple[Item | Unknown, ...]
    skipped: int
    stamp: Stamp | None


_EPOCH: Final = re.compile(r"[A-Za-z0-9_-]{1,24}", re.ASCII)
_RECORD: Final = Struct(">4sBBI")
_ITEM: Final = Struct(">BII")
_to_json: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False).encode
_from_json: Final = json.JSONDecoder().raw_decode

_LETTERS: Final[Mapping[AddressKind, str]] = {"user": "u", "topic": "t", "role": "r", "everyone": "e"}
_ADDRESS_KINDS: Final[Mapping[str, AddressKind]] = {letter: kind for kind, letter in _LETTERS.items()}


def size_of(item: Item | Unknown) -> int:
    """About the bytes that an item takes, in a record or in memory."""
    if not isinstance(item, Envelope):
        return ITEM_BYTES
    addresses = len(item.audience.include) + len(item.audience.exclude)
    size = ITEM_BYTES + ADDRESS_BYTES * addresses + len(item.sealed)
    return size if item.trace is None else size + len(item.trace.parent) + len(item.trace.state)


def encode(items: Sequence[Item | Tick], stamp: Stamp) -> bytes:
    """Write a record of these items, in their order; its ticks and markers carry the stamp."""
    parts = [_RECORD.pack(MAGIC, MAJOR, MINOR, len(items))]
    for item in items:
        if isinstance(item, Envelope):
            kind, header, sealed = Kind.NOTIFICATION, _notification_header(item), item.sealed
        elif isinstance(item, Marker):
            kind, header, sealed = Kind.MARKER, _to_json({"nonce": item.nonce} | stamp._asdict()), b""
        else:
            kind, header, sealed = Kind.TICK, _to_json(stamp._asdict()), b""
        written = header.encode("ascii")
        parts += (_ITEM.pack(kind, 4 + len(written) + len(sealed), len(written)), written, sealed)
    return b"".join(parts)


def decode(record: bytes) -> Decoded:
    """Read a record; items of unknown kinds keep their places as `Unknown`. Raises BrokenRecord for anything else."""
    if len(record) < _RECORD.size:
        raise BrokenRecord(f"a record has at least {_RECORD.size} bytes, not {len(record)}")
    magic, major, _, count = _RECORD.unpack_from(record)
    if magic != MAGIC:
        raise BrokenRecord(f"a record begins with {MAGIC!r}, not {magic!r}")
    if major != MAJOR:
        raise BrokenRecord(f"this reader knows major version {MAJOR}, not {major}")
    items: list[Item | Unknown] = []
    skipped, at = 0, _RECORD.size
    last_stamp: Stamp | None = None
    while at < len(record) and len(items) < count:
        try:
            item, stamp, passed_over, at = _read_item(record, at)
        except BrokenRecord as error:
            raise BrokenRecord(f"item {len(items)}: {error}") from None
        items.append(item)
        skipped += passed_over
        last_stamp = stamp or last_stamp
    if len(items) != count or at != len(record):
        raise BrokenRecord(f"{len(items)} of {count} items end at byte {at} of {len(record)}")
    return Decoded(tuple(items), skipped, last_stamp)


def _read_item(record: bytes, at: int) -> tuple[Item | Unknown, Stamp | None, int, int]:
    """Read the item at this byte. Returns it, its stamp, what was passed over, and where the next begins."""
    start = at + _ITEM.size
    if start > len(record):
        raise BrokenRecord("its lengths are cut off")
    kind, length, header_length = _ITEM.unpack_from(record, at)
    sealed_at, end = start + header_length, start - 4 + length
    if not sealed_at <= end <= len(record):
        raise BrokenRecord("its lengths do not fit")
    reader = _READERS.get(kind)
    if reader is None:
        return Unknown(kind), None, 1, end
    read, names = reader
    header, passed_over = _read_header(record[start:sealed_at], names)
    stamp = None if kind == Kind.NOTIFICATION else _read_stamp(header)
    return read(header, record[sealed_at:end]), stamp, passed_over, end


def _read_header(written: bytes, names: frozenset[str]) -> tuple[Mapping[str, object], int]:
    try:
        header, end = _from_json(written.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise BrokenRecord(f"its header is not ASCII JSON: {error}") from None
    if type(header) is not dict or end != len(written):
        raise BrokenRecord("its header is not one object")
    return header, 0 if header.keys() <= names else len(header.keys() - names)


def _notification_header(envelope: Envelope) -> str:
    """Write the header member by member: an encoder made anew for each whole header takes three times as long."""
    members = [
        f'{{"id":{_to_json(envelope.id)}',
        f'"tenant":{_to_json(envelope.tenant)}',
        f'"to":{_address_array(envelope.audience.include)}',
        f'"accepted":{envelope.accepted_at_ms}',
        f'"expires":{envelope.expires_at_ms}',
    ]
    if envelope.audience.exclude:
        members.append(f'"not":{_address_array(envelope.audience.exclude)}')
    if envelope.live_only:
        members.append('"live":true')
    if envelope.collapse_key is not None:
        members.append(f'"collapse":{_to_json(envelope.collapse_key)}')
    if envelope.key_digest is not None:
        members.append(f'"key":"{envelope.key_digest.hex()}"')
    if envelope.content_digest is not None:
        members.append(f'"content":"{envelope.content_digest.hex()}"')
    if envelope.trace is not None:
        members.append(f'"trace":{_to_json(envelope.trace.parent)}')
        if envelope.trace.state:
            members.append(f'"tracestate":{_to_json(envelope.trace.state)}')
    return ",".join(members) + "}"


def _address_array(addresses: Sequence[Address]) -> str:
    return f"[{','.join([_to_json(_LETTERS[kind] + value) for kind, value in addresses])}]"


def _read_notification(header: Mapping[str, object], sealed: bytes) -> Envelope:
    get = header.get
    notification_id, tenant, collapse_key = get("id"), get("tenant"), get("collapse")
    accepted, expires, live_only = get("accepted"), get("expires"), get("live", False)
    if not (
        type(notification_id) is str
        and type(tenant) is str
        and type(accepted) is int
        and type(expires) is int
        and type(live_only) is bool
        and (collapse_key is None or type(collapse_key) is str)
    ):
        raise BrokenRecord("a name of its header is missing or has a value of another type")
    audience = Audience(_addresses(get("to")), _addresses(get("not")) if "not" in header else ())
    envelope = Envelope(notification_id, Tenant(tenant), audience, sealed, accepted, expires, live_only, collapse_key)
    if header.keys().isdisjoint(_SELDOM):
        return envelope
    return envelope._replace(
        key_digest=_digest(get("key")), content_digest=_digest(get("content")), trace=_read_trace(header)
    )


def _read_trace(header: Mapping[str, object]) -> Trace | None:
    """Nothing goes by a trace, so one that is broken is none."""
    parent, state = header.get("trace"), header.get("tracestate", "")
    return Trace(parent, state) if type(parent) is str and type(state) is str else None


def _read_marker(header: Mapping[str, object], _: bytes) -> Marker:
    if isinstance(nonce := header.get("nonce"), str):
        return Marker(nonce)
    raise BrokenRecord("a marker has a nonce")


def _read_tick(_: Mapping[str, object], __: bytes) -> Unknown:
    return Unknown(Kind.TICK)


def _read_stamp(header: Mapping[str, object]) -> Stamp:
    epoch, seen = header.get("epoch"), header.get("seen")
    if type(epoch) is not str or not _EPOCH.fullmatch(epoch) or type(seen) is not int or seen < -1:
        raise BrokenRecord("a tick or marker has the epoch of its writer, and how far it had read")
    return Stamp(epoch, seen)


def _addresses(texts: object) -> tuple[Address, ...]:
    if type(texts) is not list:
        raise BrokenRecord("its addresses are not an array")
    addresses = []
    for text in texts:
        if type(text) is not str or text[:1] not in _ADDRESS_KINDS:
            raise BrokenRecord("its addresses are not texts that begin with one of u, t, r, e")
        addresses.append(Address(_ADDRESS_KINDS[text[0]], text[1:]))
    return tuple(addresses)


def _digest(text: object) -> bytes | None:
    try:
        return None if text is None else bytes.fromhex(text)  # type: ignore[arg-type]  # a TypeError is what tells
    except (TypeError, ValueError):
        raise BrokenRecord("a digest is not hexadecimal") from None


_SELDOM: Final = frozenset({"key", "content", "trace"})
_Read = Callable[[Mapping[str, object], bytes], Item | Unknown]
_NAMES: Final = (
    *("id", "tenant", "to", "not", "accepted", "expires", "live", "collapse", "key", "content"),
    *("trace", "tracestate"),  # Since minor 1.
)
# By kind: how an item is read, and the header names that are known.
_READERS: Final[Mapping[int, tuple[_Read, frozenset[str]]]] = {
    Kind.NOTIFICATION: (_read_notification, frozenset(_NAMES)),
    Kind.MARKER: (_read_marker, frozenset(["nonce", "epoch", "seen"])),
    Kind.TICK: (_read_tick, frozenset(["epoch", "seen"])),
}
