"""The part of the journal that can be replayed: a bounded ring of sealed envelopes, with an index per address.

A resume is a bisection in the few arrays of one person's addresses and a merge of them, not a scan. The window is
bounded by age, by index entries and by bytes. It knows no encodings, sessions or journals.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterator, Set
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from notifier.core.audience import Address
from notifier.core.envelope import Envelope, Position
from notifier.core.identity import Tenant

_Key = TypeVar("_Key")
BLOCK: Final = 256  # Ordinals that are taken from a track at a time.
COUNTED: Final = 10_000  # A replay of more is not counted before it begins; that many take some 20 ms.


class Entry(NamedTuple):
    """An envelope and its place."""

    position: Position
    envelope: Envelope


class Share(NamedTuple):
    """What a reader got: entries in journal order, and the ordinal it has now read up to."""

    entries: list[Entry]
    reached: int


class Track:
    """The ordinals at one address, oldest first. Dropping from the front costs amortised constant time."""

    __slots__ = ("_head", "_ordinals")

    def __init__(self) -> None:
        self._ordinals: list[int] = []
        self._head = 0

    def __len__(self) -> int:
        return len(self._ordinals) - self._head

    def append(self, ordinal: int) -> None:
        self._ordinals.append(ordinal)

    def drop_first(self) -> None:
        self._head += 1
        if self._head * 2 > len(self._ordinals):
            del self._ordinals[: self._head]
            self._head = 0

    def between(self, after: int, until: int, most: int) -> list[int]:
        """The first ordinals over `after` and up to `until`, at most so many."""
        ordinals = self._ordinals
        begin = bisect_right(ordinals, after, self._head)
        return ordinals[begin : bisect_right(ordinals, until, begin, min(begin + most, len(ordinals)))]

    def count_over(self, after: int) -> int:
        """How many ordinals are over `after`."""
        return len(self._ordinals) - bisect_right(self._ordinals, after, self._head)

    def newest_first(self, over: int) -> Iterator[int]:
        """The ordinals over `over`, newest first."""
        for at in range(len(self._ordinals) - 1, self._head - 1, -1):
            if self._ordinals[at] <= over:
                return
            yield self._ordinals[at]


@dataclass(slots=True, eq=False)
class _Tenancy:
    """What the window holds of one tenant."""

    entries: OrderedDict[int, Entry] = field(default_factory=OrderedDict)
    tracks: dict[Address, Track] = field(default_factory=dict)
    collapsing: dict[tuple[Address, str], Track] = field(default_factory=dict)
    size_bytes: int = 0
    index_entries: int = 0
    floor: int = 0  # The ordinal of the newest entry that was evicted: who has not read it cannot resume.
    floor_at_ms: int = 0


class Window:
    """Holds what was read from the journal, in its order.

    Args:
        start: the position before the first that will be appended.
        opened_at_ms: Unix milliseconds; nothing accepted earlier is here.
    """

    def __init__(
        self,
        start: Position,
        *,
        opened_at_ms: int,
        max_age_seconds: float = 3600,
        max_index_entries: int = 200_000,
        max_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self.start = start
        self.tail = start
        self._opened_at_ms = opened_at_ms
        self._max_age_ms = max_age_seconds * 1000
        self._max_index_entries = max_index_entries
        self._max_bytes = max_bytes
        self.evicted_by_age = 0
        self.evicted_by_size = 0  # In bytes or index entries, before their time.
        self._clear()

    def _clear(self) -> None:
        self._tenancies: dict[Tenant, _Tenancy] = {}
        self._order: OrderedDict[int, _Tenancy] = OrderedDict()  # every entry's tenant, oldest first
        self._over_half: set[_Tenancy] = set()  # Those that hold over half of the window; hardly ever more than one.
        self.index_entries = 0
        self.size_bytes = 0

    def cut(self, start: Position, *, opened_at_ms: int) -> None:
        """Begin anew behind `start`: what was held can no longer be joined to what comes."""
        self.start = self.tail = start
        self._opened_at_ms = opened_at_ms
        self._clear()

    def __len__(self) -> int:
        return len(self._order)

    @property
    def oldest_at_ms(self) -> int | None:
        """When the oldest entry was accepted, in Unix milliseconds; None while there is none."""
        if not self._order:
            return None
        oldest = next(iter(next(iter(self._order.values())).entries.values()))
        return oldest.envelope.accepted_at_ms

    def append(self, position: Position, envelope: Envelope) -> Entry:
        """Hold the envelope at its position, which is over the tail, and let go of what no longer fits."""
        tenancy = self._tenancies.get(envelope.tenant)
        if tenancy is None:
            tenancy = self._tenancies[envelope.tenant] = _Tenancy(floor=self.start.ordinal)
        ordinal = position.ordinal
        entry = tenancy.entries[ordinal] = Entry(position, envelope)
        self._order[ordinal] = tenancy
        for address in envelope.audience.include:
            _append(tenancy.tracks, address, ordinal)
            if envelope.collapse_key is not None:
                _append(tenancy.collapsing, (address, envelope.collapse_key), ordinal)
        self._count(tenancy, len(envelope.audience.include), len(envelope.sealed))
        self.tail = position
        if self.size_bytes > self._max_bytes or self.index_entries > self._max_index_entries:
            self._make_room()
        return entry

    def advance(self, position: Position) -> None:
        """Move the tail over items that are not held."""
        self.tail = position

    def holds_all_after(self, tenant: Tenant, position: Position) -> bool:
        """Tell whether everything of the tenant after the position is still here, so that a resume has no hole."""
        if position.epoch != self.tail.epoch:
            return False
        return self.floor(tenant).ordinal <= position.ordinal <= self.tail.ordinal

    def floor(self, tenant: Tenant) -> Position:
        """The oldest position from which this tenant's people can resume."""
        tenancy = self._tenancies.get(tenant)
        return self.start if tenancy is None else self.position_at(tenancy.floor)

    def position_at(self, ordinal: int) -> Position:
        """The position with this ordinal."""
        return Position.of(self.tail.epoch, ordinal)

    def available_since_ms(self, tenant: Tenant) -> int:
        """Unix milliseconds: everything accepted for the tenant after it is here."""
        tenancy = self._tenancies.get(tenant)
        return tenancy.floor_at_ms or self._opened_at_ms if tenancy else self._opened_at_ms

    def read(
        self,
        tenant: Tenant,
        addresses: Collection[Address],
        after: int,
        *,
        now_ms: int,
        max_bytes: int,
        until: int | None = None,
        only: Set[Address] | None = None,
    ) -> Share:
        """Return the next entries for somebody at these addresses, at most `max_bytes` of them but at least one.

        The expired and the superseded are left out. `reached` is `until` (the tail, when None) once all was read.
        `only` narrows what is read to some of the addresses; whom an entry excludes is still judged by all of them.
        """
        end = self.tail.ordinal if until is None else until
        tenancy = self._tenancies.get(tenant)
        if tenancy is None:
            return Share([], end)
        mine = frozenset(addresses)
        entries: list[Entry] = []
        newest: dict[str, int] = {}  # By collapse key; found once a key, since a chain of one can be long.
        room = max_bytes
        for ordinal in _merged(tenancy, mine if only is None else mine & only, after, end):
            entry = tenancy.entries[ordinal]
            envelope = entry.envelope
            if envelope.expires_at_ms <= now_ms or not envelope.audience.reaches(mine):
                continue
            if (key := envelope.collapse_key) is not None:
                if key not in newest:
                    newest[key] = _newest(tenancy, key, mine)
                if ordinal < newest[key]:
                    continue
            if entries and len(envelope.sealed) > room:
                return Share(entries, entries[-1].position.ordinal)
            entries.append(entry)
            room -= len(envelope.sealed)
        return Share(entries, end)

    def count(
        self,
        tenant: Tenant,
        addresses: Collection[Address],
        after: int,
        *,
        now_ms: int,
        only: Set[Address] | None = None,
    ) -> int | None:
        """Count what `read` would bring up to the tail; None where counting would hold up the others."""
        tenancy = self._tenancies.get(tenant)
        if tenancy is not None:
            read = frozenset(addresses) if only is None else frozenset(addresses) & only
            if (
                sum(tenancy.tracks[address].count_over(after) for address in read if address in tenancy.tracks)
                > COUNTED
            ):
                return None
        return len(self.read(tenant, addresses, after, now_ms=now_ms, max_bytes=self._max_bytes, only=only).entries)

    def find(self, tenant: Tenant, notification_id: str) -> Entry | None:
        """Look for one notification by its id: a scan, for operators only."""
        tenancy = self._tenancies.get(tenant)
        held = tenancy.entries.values() if tenancy else ()
        return next((entry for entry in held if entry.envelope.id == notification_id), None)

    def newest_of(self, tenant: Tenant, collapse_key: str, addresses: Set[Address]) -> Entry | None:
        """The newest entry of a collapse key that is meant for somebody at these addresses."""
        tenancy = self._tenancies.get(tenant)
        return None if tenancy is None else tenancy.entries.get(_newest(tenancy, collapse_key, frozenset(addresses)))

    def tenant_with(self, notification_id: str) -> Tenant | None:
        """The tenant that a notification is in, if it is here: a scan, for operators only."""
        return next((tenant for tenant in self._tenancies if self.find(tenant, notification_id)), None)

    def expire(self, now_ms: int) -> None:
        """Let go of entries over the age."""
        while self._order:
            tenancy = next(iter(self._order.values()))
            oldest = next(iter(tenancy.entries.values()))
            if now_ms - oldest.envelope.accepted_at_ms <= self._max_age_ms:
                return
            self._evict_oldest_of(tenancy)
            self.evicted_by_age += 1

    def _make_room(self) -> None:
        """Evict the globally oldest; but first of a tenant that holds over half while others need it."""
        while self._order and (self.size_bytes > self._max_bytes or self.index_entries > self._max_index_entries):
            if self._over_half:
                self._evict_oldest_of(max(self._over_half, key=self._weight))
            else:
                self._evict_oldest_of(next(iter(self._order.values())))
            self.evicted_by_size += 1

    def _evict_oldest_of(self, tenancy: _Tenancy) -> None:
        ordinal, (_, envelope) = tenancy.entries.popitem(last=False)
        del self._order[ordinal]
        for address in envelope.audience.include:
            _drop_first(tenancy.tracks, address)
            if envelope.collapse_key is not None:
                _drop_first(tenancy.collapsing, (address, envelope.collapse_key))
        self._count(tenancy, -len(envelope.audience.include), -len(envelope.sealed))
        tenancy.floor = ordinal
        tenancy.floor_at_ms = envelope.accepted_at_ms

    def _count(self, tenancy: _Tenancy, entries: int, size: int) -> None:
        self.index_entries += entries
        self.size_bytes += size
        tenancy.index_entries += entries
        tenancy.size_bytes += size
        if tenancy.size_bytes * 2 > self._max_bytes or tenancy.index_entries * 2 > self._max_index_entries:
            self._over_half.add(tenancy)
        elif self._over_half:
            self._over_half.discard(tenancy)

    def _weight(self, tenancy: _Tenancy) -> float:
        """The share of the whole window that a tenant holds, by bytes or by index entries."""
        return max(tenancy.size_bytes / self._max_bytes, tenancy.index_entries / self._max_index_entries)


