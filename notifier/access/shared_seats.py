"""The seats of all replicas, in Redis: which sessions a user, a tenant and an address have, and where.

A replica keeps its sessions in sorted sets of its own, by the time they were opened, and says each second that it
lives. Only the sets of those that live are counted: so the sessions of one that crashed are free after some seconds,
and none needs a lease of its own. Whenever a replica cannot be sure that Redis knows its sessions, it enters them anew
under another name, and the old name dies out.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from notifier.access.seats import Claim, Seat, SeatLimits
from notifier.access.shared import REACH_SECONDS, Shared

BEAT_SECONDS: Final = 1.0
KEPT_MS: Final = 3_600_000
"""How long the sets of a dead replica take up room; those of a living one are touched more often."""
TOUCHED_SECONDS: Final = 1_200.0
SLICE: Final = 500  # Sessions in one call: some milliseconds of Redis, which does one thing at a time.

_NOW: Final = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "
# KEYS: the replicas. ARGV: my name, session, opened at, evicts, prefix of evictions, kept; then key and limit of the
# address, the tenant and the user. Returns whether one of mine is to be closed, or what is over its limit, or that I am
# unknown. Who is to be closed is told by the next beat, here as elsewhere: an answer may be late, and is lost then.
_CLAIM: Final = (
    _NOW
    + """
local me, session, evicts = ARGV[1], ARGV[2], ARGV[4] == '1'
local living, known = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf'), false
for _, name in ipairs(living) do known = known or name == me end
if not known then return {'unknown'} end
local function count(key)
  local total = 0
  for _, name in ipairs(living) do total = total + redis.call('ZCARD', key .. ':' .. name) end
  return total
end
local outcome = {'seated'}
local function evict(key)
  local owner, oldest, opened = nil, nil, nil
  for _, name in ipairs(living) do
    local first = redis.call('ZRANGE', key .. ':' .. name, 0, 0, 'WITHSCORES')
    if first[1] and (not opened or tonumber(first[2]) < opened) then
      owner, oldest, opened = name, first[1], tonumber(first[2])
    end
  end
  redis.call('ZREM', key .. ':' .. owner, oldest)
  redis.call('RPUSH', ARGV[5] .. owner, oldest)
  redis.call('PEXPIRE', ARGV[5] .. owner, ARGV[6])
  if owner == me then outcome[2] = 'here' end
end
local kinds = {'address', 'tenant', 'user'}
for i, kind in ipairs(kinds) do
  local over = count(ARGV[5 + 2 * i]) >= tonumber(ARGV[6 + 2 * i])
  if over and (not evicts or kind == 'address') then return {kind} end
end
for i, kind in ipairs(kinds) do
  local key = ARGV[5 + 2 * i]
  for _ = 1, 100 do
    if kind == 'address' or count(key) < tonumber(ARGV[6 + 2 * i]) then break end
    evict(key)
  end
  redis.call('ZADD', key .. ':' .. me, ARGV[3], session)
  redis.call('PEXPIRE', key .. ':' .. me, ARGV[6])
end
return outcome
"""
)
# ARGV: kept; then key, opened at and session of each, in the order in which they came and went; no time: it went.
_WRITE: Final = """
for i = 2, #ARGV, 3 do
  if ARGV[i + 1] == '' then
    redis.call('ZREM', ARGV[i], ARGV[i + 2])
  else
    redis.call('ZADD', ARGV[i], 'NX', ARGV[i + 1], ARGV[i + 2])
    redis.call('PEXPIRE', ARGV[i], ARGV[1])
  end
end
"""
# KEYS: the replicas, the evictions of this one. ARGV: my name, how long I live. Returns whether I was known, and whom I
# am to close.
_BEAT: Final = (
    _NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 1)
local is_new = redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return {is_new, redis.call('LPOP', KEYS[2], 1000) or {}}
"""
)


class _Change(NamedTuple):
    seat: Seat
    is_taken: bool  # Else it was given back.


