"""The composition root: builds every part from the settings and introduces them to each other.

It is the only module that knows all the others; they get plain values and callables from it.
"""

import asyncio
import logging
import platform
import random
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from time import time
from typing import Any, Final

from fastapi import FastAPI
from starlette.applications import Starlette

from notifier.access.gate import Gate
from notifier.access.limits import TENANT
from notifier.access.strain import Strain
from notifier.core.canary import Canary
from notifier.core.drain import close_paced
from notifier.core.envelope import Position
from notifier.core.errors import Unavailable
from notifier.core.hub import Hub
from notifier.core.idempotency import SeenKeys
from notifier.core.outage import Outage
from notifier.core.pipeline import Pipeline
from notifier.core.ports import CloseReason, Journal
from notifier.core.pulse import Pulse
from notifier.core.session import Session
from notifier.core.window import Window
from notifier.counts import Counts
from notifier.engine import build_journal, build_queue_door, journal_readings, queue_readings
from notifier.journal.memory import MemoryJournal
from notifier.public import build_public_app
from notifier.readiness import Readiness
from notifier.revoking import Revoking
from notifier.settings import Settings
from notifier.telemetry.answers import Answers
from notifier.telemetry.inspection import Inspection, canary_readings
from notifier.telemetry.loop_lag import LoopLag
from notifier.telemetry.memory import memory_limit_bytes, memory_share
from notifier.telemetry.metrics import Metrics, Reading
from notifier.telemetry.operations import Insight, create_operations_app
from notifier.tracing import build_traces
from notifier.transports.frames import Frames
from notifier.trust import build_key_pool, build_origins, build_tickets, build_verifier, ticket_secrets

log: Final = logging.getLogger(__name__)
RETRY_SECONDS: Final = 0.5