def _merged(tenancy: _Tenancy, mine: frozenset[Address], after: int, until: int) -> Iterator[int]:
    """The ordinals at any of the addresses, in order, each once.

    Block by block, since a set and a sort of a block cost a tenth of a merge in Python, and most readers want few.
    """
    tracks = [track for address in mine if (track := tenancy.tracks.get(address))]
    while after < until:
        parts = [track.between(after, until, BLOCK) for track in tracks]
        # Behind the end of a part that is full, its track may hold what another part is ahead of.
        end = min([part[-1] for part in parts if len(part) == BLOCK], default=until)
        yield from sorted(ordinal for ordinal in set().union(*parts) if ordinal <= end)
        after = end


def _newest(tenancy: _Tenancy, collapse_key: str, mine: frozenset[Address]) -> int:
    """The ordinal of the newest of the key that is meant for this somebody; there is one."""
    newest = -1
    for address in mine:
        if track := tenancy.collapsing.get((address, collapse_key)):
            over = (at for at in track.newest_first(newest) if tenancy.entries[at].envelope.audience.reaches(mine))
            newest = next(over, newest)
    return newest


def _append(tracks: dict[_Key, Track], key: _Key, ordinal: int) -> None:
    track = tracks.get(key)
    if track is None:
        track = tracks[key] = Track()
    track.append(ordinal)


def _drop_first(tracks: dict[_Key, Track], key: _Key) -> None:
    track = tracks[key]
    track.drop_first()
    if not track:
        del tracks[key]
