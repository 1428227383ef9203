"""Revoking: a wish becomes a control record, which comes to every replica and ends the sessions that it is about."""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from math import floor
from typing import Final, NamedTuple

from notifier.access.revocations import By, Revocation, Revocations
from notifier.core.control import Control, ControlRecord
from notifier.core.errors import InvalidNotification, NotFound, Unavailable, Violation
from notifier.core.hub import Hub
from notifier.core.identity import Identity, Tenant
from notifier.core.notification import new_id
from notifier.core.ports import CloseReason, Later
from notifier.core.session import Session
from notifier.core.worklist import Worklist, on_the_running_loop

log: Final = logging.getLogger(__name__)
KIND: Final = "revocation"
AHEAD_SECONDS: Final = 1_800  # The stream keeps records for the longest life of a token, and an hour.
READBACK_SECONDS: Final = 0.8  # With the three of an append, it is within the four of the contract.
RETRY_SECONDS: Final = 0.5
SWEEP_SECONDS: Final = 60.0


class Wish(NamedTuple):
    """What somebody wants revoked; see `Revocation`. `issued_before`: None for what is issued up to now."""

    tenant: Tenant
    by: By
    name: str = ""
    issued_before: float | None = None


class Receipt(NamedTuple):
    """It holds. `expires_at`: Unix seconds; `is_durable`: also after a restart of every replica."""

    id: str
    tenant: Tenant
    expires_at: float
    is_durable: bool


class Revoker:
    """Takes wishes in at one end, and what every replica has to know at the other.

    Args:
        token_life_seconds: the longest that a token issued now can count, leeway included.
        clock: Unix seconds.
        later: see `Worklist`.
    """

    def __init__(
        self,
        control: Control,
        revocations: Revocations,
        hub: Hub,
        *,
        token_life_seconds: float,
        clock: Callable[[], float] = time.time,
        later: Later = on_the_running_loop,
    ) -> None:
        self._control = control
        self._revocations = revocations
        self._hub = hub
        self.token_life_seconds = token_life_seconds
        self._clock = clock
        # A tenant may have thousands of sessions, and nothing else is to wait until they are closed.
        self._ending: Worklist[Session] = Worklist(self._end_next, later=later)
        self._follow_ups: asyncio.Queue[Revocation] = asyncio.Queue()
        self._followed_up = asyncio.Event()  # Set, and replaced, when the token of a session was revoked.
        self.taken: Counter[str] = Counter()  # By what they are about.
        control.on(KIND, self._read)

    # -- in ------------------------------------------------------------------------------------------------------

    async def revoke(self, wish: Wish) -> Receipt:
        """Return when it holds here, and every replica will know.

        Raises InvalidNotification for a moment too far ahead, NotFound for a session that no replica has, Unavailable.
        """
        revocation = self._revocation(wish)
        if not self._revocations.has_room_for(revocation):
            detail = "as many revocations are held as may be; revoke everyone of the tenant, or wait until some expire"
            raise Unavailable("revocations_full", detail, retry_after=timedelta(seconds=SWEEP_SECONDS))
        if revocation.by == "session":
            await self._revoke_session(revocation)
        else:
            await self._tell(revocation)
        log.info("revoked", extra={"id": revocation.id, "tenant": revocation.tenant, "by": revocation.by})
        return Receipt(revocation.id, revocation.tenant, revocation.expires_at, self._control.is_durable)

    def _revocation(self, wish: Wish) -> Revocation:
        now = self._clock()
        # A token says when it was issued in whole seconds: one of this second may have been there before.
        issued_before = floor(now) + 1 if wish.issued_before is None else max(0.0, wish.issued_before)
        if issued_before > now + AHEAD_SECONDS:
            broken = Violation("/issued_before", "too_far_ahead", f"must be at most {AHEAD_SECONDS} seconds from now")
            raise InvalidNotification([broken], "invalid_revocation")
        expires_at = max(now, issued_before) + self.token_life_seconds
        return Revocation(new_id(int(now * 1000)), wish.tenant, wish.by, wish.name, issued_before, expires_at)

    async def _tell(self, revocation: Revocation) -> None:
        await self._control.tell(ControlRecord(KIND, revocation._asdict()))

    async def _revoke_session(self, revocation: Revocation) -> None:
        """Have the replica that has the session end it and revoke its token, and wait for that."""
        if self._is_done(revocation):
            return
        try:
            await self._tell(revocation)
            async with asyncio.timeout(READBACK_SECONDS):
                while not self._is_done(revocation):
                    await self._followed_up.wait()
        except TimeoutError:
            raise NotFound("session_not_found", "no replica that can be heard has a session of this id") from None

    def _is_done(self, revocation: Revocation) -> bool:
        return self._revocations.has_revoked_session(revocation.tenant, revocation.name)

    # -- out -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Forget what has expired, and tell of tokens whose sessions were revoked. Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_forgetting())
            tasks.create_task(self._keep_following_up())

    async def _keep_forgetting(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._revocations.drop_expired()

    async def _keep_following_up(self) -> None:
        while True:
            revocation = await self._follow_ups.get()
            while revocation.expires_at > self._clock():
                with suppress(Unavailable):
                    await self._tell(revocation)
                    break
                await asyncio.sleep(RETRY_SECONDS)

    def _read(self, fields: Mapping[str, object]) -> None:
        """Take in a revocation, and end the sessions it is about; others are refused from here on."""
        revocation = Revocation.read(fields)
        if revocation.by == "session":
            self._revoke_token_of(revocation)
            return
        if not self._revocations.add(revocation):
            return  # It has expired, or comes back to where it was told.
        self.taken[revocation.by] += 1
        if revocation.session is not None:
            self._followed_up.set()
            self._followed_up = asyncio.Event()
        self._end([session for session in self._candidates(revocation) if self.covers(session.identity)])

    def _revoke_token_of(self, revocation: Revocation) -> None:
        """The session alone would come back with its token, so that is revoked: here at once, then everywhere."""
        session = self._hub.get(revocation.name)
        if session is None or session.identity.tenant != revocation.tenant:
            return
        # Tokens and tickets have an id; were there none, that the session is over is to be known all the same.
        token_id = session.identity.token_id or f"session:{session.id}"
        follow_up = revocation._replace(by="token", name=token_id, session=session.id)
        self._revocations.add(follow_up._replace(session=None))  # It is done once every replica will know.
        self._follow_ups.put_nowait(follow_up)
        self._hub.close(session, CloseReason.TOKEN_REVOKED)

    def _candidates(self, revocation: Revocation) -> Iterable[Session]:
        tenant, name = revocation.tenant, revocation.name
        match revocation.by:
            case "user":
                return self._hub.sessions_of(tenant, name)
            case "token":
                return [session for session in self._hub if session.identity.token_id == name]
            case _:
                return [session for session in self._hub if session.identity.tenant == tenant]

    def _end(self, sessions: Collection[Session]) -> None:
        if sessions:
            log.info("sessions revoked", extra={"sessions": len(sessions)})
            self._ending.start(sessions)

    def _end_next(self, sessions: deque[Session]) -> None:
        session = sessions.popleft()
        # It may have gone meanwhile, or go on under a token that counts.
        if session in self._hub and self.covers(session.identity):
            self._hub.close(session, CloseReason.TOKEN_REVOKED)

    def covers(self, identity: Identity) -> bool:
        """Tell whether the token of this identity was revoked."""
        return self._revocations.covers(identity)
