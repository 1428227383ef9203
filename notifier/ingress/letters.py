"""What goes out from the queue door: dead letters, confirmed before their message is acknowledged, and answers."""

import asyncio
import json
import logging
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Final, Self

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractMessage
from pamqp.encode import field_table

from notifier.broker.connection import Backoff, Broker, BrokerError, Connection
from notifier.core.errors import NotifierError, Unavailable
from notifier.core.pipeline import Appended
from notifier.ingress.answers import Outcome, accepted, results
from notifier.ingress.problems import MEDIA_TYPE, problem
from notifier.ingress.requests import Taken

log: Final = logging.getLogger(__name__)
PUBLISH_SECONDS: Final = 3.0
SLOWEST_BYTES_PER_SECOND: Final = 16 * 1024  # What is too long to be sent in time would be tried for ever.
_OURS: Final = "x-notifier-"
_OF_THE_BROKER: Final = frozenset(
    ["x-delivery-count", "x-death"]
    + [f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")]
)
ERROR_CODE: Final = "x-notifier-error-code"
ERROR: Final = "x-notifier-error"
ERROR_AT: Final = "x-notifier-error-at"
USER_ID: Final = "x-notifier-user-id"
LEFT_OUT: Final = "x-notifier-headers-left-out"
ERROR_CHARACTERS: Final = 1_000
LEFT_OUT_CHARACTERS: Final = 200
LEFT_OUT_BYTES: Final = 300  # The whole header.
HEADER_LEVELS: Final = 16
FRAME_BYTES: Final = 20  # Of a content header, around its properties.
DIRECT_REPLY: Final = "amq.rabbitmq.reply-to."
ANSWERING_LIMIT: Final = 100


class Letters:
    """Publishes over a connection of its own, opened when it is needed: an alarm must not stop the acknowledgements.

    Args:
        dead_letters: the exchange for what cannot be sent.
        prepare: declares or checks what is needed, on a connection that was just opened. Raises BrokerError.
    """

    def __init__(self, broker: Broker, *, dead_letters: str, prepare: Callable[[Connection], Awaitable[None]]) -> None:
        self._broker = broker
        self._dead_letters = dead_letters
        self._prepare = prepare
        self._open = AsyncExitStack()  # Holds the connection.
        self._connection: Connection | None = None  # None until it is needed, and after a failure.
        self._channel: AbstractChannel | None = None  # Likewise.
        self._opening = asyncio.Lock()
        self._answering: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        await self._close()

    # -- dead letters --------------------------------------------------------------------------------------------

    async def give_up(self, message: AbstractIncomingMessage, error: NotifierError) -> None:
        """Return once the broker has it as a dead letter, however long that takes.

        To let go of the connection that it came over instead would count as an attempt for every message in flight.
        """
        backoff = Backoff()
        while True:
            try:
                await self._publish(message, error)
            except Exception as failure:  # noqa: BLE001 - aiormq ends what is under way with anything, a bare Exception too
                _note_delay(str(BrokerError.because(failure)))
            else:
                return
            await self._close()
            await backoff.pause()

    async def _publish(self, message: AbstractIncomingMessage, error: NotifierError) -> None:
        connection, channel = await self._ready()
        letter = _dead_letter(message, error, room_bytes=header_bytes(connection))
        exchange = await channel.get_exchange(self._dead_letters, ensure=False)
        publishing = asyncio.ensure_future(exchange.publish(letter, message.routing_key or "", mandatory=True))
        within_seconds = PUBLISH_SECONDS + letter.body_size / SLOWEST_BYTES_PER_SECOND
        try:
            while not (await asyncio.wait([publishing], timeout=within_seconds))[0]:
                if not await connection.is_blocked():
                    raise TimeoutError
                # It has been sent, and counts when the alarm is over: to send it again would make two of it.
                _note_delay("the broker takes no messages now: an alarm over memory or disk")
        finally:
            publishing.cancel()
        if publishing.cancelled():
            raise connection.loss()
        publishing.result()

    # -- answers -------------------------------------------------------------------------------------------------

    def answer(self, taken: Sequence[Taken], appended: Appended) -> None:
        """Answer those who asked for it, without keeping anybody waiting."""
        if not any(_reply_to(each) for each in taken):
            appended.abandon()
            return
        if len(self._answering) >= ANSWERING_LIMIT:
            log.warning("answers not sent", extra={"reason": "too many wait for the broker"})
            appended.abandon()
            return
        task = asyncio.create_task(self._answer(taken, appended))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, taken: Sequence[Taken], appended: Appended) -> None:
        outcomes = await _outcomes(taken, appended)
        try:
            connection, _ = await self._ready()
            # A channel of their own: one that may not answer loses it, and no dead letter with it.
            channel = await connection.open_channel()
            for each in taken:
                mine = [next(outcomes) for _ in each.envelopes]
                if reply_to := _reply_to(each):
                    async with asyncio.timeout(PUBLISH_SECONDS):
                        await channel.default_exchange.publish(_answer_to(each, mine), reply_to, mandatory=False)
            await channel.close()
        except Exception as failure:  # noqa: BLE001 - as above
            log.warning("answers not sent", extra={"reason": str(BrokerError.because(failure))})

    # -- the connection ------------------------------------------------------------------------------------------

    async def _ready(self) -> tuple[Connection, AbstractChannel]:
        async with self._opening:
            if self._connection is None or self._channel is None or self._channel.is_closed:
                await self._close()
                connection = await self._open.enter_async_context(self._broker.connect("letters"))
                await self._prepare(connection)
                self._connection, self._channel = connection, await connection.open_channel()
            return self._connection, self._channel

    async def _close(self) -> None:
        self._connection = self._channel = None
        await self._open.aclose()


