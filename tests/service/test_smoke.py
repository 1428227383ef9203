"""A backend sends and a session receives, through the real command."""

import httpx

from tests.replica import Replica
from tests.service.client import session


async def test_a_sent_notification_reaches_the_session(replica: Replica, backend: httpx.AsyncClient) -> None:
    async with session(replica.ws_url, "smoke") as client:
        answer = await backend.post("/notify", json={"to": {"users": ["smoke"]}, "type": "greeting", "title": "Hello"})
        notification = await client.notification()

        assert answer.status_code == 202
        assert notification["id"] == answer.json()["id"]
        assert notification["title"] == "Hello"
