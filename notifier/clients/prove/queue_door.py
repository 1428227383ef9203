"""Sending through the request queue: published with confirms, and returned when there is no queue behind."""

import json

from notifier.clients.prove.answers import Answer, Item
from notifier.clients.publisher import Publisher
from notifier.clients.unpublished import Unpublished


class QueueDoor:
    """Publishes what it is given.

    Args:
        url: of the broker, `amqp://` or `amqps://`; never shown.
        tenant: whose notifications these are.
    """

    def __init__(self, url: str, *, prefix: str, tenant: str) -> None:
        self._name = f"{prefix}.ingest"
        self._publisher = Publisher(url, exchange=self._name)
        self._tenant = tenant

    async def attempt(self, item: Item, _: int, /) -> Answer:
        audience = item.audience
        to = {"users": audience.users, "topics": audience.topics, "everyone": audience.everyone}
        routing_key = f"{self._tenant}.{'broadcast' if audience.everyone else 'send'}"
        try:
            await self._publisher.publish(
                json.dumps({"to": to, **item.body}).encode(), key=item.key, routing_key=routing_key
            )
        except Unpublished as error:
            return Answer("none", error.reason, self._name)
        return Answer("accepted", "confirmed", self._name)

    async def close(self) -> None:
        await self._publisher.close()
