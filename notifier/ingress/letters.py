"""What goes out from the queue door: dead letters, confirmed before their message is acknowledged, and answers."""

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Self

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import AMQPError

from notifier.broker.connection import Connection
from notifier.core.errors import NotifierError, Unavailable
from notifier.core.pipeline import Appended
from notifier.ingress.answers import Outcome, accepted, result
from notifier.ingress.problems import problem
from notifier.ingress.requests import Taken

log: Final = logging.getLogger(__name__)
PUBLISH_SECONDS: Final = 3.0
ERROR_CODE: Final = "x-notifier-error-code"
ERROR: Final = "x-notifier-error"
USER_ID: Final = "x-notifier-user-id"
ERROR_CHARACTERS: Final = 1_000
DIRECT_REPLY: Final = "amq.rabbitmq.reply-to."


class Letters:
    """Publishes over a connection of its own: an alarm must not stop the acknowledgements."""

    def __init__(self, connection: Connection, *, dead_letters: str) -> None:
        self._connection = connection
        self._dead_letters = dead_letters
        self._channel: AbstractChannel | None = None  # None until entered.
        self._answering: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._channel = await self._connection.open_channel()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def give_up(self, message: AbstractIncomingMessage, error: NotifierError) -> None:
        """Return once the broker has it as a dead letter. Raises AMQPError or TimeoutError when it has not."""
        assert self._channel is not None
        exchange = await self._channel.get_exchange(self._dead_letters, ensure=False)
        letter = _dead_letter(message, error)
        await exchange.publish(letter, message.routing_key or "", mandatory=True, timeout=PUBLISH_SECONDS)

    def answer(self, taken: Sequence[Taken], appended: Appended) -> None:
        """Answer those who asked for it, without keeping anybody waiting."""
        if not any(_reply_to(each) for each in taken):
            appended.abandon()
            return
        task = asyncio.create_task(self._answer(taken, appended))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, taken: Sequence[Taken], appended: Appended) -> None:
        assert self._channel is not None
        outcomes = await _outcomes(taken, appended)
        for each in taken:
            mine = [next(outcomes) for _ in each.envelopes]
            reply_to = _reply_to(each)
            if reply_to is None:
                continue
            body = json.dumps(_answer_body(each, mine)).encode()
            answer = Message(body, content_type="application/json", correlation_id=each.message.correlation_id)
            try:
                exchange = self._channel.default_exchange
                await exchange.publish(answer, reply_to, mandatory=False, timeout=PUBLISH_SECONDS)
            except (AMQPError, TimeoutError) as error:
                log.warning("answer not sent", extra={"reason": str(error) or type(error).__name__})


async def _outcomes(taken: Sequence[Taken], appended: Appended) -> Iterator[Outcome]:
    try:
        return iter(await appended.outcomes())
    except Unavailable as error:
        return iter([error for each in taken for _ in each.envelopes])


def _reply_to(taken: Taken) -> str | None:
    """Where the answer goes. Direct reply-to only: no message may make us write into a queue of its choice."""
    reply_to = taken.message.reply_to or ""
    return reply_to if reply_to.startswith(DIRECT_REPLY) else None


def _answer_body(taken: Taken, outcomes: Sequence[Outcome]) -> Mapping[str, Any]:
    if taken.error is not None:
        return problem(taken.error)
    if taken.is_array:
        return {"results": [result(index, outcome) for index, outcome in enumerate(outcomes)]}
    return problem(outcomes[0]) if isinstance(outcomes[0], NotifierError) else accepted(outcomes[0])


def _dead_letter(message: AbstractIncomingMessage, error: NotifierError) -> Message:
    """The message as it came, and why it could not be sent.

    Without what the broker would act on: it refuses another's `user_id` and a foreign `reply_to`, and would let the
    letter expire.
    """
    headers = {name: value for name, value in message.headers.items() if name != "x-delivery-count"}
    detail = error.detail[:ERROR_CHARACTERS].encode(errors="replace").decode()
    headers |= {ERROR_CODE: error.code, ERROR: detail}
    if message.user_id:
        headers[USER_ID] = message.user_id
    return Message(
        message.body,
        headers=headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=DeliveryMode.PERSISTENT,
        correlation_id=message.correlation_id,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        app_id=message.app_id,
    )
