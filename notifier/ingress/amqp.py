"""The queue door: requests from a RabbitMQ queue, from a message to the pipeline and back to an acknowledgement.

A message is acknowledged after the journal has confirmed it, or after it was confirmed as a dead letter. Messages are
taken in the order of the queue, as many at a time as are there, so the order of a publisher is kept. Those of a tenant
that is over its limit are set aside meanwhile (`held.py`): they wait, and are never refused for it.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from aio_pika.abc import AbstractIncomingMessage

from notifier.broker.connection import Backoff, Broker, BrokerError, Connection
from notifier.broker.consumer import Consumer
from notifier.broker.lenient import LenientBroker
from notifier.broker.losses import Losses
from notifier.core.envelope import Envelope
from notifier.core.errors import NotifierError, Unavailable
from notifier.core.pipeline import Appended, Pipeline
from notifier.ingress.held import Held, SpendTenant
from notifier.ingress.letters import Letters
from notifier.ingress.requests import MessageTrace, Taken, at_item, read_message

log: Final = logging.getLogger(__name__)
RETRY_SECONDS: Final = 0.5
TAKEN_BYTES: Final = 4 * 1024 * 1024
BeginTrace = Callable[[Mapping[str, object], str | None], MessageTrace]
"""(headers, message id): to the trace of a message that was just taken."""


class QueueDoor:
    """Lets notifications in from a queue.

    Args:
        queue: the name of the queue of requests.
        dead_letters: the exchange for what cannot be sent.
        prepare: declares or checks what is needed, on a connection that was just opened. Raises BrokerError.
        check_journal: raises Unavailable while nothing can be appended: then nothing is taken either.
        spend_tenant: takes what a tenant sends out of its allowance; what is too much waits.
        prefetch: messages taken and not yet acknowledged.
        held: those beyond, which wait for the allowance of their tenants.
        require_message_id: whether a message without an id, which cannot be told from its redelivery, is refused.
        begin_trace: None while traces are off.
    """

    def __init__(
        self,
        broker: Broker,
        pipeline: Pipeline,
        *,
        queue: str,
        dead_letters: str,
        prepare: Callable[[Connection], Awaitable[None]],
        check_journal: Callable[[], Awaitable[None]],
        spend_tenant: SpendTenant,
        prefetch: int = 200,
        held: int = 500,
        require_message_id: bool = True,
        begin_trace: BeginTrace | None = None,
    ) -> None:
        # A connection that is lost counts as an attempt for every message in flight, and after some the broker gives
        # all of them up: so none is lost over what a message holds.
        self._broker = LenientBroker.of(broker)
        self._letters = Letters(broker, dead_letters=dead_letters, prepare=prepare)
        self._pipeline = pipeline
        self._queue = queue
        self._prepare = prepare
        self._check_journal = check_journal
        self._prefetch = prefetch + held
        self.held = Held(spend_tenant, capacity=held)
        self._require_message_id = require_message_id
        self._begin_trace = begin_trace
        self.is_consuming = False
        self.accepted = 0
        self.notifications = 0  # That the journal has, of what the pipeline has accepted.
        self.refused: Counter[str] = Counter()  # What was dead-lettered, by its code.
        self.losses = Losses("requests", broker)

    async def run(self) -> None:
        """Take messages. Never returns."""
        backoff = Backoff()
        async with self._letters:
            while True:
                try:
                    async with self._broker.connect("requests") as connection:
                        await self._prepare(connection)
                        await self._await_journal()
                        await connection.run(self._take(connection, backoff))
                except BrokerError as error:
                    self.losses.note(error)
                finally:
                    self.is_consuming = False
                await backoff.pause()

    async def _take(self, connection: Connection, backoff: Backoff) -> None:
        consumer = await Consumer.open(connection, self._queue, prefetch=self._prefetch)
        self.held.clear()
        self.is_consuming = True
        self.losses.end()
        while True:
            await self._handle(await self._next(consumer))
            backoff.reset()

    async def _next(self, consumer: Consumer) -> list[Taken]:
        """Wait for a message that may go on, and take with it what else is there, up to some MiB."""
        taken = await self.held.due()
        size = count = 0
        while not taken or (not consumer.is_empty and size < TAKEN_BYTES and self.held.has_room):
            message = await self._message(consumer)
            if message is None:
                taken += await self.held.due()
                continue
            each = self._read(message)
            size, count = size + len(message.body), count + 1
            if await self.held.passes(each):
                taken.append(each)
            if count % 8 == 0:
                await asyncio.sleep(0)  # Reading much must not hold the event loop; a turn costs as much as a message.
        return taken

    async def _message(self, consumer: Consumer) -> AbstractIncomingMessage | None:
        """The next message; None when one that is held is due first, or there is no room for another."""
        if not self.held:
            return await consumer.get()
        wait_seconds = max(0.0, self.held.due_at - time.monotonic())
        if not self.held.has_room:
            await asyncio.sleep(wait_seconds)
            return None
        try:
            async with asyncio.timeout(wait_seconds):
                return await consumer.get()
        except TimeoutError:
            return None

    def _read(self, message: AbstractIncomingMessage) -> Taken:
        trace = None if self._begin_trace is None else self._begin_trace(message.headers, message.message_id)
        try:
            requests = read_message(message, require_message_id=self._require_message_id)
        except NotifierError as error:
            return Taken(message, error=error, trace=trace)
        requests = [
            request._replace(trace=None if trace is None else trace.place(request.trace)) for request in requests
        ]
        envelopes: list[Envelope] = []
        for index, item in enumerate(self._pipeline.seal_batch(requests)):
            if isinstance(item, NotifierError):
                return Taken(message, error=at_item(index, item) if len(requests) > 1 else item, trace=trace)
            envelopes.append(item)
        return Taken(message, envelopes, trace=trace)

    async def _handle(self, taken: Sequence[Taken]) -> None:
        """Send what can be sent, give up what cannot, and acknowledge all of it."""
        appended = await self._append([envelope for each in taken for envelope in each.envelopes])
        for each in taken:
            if each.error is None:
                self.accepted += 1
            else:
                await self._letters.give_up(each.message, each.error)
                self.refused[each.error.code] += 1
                log.warning("message dead-lettered", extra=_described(each, each.error))
        await self._acknowledge(taken)
        if self._begin_trace is not None:
            _end_traces(taken)
        self._letters.answer(taken, appended)

    async def _acknowledge(self, taken: Sequence[Taken]) -> None:
        """All at once, unless some that came before them are held, which that would acknowledge as well."""
        if self.held:
            for each in taken:
                await each.message.ack()
        else:
            await max(taken, key=lambda each: each.message.delivery_tag or 0).message.ack(multiple=True)

    async def _append(self, envelopes: Sequence[Envelope]) -> Appended:
        """Try until the journal has them: they are safe in the queue meanwhile."""
        while True:
            try:
                appended = await self._pipeline.append_batch(envelopes)
            except Unavailable as error:
                log.warning("requests wait for the journal", extra={"waiting": len(envelopes), "reason": error.detail})
            else:
                self.notifications += len(envelopes)  # In the turn in which the pipeline counted them.
                return appended
            await asyncio.sleep(RETRY_SECONDS)

    async def _await_journal(self) -> None:
        """Wait before taking: a message that is taken in vain comes nearer to the limit of its deliveries."""
        while True:
            try:
                await self._check_journal()
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return


def _described(taken: Taken, error: NotifierError) -> dict[str, object]:
    message = taken.message
    fields: dict[str, object] = {
        "code": error.code,
        "message_id": message.message_id,
        "routing_key": message.routing_key,
    }
    if taken.trace is not None and taken.trace.trace_id:
        fields["trace_id"] = taken.trace.trace_id
    return fields


def _end_traces(taken: Sequence[Taken]) -> None:
    for each in taken:
        if each.trace is not None:
            each.trace.end(None if each.error is None else each.error.code)