def _note_delay(reason: str) -> None:
    log.warning("messages wait for their dead letter", extra={"reason": reason})


def header_bytes(connection: Connection) -> int:
    """How long the properties of a message may be: they are not split over frames."""
    assert connection.transport is not None
    return connection.transport.connection.connection_tune.frame_max - FRAME_BYTES


async def _outcomes(taken: Sequence[Taken], appended: Appended) -> Iterator[Outcome]:
    try:
        return iter(await appended.outcomes())
    except Unavailable as error:
        return iter([error for each in taken for _ in each.envelopes])


def _reply_to(taken: Taken) -> str | None:
    """Where the answer goes. Direct reply-to only: no message may make us write into a queue of its choice."""
    reply_to = taken.message.reply_to or ""
    return reply_to if reply_to.startswith(DIRECT_REPLY) else None


def _answer_to(taken: Taken, outcomes: Sequence[Outcome]) -> Message:
    body, is_problem = _answer_body(taken, outcomes)
    return Message(
        body.encode(),
        content_type=MEDIA_TYPE if is_problem else "application/json",
        correlation_id=taken.message.correlation_id,
    )


def _answer_body(taken: Taken, outcomes: Sequence[Outcome]) -> tuple[str, bool]:
    error = taken.error
    if error is None and taken.is_array:
        return results(outcomes), False
    outcome = outcomes[0] if error is None else error
    return (json.dumps(problem(outcome)), True) if isinstance(outcome, NotifierError) else (accepted(outcome), False)


def _dead_letter(message: AbstractIncomingMessage, error: NotifierError, *, room_bytes: int) -> Message:
    """The message as it came, as far as that can be written, and why it could not be sent.

    Without what the broker would act on: it refuses another's `user_id` and a foreign `reply_to`, and would let the
    letter expire.
    """
    detail = error.detail[:ERROR_CHARACTERS].encode(errors="replace").decode()
    letter = Message(
        message.body,
        headers={ERROR_CODE: error.code, ERROR: detail, ERROR_AT: datetime.now(UTC)},
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=DeliveryMode.PERSISTENT,
        correlation_id=message.correlation_id,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        app_id=message.app_id,
    )
    if message.user_id:
        letter.headers[USER_ID] = message.user_id
    left_out = copy_headers(message, letter, room_bytes=room_bytes - LEFT_OUT_BYTES)
    if left_out:
        letter.headers[LEFT_OUT] = ", ".join(left_out).encode("ascii", "replace").decode()[:LEFT_OUT_CHARACTERS]
    return letter


def copy_headers(source: AbstractMessage, target: Message, *, room_bytes: int) -> list[str]:
    """Copy the headers that are the sender's own, as far as they can be written into one frame.

    Args:
        room_bytes: how long all properties of the target may be.

    Returns: the names of those left out.
    """
    room_bytes -= len(target.properties.marshal())
    left_out = []
    for name, value in source.headers.items():
        if name.startswith(_OURS) or name in _OF_THE_BROKER:
            continue
        size_bytes = _written_bytes(name, value)
        if size_bytes is None or size_bytes > room_bytes:
            left_out.append(name)
            continue
        target.headers[name] = value
        room_bytes -= size_bytes
    return left_out


def _written_bytes(name: str, value: Any) -> int | None:  # noqa: ANN401 - whatever a table of AMQP holds
    """How long it gets, or None: not all that pamqp reads can it write."""
    if not _is_shallow(value, HEADER_LEVELS):
        return None
    try:
        return len(field_table({name: value}))
    except (TypeError, ValueError, OverflowError, struct.error):
        return None


def _is_shallow(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    items = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in items)
