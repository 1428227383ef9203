"""Control records: in a RabbitMQ stream that every replica reads from its start, or in the memory of the only one.

A message is `{"major": 1, "minor": 0, "records": [{"kind": …, "fields": {…}}]}`. A new minor adds kinds and fields, and
readers skip what they do not know; a new major is passed over whole.
"""

import asyncio
import json
import logging
import random
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

from aio_pika import DeliveryMode
from aio_pika import Message as AmqpMessage

from notifier.broker.connection import Broker, Connection
from notifier.core.control import TICK, ControlLog, ControlRecord
from notifier.core.envelope import Position
from notifier.core.errors import Unavailable
from notifier.journal.epochs import Place
from notifier.journal.follower import Follower
from notifier.journal.publisher import Publisher

log: Final = logging.getLogger(__name__)
MAJOR: Final = 1
MINOR: Final = 0
RECORD_BYTES: Final = 1_024  # More than a record takes.
# The first replica to find it so silent ticks for all: what is kept for a day has to be read at every start.
IDLE_SECONDS: Final = 60.0
IDLE_SPREAD: Final = 1.5
SILENCE_SECONDS: Final = 2.5 * IDLE_SECONDS
AGAIN_SECONDS: Final = 5.0  # A stream that cannot be read is not filled with ticks.


