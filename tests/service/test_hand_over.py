"""The moment at which a connection becomes a session: nothing that was said before is lost, nothing stays behind."""

import asyncio

import httpx
import pytest
from websockets.frames import Opcode

from tests.replica import Replica
from tests.service.client import complaints, eventually, sessions_of
from tests.service.conftest import on_both_paths
from tests.service.raw import control, fragments, raw_client, text
from tests.tokens import token

pytestmark = on_both_paths


def auth(user: str, **more: object) -> bytes:
    return text(type="auth", token=token(user, topics=["orders.#"]), **more)


async def has_none(replica: Replica, user: str) -> bool:
    return await sessions_of(replica.operations_url, user) == []


async def test_frames_in_one_segment_with_auth_are_answered_in_order_and_reading_goes_on(
    replica: Replica, backend: httpx.AsyncClient
) -> None:
    async with raw_client(replica) as client:
        client.send(auth("one"), text(type="subscribe", topics=["orders.eu"], ref=1), text(type="ping", ref=2))
        together = await client.kinds(3)
        await backend.post("/notify", json={"to": {"topics": ["orders.eu"]}, "type": "t", "title": "x"})
        delivered = await client.kinds(1)
        client.send(text(type="ping", ref=3))

        assert together == ["welcome", "subscribed", "pong"]
        assert delivered == ["notification"]
        assert (await client.message())["ref"] == 3


async def test_a_frame_that_is_cut_by_the_hand_over_is_read_whole(replica: Replica) -> None:
    ping = text(type="ping", ref="cut")
    for at in (1, 2, 5, len(ping) - 1):
        async with raw_client(replica) as client:
            client.send(auth("cut"), ping[:at])
            began = await client.kinds(1)
            client.send(ping[at:], text(type="ping", ref="next"))

            assert began == ["welcome"]
            assert [(await client.message())["ref"] for _ in range(2)] == ["cut", "next"]


async def test_a_message_in_fragments_that_began_before_the_hand_over_is_read_whole(replica: Replica) -> None:
    first, second, last = fragments(b'{"type":"pi', b'ng","re', b'f":"whole"}')
    async with raw_client(replica) as client:
        client.send(auth("fragments"), first, control(Opcode.PING), second)
        began = await client.kinds(1)
        client.send(last)

        assert began == ["welcome"]
        assert (await client.message())["ref"] == "whole"


async def test_a_close_in_one_segment_with_auth_leaves_no_session(replica: Replica) -> None:
    async with raw_client(replica) as client:
        client.send(auth("brief"), control(Opcode.CLOSE, (1000).to_bytes(2, "big")))

        assert await client.close_code() == 1000
    await eventually(lambda: has_none(replica, "brief"))


@pytest.mark.parametrize("reads_welcome", [True, False])
async def test_clients_that_abort_at_once_leave_no_session(replica: Replica, reads_welcome: bool) -> None:
    """Checklist 2.3."""

    async def come_and_go() -> None:
        async with raw_client(replica) as client:
            client.send(auth("gone"), text(type="ping"))
            if reads_welcome:
                await client.message()
            client.abort()

    for _ in range(5):
        await asyncio.gather(*[come_and_go() for _ in range(10)])

    await eventually(lambda: has_none(replica, "gone"))


async def test_the_replica_of_this_module_has_nothing_to_complain_of(replica: Replica) -> None:
    """The last test here: what clients do wrong is no error of ours."""
    assert complaints(replica.log_path) == []