class Service:
    """One replica: its parts, its two ASGI apps, and what an orderly end needs.

    Raises SettingsError when a key cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.failed = asyncio.Event()  # Set when a background task ended: the process must end too.
        self.is_ending = False
        self._is_ready = False  # When Prometheus asked last.
        self._loop_lag = LoopLag()
        self._workers: list[asyncio.Task[None]] = []
        self._closing: set[asyncio.Task[int]] = set()
        self.traces = build_traces(settings)
        self._build_core()
        self._build_access()
        self.inspection = Inspection(self.hub, self.window, self.pipeline)
        self.answers = Answers(self.hub, self.window)
        self.metrics = Metrics()
        self.metrics.watch(self.inspection.readings())
        self.metrics.watch(self._readings())
        self.metrics.watch(self.counts.readings(self.gate.turned_away))
        self.metrics.watch(self.keys.readings())
        self.metrics.watch(self.revoking.readings())
        if self.traces is not None:
            self.metrics.watch(self.traces.readings())
        if self.canary is not None:
            self.metrics.watch(canary_readings(self.canary))
        if self.rabbit is not None:
            self.metrics.watch(journal_readings(self.rabbit))
        if self.queue_door is not None:
            self.metrics.watch(queue_readings(self.queue_door))
        self.readiness = Readiness(
            gate=self.gate,
            journal=self.journal,
            rabbit=self.rabbit,
            queue_door=self.queue_door,
            canary=self.canary,
            keys=self.keys,
            revoking=self.revoking,
            on_journal_loss=settings.operations.readiness_on_journal_loss,
            runs=lambda: bool(self._workers) and not self.failed.is_set(),
            is_ending=lambda: self.is_ending,
        )
        self.api = build_public_app(self, self._lifespan)
        self.operations = self._build_operations()

    # -- parts ---------------------------------------------------------------------------------------------------

    def _build_core(self) -> None:
        settings = self.settings
        self.rabbit = build_journal(settings) if settings.journal.is_shared else None
        self.journal: Journal = self.rabbit or MemoryJournal()
        if self.traces is not None:
            self.journal = self.traces.over(self.journal)
        self.frames = Frames()
        self.window = Window(
            Position("", 0, 0),  # The first record says which epoch it is.
            opened_at_ms=int(time() * 1000),
            max_age_seconds=settings.window.max_age_seconds,
            max_index_entries=settings.window.max_index_entries,
            max_bytes=settings.window.max_bytes,
        )
        self.hub = Hub(
            self.window,
            self.frames,
            max_running_cursors=settings.sessions.max_running_cursors,
            watch=None if self.traces is None else self.traces.delivering,
            max_remembered=settings.sessions.max_remembered,
            vacated=self._vacate,
        )
        seen_keys = SeenKeys(span_seconds=settings.idempotency.span_seconds, capacity=settings.idempotency.capacity)
        timeout_seconds = settings.journal.publish_timeout_seconds
        self.pipeline = Pipeline(
            self.journal, self.window, self.hub, seen_keys, publish_timeout_seconds=timeout_seconds
        )
        self.pulse = Pulse(
            self.hub,
            self.window,
            self.frames,
            heartbeat_seconds=settings.sessions.heartbeat_seconds,
            stall_seconds=settings.sessions.stall_timeout_seconds,
            leeway_seconds=settings.access.leeway_seconds,
        )

        self.outage = Outage(self.journal, self.hub, self.frames)
        self.canary = self._build_canary()
        begin_trace = None if self.traces is None else self.traces.begin_message
        self.queue_door = (
            None
            if settings.queue_url is None
            else build_queue_door(
                settings,
                self.pipeline,
                self._check_open,
                spend_tenant=lambda tenant, cost: self.limits.spend(TENANT, tenant, cost),
                begin_trace=begin_trace,
            )
        )

    async def _check_open(self) -> None:
        await self.readiness.check_open()

    def _build_canary(self) -> Canary | None:
        rabbit, every_seconds = self.rabbit, self.settings.operations.canary_seconds
        if not every_seconds:
            return None
        return Canary(
            self.journal,
            self.hub,
            every_seconds=every_seconds,
            is_excused=lambda: self.gate.is_starting or (rabbit is not None and not rabbit.is_connected),
            rebuild=(lambda: None) if rabbit is None else rabbit.read_anew,
        )

    def _build_access(self) -> None:
        settings = self.settings
        overload = settings.overload
        self.revoking = Revoking(settings, self.hub)
        self.counts = Counts(settings, close=self._supersede)
        self.limits = self.counts.limits
        self.tickets = build_tickets(settings)
        self.keys = build_key_pool(settings)
        verifier = build_verifier(settings, self.keys)
        self.gate = Gate(
            verifier,
            build_origins(settings),
            tickets=self.tickets,
            seats=self.counts.seats,
            max_sessions=settings.sessions.max_total,
            strain=Strain(
                lag_seconds=lambda: min(self._loop_lag.recent_seconds),
                most_lag_seconds=overload.loop_lag_seconds,
                memory_share=partial(memory_share, overload.memory_limit_bytes),
                most_memory_share=overload.memory_fraction,
            ),
            handshakes=settings.limits.handshakes,
            address_handshakes=settings.limits.address_handshakes,
            is_revoked=self.revoking.covers,
        )
        self.keys.changed = self.gate.forget_tokens
        self.keys.use(verifier.remotes)

    def _supersede(self, session_id: str) -> None:
        session = self.hub.get(session_id)
        if session is not None:
            self.hub.close(session, CloseReason.SUPERSEDED)

    def _vacate(self, session: Session) -> None:
        self.counts.seats.leave(session.identity.tenant, session.id)

    def trust(self, settings: Settings) -> None:
        """Take over keys, topic rules, origins and limits: all of them, or, with a SettingsError, none."""
        verifier, origins = build_verifier(settings, self.keys), build_origins(settings)
        self.keys.use(verifier.remotes)
        limits = settings.limits
        self.limits.set(limits.model_dump())
        self.gate.set_pace(handshakes=limits.handshakes, address_handshakes=limits.address_handshakes)
        self.gate.trust(verifier, origins)
        if self.tickets is not None and (secrets := ticket_secrets(settings)):
            self.tickets.trust(secrets)
        self.revoking.trust(settings)

    # -- the operations port -------------------------------------------------------------------------------------

    def _build_operations(self) -> Starlette:
        return create_operations_app(
            Insight(
                readiness=self.readiness,
                metrics=self._metrics_page,
                sessions=self.answers.sessions,
                notification=self.answers.notification,
                rebalance=self._rebalance,
            )
        )

    def _readings(self) -> Mapping[str, Reading]:
        """The numbers of this replica as a whole."""
        build = (version("notifier-push"), platform.python_version(), "rabbitmq" if self.rabbit else "memory")
        limit_bytes, max_sessions = memory_limit_bytes(), self.settings.sessions.max_total
        return {
            "notifier_build_info": lambda: {build: 1},
            "notifier_ready": lambda: self._is_ready,
            "notifier_draining": lambda: self.is_ending,
            "notifier_memory_limit_bytes": lambda: limit_bytes,
            "notifier_tasks": lambda: len(asyncio.all_tasks()),
            "notifier_loop_lag_seconds": lambda: self._loop_lag.durations,
            "notifier_sessions_limit": lambda: max_sessions,
            "notifier_accepted_total": self._accepted,
            "notifier_refused_total": self._refused,
        }

    def _accepted(self) -> Mapping[tuple[str, ...], int]:
        by_queue = self.queue_door.notifications if self.queue_door else 0
        return {("http",): self.pipeline.accepted - by_queue, ("queue",): by_queue}

    def _refused(self) -> Mapping[tuple[str, ...], int]:
        by_queue = self.queue_door.refused if self.queue_door else {}
        return {**self.metrics.refusals(), **{("queue", code): count for code, count in by_queue.items()}}

    async def _metrics_page(self) -> tuple[bytes, str]:
        self._is_ready, _ = await self.readiness()
        return self.metrics.render(), self.metrics.content_type

    def _rebalance(self, fraction: float) -> int:
        """Move a share of those that stay, drawn by lot: the oldest first would move the same ones each time."""
        sessions = [session for session in self.hub if not self.hub.is_leaving(session)]
        chosen = random.sample(sessions, round(len(sessions) * fraction))
        window_seconds = self.settings.http.drain_window_seconds
        closing = asyncio.create_task(
            close_paced(self.hub, self.frames, chosen, CloseReason.REBALANCE, over_seconds=window_seconds)
        )
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        return len(chosen)

    # -- life ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Run the background tasks as long as the app."""
        self._workers = [
            self._work("journal follower", self.pipeline.follow_journal()),
            self._work("pulse", self.pulse.run()),
            self._work("loop lag", self._loop_lag.run()),
            self._work("issuer keys", self.keys.run()),
            *(self._work(name, work) for name, work in self.revoking.work().items()),
        ]
        if self.rabbit is not None:
            self._workers.append(self._work("journal writer", self.rabbit.run()))
        if self.counts.work is not None:
            self._workers.append(self._work("shared counts", self.counts.work))
        if self.queue_door is not None:
            self._workers.append(self._work("queue door", self.queue_door.run()))
        if self.canary is not None:
            self._workers.append(self._work("canary", self.canary.run()))
        try:
            if not self.settings.journal.is_shared:
                await self._read_journal()  # A turn of the loop: no client need be told to come back for it.
            self._workers.append(self._work("journal watch", self._watch_journal()))
            yield
        finally:
            for worker in self._workers:
                worker.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)
            if self.traces is not None:
                await self.traces.close()

    async def _watch_journal(self) -> None:
        """Open the door once all of the journal was read; from then on, tell sessions of its outages."""
        await self._read_journal()
        await self.outage.run()

    async def _read_journal(self) -> None:
        while self.gate.is_starting:
            try:
                await self.revoking.catch_up()  # First: whoever is let in must not have been revoked.
                await self.pipeline.catch_up()
                self.gate.is_starting = False
                log.info("journal read", extra={"position": str(self.window.tail), "entries": len(self.window)})
            except Unavailable as error:
                log.warning("journal not read yet", extra={"reason": error.detail})
                await asyncio.sleep(RETRY_SECONDS)

    def _work(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        task.add_done_callback(self._on_worker_end)
        return task

    def _on_worker_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.error("background task ended", extra={"task": task.get_name()}, exc_info=task.exception())
            self.failed.set()

    async def close_sessions(self, *, over_seconds: float) -> int:
        """Take no new sessions, and close the present ones, spread over the time."""
        self.gate.is_draining = True
        for rebalance in list(self._closing):
            rebalance.cancel()  # Two paces at once would be one that nobody has asked for.
        closed = await close_paced(self.hub, self.frames, list(self.hub), CloseReason.DRAIN, over_seconds=over_seconds)
        # Who stood in the door when it was shut.
        return closed + await close_paced(self.hub, self.frames, list(self.hub), CloseReason.DRAIN, over_seconds=0)


def create_app(settings: Settings) -> FastAPI:
    """Build the public ASGI app of one replica, for any ASGI server."""
    return Service(settings).api
