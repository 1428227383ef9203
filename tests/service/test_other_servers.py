"""The app where there is nothing to take a connection over from: uvicorn as it comes, and a test client."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from notifier.app import create_app
from notifier.settings import read_settings
from tests.service.client import PROTOCOL, eventually, session
from tests.tokens import bearer, token

NOTIFICATION = {"to": {"topics": ["orders.eu"]}, "type": "greeting", "title": "Hello"}


def insecure_app() -> FastAPI:
    """What somebody gives to an ASGI server of their own."""
    return create_app(read_settings({"NOTIFIER_INSECURE": "true"}))


@pytest.fixture(scope="module")
def uvicorn_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """uvicorn's own command, with its own protocols."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", f"{__name__}:insecure_app", "--port", str(port)]
    with (tmp_path_factory.mktemp("uvicorn") / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=Path(__file__).parents[2])
    yield port
    server.terminate()
    assert server.wait(15) == -15


async def test_a_session_under_plain_uvicorn_is_as_any(uvicorn_port: int) -> None:
    address = f"127.0.0.1:{uvicorn_port}"
    async with httpx.AsyncClient(base_url=f"http://{address}", headers=bearer(), verify=False) as backend:

        async def is_ready() -> bool:
            try:
                return (await backend.post("/notify", json=NOTIFICATION)).status_code == 202
            except httpx.TransportError:
                return False

        await eventually(is_ready)
        async with session(f"ws://{address}/ws", "alice", extra={"topics": ["orders.#"]}) as first:
            await first.say(type="subscribe", topics=["orders.eu"], ref=1)
            subscribed = await first.frame("subscribed")
            await backend.post("/notify", json=NOTIFICATION)
            live = await first.frame("notification")
        await backend.post("/notify", json=NOTIFICATION)
        again = session(
            f"ws://{address}/ws",
            "alice",
            position=live["position"],
            topics=["orders.eu"],
            extra={"topics": ["orders.#"]},
        )
        async with again as second:
            missed = await second.notification()
            await second.say(type="refresh", token="no token")
            closed = await second.closed()

    assert subscribed["topics"] == ["orders.eu"]
    assert live["notification"]["title"] == missed["title"] == "Hello"
    assert second.welcome["resume"] == {"status": "resumed", "replayed": 1}
    assert closed == (4402, "token_invalid")


def test_a_session_in_a_test_client_is_as_any() -> None:
    with (
        TestClient(insecure_app()) as client,
        client.websocket_connect("/ws", subprotocols=[PROTOCOL]) as connection,
    ):
        connection.send_json({"type": "auth", "token": token("alice"), "topics": ["orders.eu"]})
        welcome = connection.receive_json()
        answer = client.post("/notify", json={**NOTIFICATION, "to": {"users": ["alice"]}}, headers=bearer())
        notification = connection.receive_json()
        connection.send_json({"type": "ping", "ref": 7})
        pong = connection.receive_json()

    assert welcome["denied"] == [{"topic": "orders.eu", "code": "topic_forbidden"}]
    assert notification["notification"]["id"] == answer.json()["id"]
    assert (pong["type"], pong["ref"]) == ("pong", 7)
