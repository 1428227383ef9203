"""A broker password that is changed under a running replica: its file brings the new one at the next connection."""

import asyncio
import secrets
from pathlib import Path

import httpx

from tests.rabbitmq import RabbitMQ
from tests.service.client import complaints, eventually, session
from tests.service.conftest import StartReplica
from tests.service.publisher import publisher
from tests.tcp_proxy import TcpProxy
from tests.tokens import bearer


async def test_a_changed_password_is_picked_up_without_a_restart(
    rabbitmq: RabbitMQ, prefix: str, start_replica: StartReplica, tmp_path: Path
) -> None:
    user, file = f"rotated-{prefix}", tmp_path / "url"
    first, second = secrets.token_hex(8), secrets.token_hex(8)
    rabbitmq.add_user(user, first)
    async with TcpProxy("127.0.0.1", rabbitmq.port) as proxy:
        file.write_text(proxy.url(rabbitmq.url(user, first)))
        replica = await asyncio.to_thread(start_replica, JOURNAL__URL_FILE=str(file), BROKER__PREFIX=prefix)
        async with session(replica.ws_url, "alice") as client:
            rabbitmq.change_password(user, second)
            proxy.reset_connections()
            await client.frame("degraded")
            file.write_text(proxy.url(rabbitmq.url(user, second)) + "\n")
            await client.frame("restored")
            async with httpx.AsyncClient(base_url=replica.url, headers=bearer(), verify=False) as backend:
                sent = await backend.post("/notify", json={"to": {"users": ["alice"]}, "type": "t", "title": "x"})
            by_post = await client.notification()
            async with publisher(rabbitmq.url(), prefix) as queue:
                await queue.send({"to": {"users": ["alice"]}, "type": "t", "title": "by queue"})
            by_queue = await client.notification()

            file.write_text(rabbitmq.url(user, second).replace("127.0.0.1", "127.0.0.2"))
            proxy.reset_connections()

            async def is_refused() -> bool:
                lines = [
                    line for line in replica.log_lines() if line["event"].startswith("broker credentials not read")
                ]
                return any("takes a restart" in line["reason"] for line in lines)

            await eventually(is_refused)

    assert by_post["id"] == sent.json()["id"]
    assert by_queue["title"] == "by queue"
    log = replica.log_path.read_text()
    assert "broker credentials changed" in log
    assert first not in log
    assert second not in log
    assert complaints(replica.log_path) == []
