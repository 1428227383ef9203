"""`notifier check --connect`: does on each broker what the service will do there, and says what it may not.

Before that it fetches the keys of the issuers that publish them, and tries the Redis of shared counts.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from notifier.commands.issuer_keys import try_all
from notifier.commands.redis_counts import try_counts

if TYPE_CHECKING:
    from notifier.access.remote_keys import RemoteKeys
    from notifier.broker.connection import Broker, Connection
    from notifier.broker.refusals import Difference
    from notifier.broker.topology import Names, Topology
    from notifier.settings import Settings

TRY_SECONDS: Final = 5.0
UNKNOWN_BINDING: Final = "AMQP has no question for it; where it is not there, the first message is returned, NO_ROUTE"
BLOCKED: Final = "the broker takes no messages now: an alarm over memory or disk"


def connect(settings: "Settings", remotes: "Sequence[RemoteKeys]") -> int:
    """Try every issuer whose keys are fetched, Redis, and every broker; print a line for each thing that was tried.

    Returns the exit code.
    """
    from notifier.broker.topology import Names
    from notifier.engine import broker, topologies

    logging.basicConfig(level=logging.CRITICAL)  # Libraries tell of refusals too, at length.
    is_fine = all([try_all(remotes), try_counts(settings)])
    needed = topologies(settings)
    if not needed:
        print("no broker: the journal is embedded, and requests come over HTTP alone")
        return 0 if is_fine else 1

    async def run() -> bool:
        names = Names(settings.broker.prefix)
        done = [
            await _Trial(broker(url), topology, names, declares=settings.broker.declare).run()
            for url, topology in needed
        ]
        return all(done)

    return 0 if asyncio.run(run()) and is_fine else 1


class _Trial:
    """What is tried on one broker."""

    def __init__(self, broker: "Broker", topology: "Topology", names: "Names", *, declares: bool) -> None:
        self._broker = broker
        self._topology = topology
        self._names = names
        self._declares = declares
        self._is_fine = True  # Until something is missing that the service cannot do without.

    async def run(self) -> bool:
        """Print what is there and what is missing. Returns whether the service will work."""
        from notifier.broker.connection import BrokerError
        from notifier.broker.probes import check_version

        began = time.perf_counter()
        try:
            async with self._broker.connect("check") as connection:
                await self._introduce(connection, time.perf_counter() - began)
                check_version(connection, self._topology.queue_types)
                await self._try_parts(connection)
                await self._try_permissions(connection)
        except BrokerError as error:
            self._miss(f"{self._broker}: {error}")
        return self._is_fine

    async def _introduce(self, connection: "Connection", connect_seconds: float) -> None:
        from notifier.broker.probes import identify

        product, version = identify(connection)
        channel = await connection.open_channel()
        began = time.perf_counter()
        async with asyncio.timeout(TRY_SECONDS):
            await channel.set_qos(prefetch_count=1)
        round_trip_ms = (time.perf_counter() - began) * 1000
        await channel.close()
        print(
            f"{self._broker}: {product} {'.'.join(map(str, version))}, connected in {connect_seconds * 1000:.0f} ms, "
            f"a round trip in {round_trip_ms:.1f} ms"
        )

    async def _try_parts(self, connection: "Connection") -> None:
        from notifier.broker.topology import Binding, prepare_part

        for part in self._topology.parts:
            if isinstance(part, Binding) and not self._declares:
                print(f"unknown: {part}: {UNKNOWN_BINDING}")
                continue
            await self._try(connection, str(part), partial(prepare_part, connection, part, declares=self._declares))

    async def _try_permissions(self, connection: "Connection") -> None:
        from notifier.broker.probes import try_consume, try_publish, try_stream

        names, queues = self._names, {queue.name for queue in self._topology.queues}
        trials: list[tuple[str, Callable[[Connection, str], Awaitable[None]], str, str | None]] = []
        if names.stream in queues:
            trials += [
                ("read", try_stream, names.stream, None),
                ("publish to", try_publish, names.journal, None),
                ("read", try_stream, names.control_stream, None),
                ("publish to", try_publish, names.control, None),
            ]
        if names.requests in queues:
            trials += [
                ("consume", try_consume, names.requests, None),
                ("consume", try_consume, names.dead, "needed by notifier dlq"),
                ("publish to", try_publish, names.dead_letters, None),
                ("publish to", try_publish, names.ingest, "needed by notifier dlq replay"),
                ("publish to", try_publish, "", "needed to answer messages with reply_to"),
            ]
        # Publishing last: under an alarm the broker stops reading from a connection that has published.
        for verb, trial, name, only in sorted(trials, key=lambda each: each[1] is try_publish):
            await self._try(connection, f"{verb} {name or 'amq.default'}", partial(trial, connection, name), only=only)

    async def _try(
        self,
        connection: "Connection",
        what: str,
        attempt: "Callable[[], Awaitable[Sequence[Difference] | None]]",
        *,
        only: str | None = None,
    ) -> None:
        """Print how an attempt went; `only` says what it is needed for, where the service goes without."""
        from notifier.broker.connection import BrokerError

        if connection.transport is None or connection.transport.connection.is_closed:
            print(f"not tried: {what}, since the broker closed the connection")
            return
        try:
            async with asyncio.timeout(0 if await connection.is_blocked() else TRY_SECONDS):
                differences = await attempt()
        except TimeoutError:
            blocked = await connection.is_blocked()
            problem = f"{what}: {BLOCKED if blocked else 'the broker did not answer in time'}"
        except BrokerError as error:
            problem = str(error)
        else:
            print("; ".join([f"{'differs' if differences else 'ok'}: {what}", *map(str, differences or ())]))
            return
        if only is None:
            self._miss(problem)
        else:
            print(f"without: {problem}; {only}")

    def _miss(self, problem: str) -> None:
        print(f"missing: {problem}")
        self._is_fine = False
