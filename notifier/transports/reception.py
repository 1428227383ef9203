"""Letting clients in and opening their sessions: the same for a socket and for a stream of events."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from starlette.responses import Response

from notifier.core.envelope import Position
from notifier.core.errors import NotifierError
from notifier.core.hub import Hub
from notifier.core.identity import Identity
from notifier.core.pipeline import Pipeline
from notifier.core.ports import Frame, Outlet
from notifier.core.pulse import Pulse
from notifier.core.session import Session
from notifier.transports.conversation import Authenticate, AuthenticatePatiently, Grant
from notifier.transports.frames import welcome
from notifier.transports.handshake import Handshake

log: Final = logging.getLogger(__name__)


class Admitted(NamedTuple):
    """Somebody who has a seat, and the id of the session that gets it."""

    identity: Identity
    session: str


@dataclass(frozen=True, slots=True)
class Door:
    """What guards the way in. `app.py` fills it; each callable raises the error with which it refuses.

    Args:
        check_origin: (origin, scheme, host): whether pages from there may connect.
        check_transport: (scheme of X-Forwarded-Proto): whether it may come in the clear.
        check_room: asked before anything is accepted: draining, overload.
        pace: (address): counts a handshake; waits for a moment, or raises, when there are too many.
        authenticate: from a token to its identity, at once; raises Unavailable when it might be known after a wait.
        authenticate_patiently: the same, over that wait.
        read_ticket: from a ticket to its identity.
        redeem: use a ticket up; the second time it is refused.
        admit: (identity, address): the session limits; takes a seat, and returns the id of the session that gets it.
        seat: (session): asked in the turn that opens it, whether its seat is still its own.
        dismiss: gives the seat back of a session that never was; of the others the hub tells.
        check_standing: whether the token of an identity still counts.
        grant: from wanted topics to granted and denied ones.
        refusal: the HTTP answer for an error.
        count_handshake: told the transport, and how each handshake ended: `admitted`, or the code of the refusal.
    """

    check_origin: Callable[[str | None, str, str], None]
    check_transport: Callable[[str | None], None]
    check_room: Callable[[], None]
    pace: Callable[[str | None], Awaitable[None]]
    authenticate: Authenticate
    authenticate_patiently: AuthenticatePatiently
    read_ticket: Authenticate
    redeem: Callable[[str], None]
    admit: Callable[[Identity, str | None], Awaitable[str]]
    seat: Callable[[str], None]
    dismiss: Callable[[Identity, str], None]
    check_standing: Callable[[Identity], None]
    grant: Grant
    refusal: Callable[[NotifierError], Response]
    count_handshake: Callable[[str, str], None]


class Reception:
    """Admits clients of one transport, and opens their sessions.

    `news` says what a new session is told behind its welcome.
    """

    def __init__(
        self,
        transport: str,
        *,
        door: Door,
        hub: Hub,
        pulse: Pulse,
        pipeline: Pipeline,
        news: Callable[[], Sequence[Frame]],
        heartbeat_seconds: float,
    ) -> None:
        self.transport = transport
        self.door = door
        self.hub = hub
        self._pulse = pulse
        self._pipeline = pipeline
        self._news = news
        self._heartbeat_seconds = heartbeat_seconds

    def check(self, handshake: Handshake) -> None:
        """What is refused to everybody, whoever it is: a stranger's page, no room."""
        self.door.check_origin(handshake.origin, handshake.scheme, handshake.host)
        self.door.check_transport(handshake.forwarded_scheme)
        self.door.check_room()

    async def pace(self, handshake: Handshake) -> None:
        """Count the handshake of a client that speaks our protocol, before its token costs anything."""
        await self.door.pace(handshake.address)

    async def enter(self, handshake: Handshake) -> Admitted:
        """Verify; wait until this replica has read as far as the client says that it has; then admit.

        Whoever is admitted holds a seat until the session ends, or it is dismissed.
        """
        door, ticket = self.door, handshake.ticket
        if ticket is None:
            identity = await door.authenticate_patiently(handshake.token or "")
        else:
            identity = door.read_ticket(ticket)
        position = Position.parse(handshake.position or "")
        if position is not None:
            await self._pipeline.has_read(position)
        # Behind every wait, so that those who wait together do not all find the last free place.
        door.check_room()
        if ticket is not None:
            door.redeem(ticket)
        door.check_standing(identity)
        return Admitted(identity, await door.admit(identity, handshake.address))

    def confirm(self, admitted: Admitted) -> None:
        """Check, in the turn that opens the session, that since it was admitted nothing has taken that back.

        Its token may have been revoked, or its seat given to a newer session. Raises Unauthenticated and Forbidden, and
        gives the seat back.
        """
        try:
            self.door.check_standing(admitted.identity)
            self.door.seat(admitted.session)
        except NotifierError:
            self.dismiss(admitted)
            raise

    def dismiss(self, admitted: Admitted) -> None:
        """Give back the seat of somebody whose session never began."""
        self.door.dismiss(*admitted)

    def open(self, handshake: Handshake, admitted: Admitted, outlet: Outlet) -> Session:
        """Register, welcome, and begin the replay in one turn of the event loop, so that there is no gap.

        Call `confirm` before, in the same turn: what comes later finds the session, and ends it.
        """
        identity = admitted.identity
        granted, denied = self.door.grant(identity, handshake.topics, frozenset())
        session = Session(admitted.session, identity, granted, outlet)
        resume = self.hub.register(session, handshake.position)
        self._pulse.add(session)
        now_ms = int(time.time() * 1000)
        first = welcome(session, resume, denied=denied, heartbeat_seconds=self._heartbeat_seconds, now_ms=now_ms)
        for frame in (first, *self._news()):
            outlet.answer(frame)
        self.hub.advance(session)
        return session

    def count(self, result: str) -> None:
        """Count how a handshake ended."""
        self.door.count_handshake(self.transport, result)

    def note_refusal(self, code: str, address: str | None) -> None:
        """Count a client that was not let in, and say so in the log."""
        self.count(code)
        log.info("session refused", extra={"transport": self.transport, "code": code, "address": address})

    def ended(self, session: Session, ended: tuple[int, str], seconds: float) -> None:
        """Say how a session was closed: to the hub, which remembers it, and in the log."""
        code, reason = int(ended[0]), ended[1]
        self.hub.departed.end(session.id, code, reason)
        log.info(
            "session closed",
            extra={
                "transport": self.transport,
                "session": session.id,
                "tenant": session.identity.tenant,
                "user": session.identity.user,
                "code": code,
                "reason": reason,
                "delivered": session.delivered,
                "seconds": round(seconds, 3),
            },
        )
