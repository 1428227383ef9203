"""Sending through the request queue on RabbitMQ; needs the extra `amqp`."""

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any, Final, Self, Unpack

from notifier.clients.errors import Forbidden, Refused, Unauthenticated, Unconfirmed
from notifier.clients.notification import Notification, encode, members
from notifier.clients.patience import Patience
from notifier.clients.publisher import Publisher
from notifier.clients.unpublished import Unpublished

PATIENCE_SECONDS: Final = 30.0
DEFAULT_TENANT: Final = "default"
# What another attempt does not change; the rest may pass.
_REFUSALS: Final[Mapping[str, type[Refused]]] = {
    "login_refused": Unauthenticated,
    "no_virtual_host": Forbidden,
    "access_refused": Forbidden,
    "no_exchange": Refused,
    "unroutable": Refused,
}


class QueueNotifier:
    """Sends notifications with the broker's confirms. Tasks may share it.

    What the service does not accept becomes a dead letter: the broker's confirm says that the request is safe, and not
    that it is valid.

    Args:
        url: of the broker, `amqp://` or `amqps://`, with a user that may write to the exchange.
        tenant: whose notifications these are, unless their audience names another.
        prefix: as NOTIFIER_BROKER__PREFIX of the service.
        patience_seconds: how long a request is published again while the broker is away; 0: once.

    Raises, from `send`:
        Refused: the broker did not take it, and would not the next time: `Unauthenticated` for user and password,
            `Forbidden` for a virtual host or a permission, itself where the service has never run.
        Unconfirmed: the broker did not confirm it in time; its `idempotency_key` makes another try harmless.
        ValueError, TypeError: it cannot be said in JSON.
    """

    def __init__(
        self,
        url: str,
        *,
        tenant: str = DEFAULT_TENANT,
        prefix: str = "notifier",
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._publisher = Publisher(url, exchange=f"{prefix}.ingest")
        self._tenant = tenant
        self._patience_seconds = patience_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._publisher.close()

    async def send(self, **notification: Unpack[Notification]) -> str:
        """Send one notification, with the arguments of `Notification`. Returns its key once the broker has it."""
        request = members(notification)
        key = request.pop("idempotency_key", None) or str(uuid.uuid4())
        body, routing_key = encode(request), self._routing_key(request["to"])
        patience = Patience(self._patience_seconds)
        while True:
            try:
                await self._publisher.publish(body, key=key, routing_key=routing_key)
            except Unpublished as failure:
                refusal = _REFUSALS.get(failure.code)
                pause = patience.pause() if refusal is None else None
                if pause is None:
                    raise (refusal or Unconfirmed)(failure.code, failure.detail, idempotency_key=key) from failure
                await asyncio.sleep(pause)
            else:
                return key

    def _routing_key(self, to: dict[str, Any]) -> str:
        return f"{to.get('tenant', self._tenant)}.{'broadcast' if to.get('everyone') else 'send'}"