class RabbitControl:
    """Appends to and follows the control stream. `run` must run as long as it is used.

    Args:
        broker: where the stream is.
        exchange: what is published to; it is bound to the stream.
        prepare: declares or checks what is needed, on a connection that was just opened. Raises BrokerError.
        read_back_seconds: how far a new follower goes back.
        publish_timeout_seconds: a message that takes longer to be confirmed is refused.
        idle_seconds, silence_seconds: one replica ticks after so long without a record; without any for so long, the
            broker is asked again.
    """

    is_durable: Final = True

    def __init__(
        self,
        broker: Broker,
        *,
        exchange: str,
        stream: str,
        prepare: Callable[[Connection], Awaitable[None]],
        read_back_seconds: float,
        publish_timeout_seconds: float = 3.0,
        idle_seconds: float = IDLE_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._stream = stream
        self._publish_timeout_seconds = publish_timeout_seconds
        self._idle_seconds = idle_seconds
        self._tick_now = asyncio.Event()
        self._ticked_at = time.monotonic()
        self._publisher: Publisher[ControlRecord] = Publisher(
            broker,
            role="control-publish",
            exchange=exchange,
            prepare=prepare,
            size_of=lambda _: RECORD_BYTES,
            message_of=_message,
            timeout_seconds=publish_timeout_seconds,
            opened=self._tick_now.set,
        )
        self._follower = Follower(
            broker,
            role="control-follow",
            stream=stream,
            prepare=prepare,
            read_back_seconds=read_back_seconds,
            silence_seconds=silence_seconds,
            lost=self._on_lost,
        )
        self.broken_messages = 0

    @property
    def is_following(self) -> bool:
        """Whether records can be read."""
        return self._follower.is_following

    @property
    def trouble(self) -> str | None:
        """Why the broker cannot be used; None while it can."""
        return self._publisher.losses.reason or self._follower.losses.reason

    @property
    def connections_lost(self) -> int:
        """Times that a connection was lost, or could not be opened."""
        return self._publisher.losses.count + self._follower.losses.count

    @property
    def skipped_messages(self) -> int:
        """Messages passed over, since they cannot be decoded or connections died of them."""
        return self.broken_messages + self._follower.skipped_messages

    async def append(self, records: Sequence[ControlRecord]) -> None:
        """Return when the stream has the records. Raises Unavailable when it does not take them, or nobody knows."""
        await self._publisher.append(records)

    async def run(self) -> None:
        """Publish what is appended, and tick. Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publisher.run())
            tasks.create_task(self._keep_ticking())

    async def follow(self) -> AsyncGenerator[ControlRecord, None]:
        """Yield every record of the read-back, and those to come; all of them again where the stream is another one."""
        place = Place(Position("", 0, 0))
        async with aclosing(self._follower.messages(place)) as messages:
            async for message in messages:
                place.epochs.read(message, None)
                for record in self._records(message.offset, message.body):
                    yield record

    def _records(self, offset: int, body: bytes) -> Sequence[ControlRecord]:
        try:
            return decode(body)
        except ValueError as error:
            self.broken_messages += 1
            log.error("message skipped", extra={"stream": self._stream, "offset": offset, "reason": str(error)})
            return ()

    def _on_lost(self) -> None:
        """Have something to read behind a broken connection, so that it is known soon which stream it is."""
        if time.monotonic() - self._ticked_at > AGAIN_SECONDS:
            self._tick_now.set()

    async def _keep_ticking(self) -> None:
        """Tick on each new connection, which shows whether it works, and when nothing has come for long."""
        while True:
            await self._wait_for_reason()
            self._tick_now.clear()
            self._ticked_at = time.monotonic()
            try:
                async with asyncio.timeout(self._publish_timeout_seconds):
                    await self._publisher.append_anyway([ControlRecord(TICK)])
            except (TimeoutError, Unavailable):
                pass  # A broker that cannot be reached hears no tick; what follows from it is decided elsewhere.

    async def _wait_for_reason(self) -> None:
        patience_seconds = self._idle_seconds * random.uniform(1.0, IDLE_SPREAD)  # noqa: S311 - spreads ticks
        while (left_seconds := patience_seconds - self._quiet_seconds()) > 0:
            try:
                async with asyncio.timeout(left_seconds):
                    await self._tick_now.wait()
                    return
            except TimeoutError:
                pass

    def _quiet_seconds(self) -> float:
        """How long nothing was read, or ticked: what cannot be read is not ticked over and over."""
        return min(self._follower.silent_seconds, time.monotonic() - self._ticked_at)


class MemoryControl:
    """Hands records to whoever follows, which is one, and forgets them."""

    is_durable: Final = False

    def __init__(self) -> None:
        self._records: asyncio.Queue[ControlRecord] = asyncio.Queue()

    async def append(self, records: Sequence[ControlRecord]) -> None:
        """Take the records."""
        for record in records:
            self._records.put_nowait(record)

    async def follow(self) -> AsyncGenerator[ControlRecord, None]:
        """Yield each record."""
        while True:
            yield await self._records.get()


def encode(records: Sequence[ControlRecord]) -> bytes:
    """Write a message of these records."""
    written = [record._asdict() for record in records]
    return json.dumps({"major": MAJOR, "minor": MINOR, "records": written}, separators=(",", ":")).encode()


def decode(body: bytes) -> list[ControlRecord]:
    """Read a message. Raises ValueError for what is none, or of a major version that this reader does not know."""
    try:
        message = json.loads(body)
    except RecursionError:
        raise ValueError("its nesting is too deep") from None
    if not isinstance(message, dict) or message.get("major") != MAJOR:
        raise ValueError(f"it is no message of the major version {MAJOR}")
    records = message.get("records")
    if not isinstance(records, list):
        raise ValueError("it has no records")
    return [_record(record) for record in records]


def _record(value: object) -> ControlRecord:
    if isinstance(value, dict):
        kind, fields = value.get("kind"), value.get("fields")
        if isinstance(kind, str) and isinstance(fields, dict):
            return ControlRecord(kind, fields)
    raise ValueError("a record has a kind and fields")


def _message(records: Sequence[ControlRecord]) -> AmqpMessage:
    return AmqpMessage(
        encode(records),
        message_id=uuid.uuid4().hex,
        content_type="application/json",
        delivery_mode=DeliveryMode.PERSISTENT,
    )


_: tuple[type[ControlLog], type[ControlLog]] = (RabbitControl, MemoryControl)