class SharedSeats:
    """This replica's part of the seats of all.

    Args:
        seats: those of this replica, at this moment.
        evict: told of each session that is to end, since its seat was given to a newer one.
        lives_seconds: without a beat for so long, a replica is taken for dead.
    """

    def __init__(
        self,
        shared: Shared,
        *,
        seats: Callable[[], Iterable[Seat]],
        evict: Callable[[str], None],
        lives_seconds: float = 10.0,
    ) -> None:
        self._shared = shared
        self._seats = seats
        self._evict = evict
        self._lives_ms = int(lives_seconds * 1000)
        self._replicas = f"{shared.prefix}:replicas"
        self._name = ""  # Another one each time that Redis is reached.
        self._is_entering = False
        self._beat_at = 0.0  # By the loop's clock; 0: now.
        # What Redis is to be told, in its order: one that is entered after it was freed would count for ever. Taken
        # are those that came while the others were being entered, or without an answer in time.
        self._changes: deque[_Change] = deque()
        self._claim_script, self._write_script, self._beat_script = (
            shared.client.register_script(script) for script in (_CLAIM, _WRITE, _BEAT)
        )

    async def claim(self, seat: Seat, limits: SeatLimits) -> Claim | None:
        """Hold the seat against the limits; None while Redis is away."""
        arguments: list[str | int] = [self._name, seat.session, seat.opened_at_ms, int(limits.evicts)]
        arguments += [self._evictions(""), KEPT_MS]
        for key, limit in zip(self._keys(seat), (limits.per_address, limits.per_tenant, limits.per_user), strict=True):
            arguments += [key, limit]
        answer = await self._shared.ask(lambda: self._claim_script([self._replicas], arguments))
        if answer is None:
            self._note(_Change(seat, is_taken=True))
            return None
        first, *evicted = [each.decode() for each in answer]
        if first == "unknown":
            self._shared.lose(ConnectionError("this replica was taken for dead, or Redis has lost what it had"))
            return None
        if evicted:
            self._beat_at = 0.0
            self._shared.woken.set()
        return Claim(None if first == "seated" else first)

    def free(self, seat: Seat) -> None:
        """Take note that a seat is given back."""
        self._note(_Change(seat, is_taken=False))

    def _note(self, change: _Change) -> None:
        if self._shared.is_there or self._is_entering:
            self._changes.append(change)
            self._shared.woken.set()

    async def run(self) -> None:
        """Keep Redis up to date. Never returns."""
        await self._shared.run(self._serve)

    async def _serve(self) -> None:
        """Enter what is here under a new name, then keep it alive, until Redis is lost."""
        old_name, self._name = self._name, secrets.token_hex(8)
        self._changes.clear()
        self._is_entering = True
        try:
            await _in_time(self._shared.warm())
            for script in (self._claim_script, self._write_script, self._beat_script):
                await _in_time(self._shared.client.script_load(script.script))
            if old_name:  # Else what is here would count twice until it has died out.
                await _in_time(self._shared.client.zrem(self._replicas, old_name))
            await self._beat()
            await self._enter_all()
            while self._changes:
                await self._write_changes()
            self._shared.reach()  # In the turn in which nothing is left to enter: from here on each seat is claimed.
        finally:
            self._is_entering = False
        await self._keep()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        self._beat_at, touch_at = loop.time() + BEAT_SECONDS, loop.time() + TOUCHED_SECONDS
        while self._shared.is_there:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._beat_at):
                    await self._shared.woken.wait()
            self._shared.woken.clear()
            await self._write_changes()
            if loop.time() >= self._beat_at:
                self._beat_at = loop.time() + BEAT_SECONDS
                await self._beat()
            if loop.time() >= touch_at:
                touch_at = loop.time() + TOUCHED_SECONDS
                await self._enter_all()

    async def _beat(self) -> None:
        """Say that this replica lives, and end what was evicted here."""
        is_new, evicted = await _in_time(
            self._beat_script([self._replicas, self._evictions(self._name)], [self._name, self._lives_ms])
        )
        if is_new and not self._is_entering:
            raise ConnectionError("this replica was taken for dead, or Redis has lost what it had")
        for session in evicted:
            self._evict(session.decode())

    async def _enter_all(self) -> None:
        await self._write([_Change(seat, is_taken=True) for seat in self._seats()])

    async def _write_changes(self) -> None:
        """Tell Redis what there is to be told now. What comes meanwhile waits, since a beat must not."""
        await self._write([self._changes.popleft() for _ in range(len(self._changes))])

    async def _write(self, changes: Sequence[_Change]) -> None:
        for start in range(0, len(changes), SLICE):
            arguments: list[str | int] = [KEPT_MS]
            for seat, is_taken in changes[start : start + SLICE]:
                for key in self._keys(seat):
                    arguments += [self._mine(key), seat.opened_at_ms if is_taken else "", seat.session]
            await _in_time(self._write_script(args=arguments))

    def _keys(self, seat: Seat) -> tuple[str, str, str]:
        """Where the seat counts, in the order of `_CLAIM`; behind each comes the name of a replica."""
        seats, tenant = f"{self._shared.prefix}:seats", seat.tenant
        return f"{seats}:address:{seat.address}", f"{seats}:tenant:{tenant}", f"{seats}:user:{tenant}:{seat.user}"

    def _mine(self, key: str) -> str:
        return f"{key}:{self._name}"

    def _evictions(self, name: str) -> str:
        return f"{self._shared.prefix}:evictions:{name}"


async def _in_time(work: Awaitable[Any]) -> Any:  # noqa: ANN401 - what a script returns
    async with asyncio.timeout(REACH_SECONDS):
        result = await work
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        # Seen with redis-py 7.4: a cancellation that comes while it loads a script is lost.
        raise asyncio.CancelledError
    return result
