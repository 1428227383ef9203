"""Following a stream, over a connection of its own, past whatever breaks: each message once, and in order."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

from notifier.broker.connection import Backoff, Broker, BrokerError, Connection
from notifier.broker.losses import Losses
from notifier.journal.epochs import AnotherStream, Message, NotThereYet, Place
from notifier.journal.stream import Silence, StreamReader

log: Final = logging.getLogger(__name__)
PREFETCH: Final = 100  # Of messages up to 1 MiB.
CAREFUL_PREFETCH: Final = 1  # One at a time shows which message it is that a connection dies of.
VERIFY_SECONDS: Final = 3.0  # The last message is there, if it is anywhere, and comes at once.
SETUP_SECONDS: Final = 10.0  # The most that all before the first message may take on a connection that is open.


class Follower:
    """Reads one stream, for one reader at a time.

    Args:
        broker: where the stream is; `role` names the connection there.
        prepare: declares or checks what is needed, on a connection that was just opened. Raises BrokerError.
        read_back_seconds: how far a new reader goes back.
        silence_seconds: see `StreamReader`.
        lost: told each time that a connection has ended, and another one will be opened.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        role: str,
        stream: str,
        prepare: Callable[[Connection], Awaitable[None]],
        read_back_seconds: float,
        silence_seconds: float,
        lost: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._role = role
        self._stream = stream
        self._prepare = prepare
        self._read_back_seconds = read_back_seconds
        self._silence_seconds = silence_seconds
        self._lost = lost
        self._connection: Connection | None = None  # What is read over, while it is open.
        self.is_following = False
        self.read_at = time.monotonic()  # Monotonic seconds at which the last message came.
        self.skipped_messages = 0
        self.losses = Losses(role, broker)

    @property
    def silent_seconds(self) -> float:
        """How long nothing has been read."""
        return time.monotonic() - self.read_at

    def read_anew(self) -> None:
        """Have it opened again, and read on behind the last message; it is as if the connection had been lost."""
        if self._connection is not None:
            self._connection.cut()

    async def messages(self, place: Place) -> AsyncGenerator[Message, None]:
        """Yield the messages behind the place that were not read before."""
        backoff = Backoff()
        while True:
            try:
                async with (
                    self._broker.connect(self._role) as self._connection,
                    aclosing(self._read(self._connection, place)) as messages,
                ):
                    async for message in messages:
                        backoff.reset()
                        yield message
            except BrokerError as error:
                self.losses.note(error)
                if isinstance(error, Silence):
                    place.note_silence()
                if place.note_loss(is_undecodable=error.is_undecodable):
                    self.skipped_messages += 1
                    log.error("message skipped", extra={"stream": self._stream, "reason": str(error)})
            except NotThereYet as error:
                log.warning("stream read once more", extra={"stream": self._stream, "reason": str(error)})
            except AnotherStream as error:
                log.error("stream is another one", extra={"stream": self._stream, "reason": str(error)})
            finally:
                self._connection, self.is_following = None, False
            self._lost()
            await backoff.pause()

    async def _read(self, connection: Connection, place: Place) -> AsyncGenerator[Message, None]:
        start = place.start()
        async with asyncio.timeout(SETUP_SECONDS):
            await self._prepare(connection)
            reader = await StreamReader.open(
                connection,
                self._stream,
                f"{self._read_back_seconds:.0f}s" if start is None else start,
                prefetch=CAREFUL_PREFETCH if place.is_careful else PREFETCH,
            )
        self.is_following = place.is_verified
        async with aclosing(
            reader.messages(lambda: VERIFY_SECONDS if not place.is_verified else self._silence_seconds)
        ) as messages:
            async for message in messages:
                self.read_at = time.monotonic()
                is_news = place.is_news(message)
                self.is_following = place.is_verified
                self.losses.end()
                if is_news:
                    yield message
