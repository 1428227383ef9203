"""The conversations of docs/protocol.md, held anew with a running service: `python -m tests.docs.flows` writes them."""

import asyncio
import json
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from tests.docs.flow import SHORT_SECONDS, Flow, revoke, send
from tests.docs.pages import ROOT
from tests.docs.stream_flows import events, events_back, events_ended
from tests.replica import Replica
from tests.service.client import PROTOCOL, bare, eventually, refusal, session, sessions_of
from tests.tokens import bearer, token

PAGE: Final = ROOT / "docs/protocol.md"
TRANSCRIPT: Final = re.compile(r"^```transcript ([a-z-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TOPICS: Final = ["orders.#"]


async def connect_by_hand(flow: Flow, replica: Replica) -> None:
    request = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{replica.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: {PROTOCOL}, bearer.{token('alice')}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    writer.write(request.encode())
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    for sign, text in ((">", request), ("<", answer)):
        for line in text.strip().split("\r\n"):
            flow.note(f"{sign} {line}")


async def connect(flow: Flow, replica: Replica) -> None:
    async with session(replica.ws_url, "alice") as alice:
        flow.connected(alice)
        await send(replica, everywhere=flow, to={"users": ["alice"]}, title="Order shipped", link="/orders/1234")
        await flow.hear(alice, "notification")
        await flow.say(alice, type="ping", ref=1)
        await flow.hear(alice, "pong")
        await flow.hear(alice, "heartbeat")


async def first_frame(flow: Flow, replica: Replica) -> None:
    async with bare(replica.ws_url) as client:
        flow.note("> connect /ws")
        await flow.say(client, type="auth", token=token("bert", topics=_TOPICS), topics=["orders.eu"])
        await flow.hear(client, "welcome")


async def refused(flow: Flow, replica: Replica) -> None:
    flow.note("> connect /ws, without an Origin")
    status, problem, _ = await refusal(replica.ws_url, subprotocols=[PROTOCOL, "bearer.a.b.c"])
    flow.note(f"< HTTP {status}")
    flow.note(f"< {json.dumps(problem)}")
    flow.note("> connect /ws, with an Origin that is allowed")
    offered = {"subprotocols": [PROTOCOL, "bearer.a.b.c"], "headers": [("Origin", replica.url)]}
    async with bare(replica.ws_url, **offered) as client:  # type: ignore[arg-type]
        flow.closed(*await client.closed())


async def subscribe(flow: Flow, replica: Replica) -> None:
    offered = [PROTOCOL, f"bearer.{token('cleo', topics=_TOPICS)}"]
    async with bare(replica.ws_url, subprotocols=offered) as cleo:
        flow.note("> connect /ws")
        await flow.hear(cleo, "welcome")
        await flow.say(cleo, type="subscribe", topics=["orders.eu", "prices.eu"], ref="a")
        before = await flow.hear(cleo, "subscribed")
        await send(replica, everywhere=flow, to={"topics": ["orders.eu"]}, title="Delayed")
        await flow.hear(cleo, "notification")
        await flow.say(cleo, type="unsubscribe", topics=["orders.eu"], ref="b")
        await flow.hear(cleo, "unsubscribed")
        await flow.say(cleo, type="subscribe", topics=["orders.eu"], ref="c", position=before["position"])
        await flow.hear(cleo, "subscribed")
        await flow.hear(cleo, "notification")
        await flow.say(cleo, type="presence", ref="d")
        await flow.hear(cleo, "error")


async def resume(flow: Flow, replica: Replica) -> None:
    async with session(replica.ws_url, "dora") as dora:
        flow.connected(dora)
        await send(replica, everywhere=flow, to={"users": ["dora"]}, title="One")
        last = (await flow.hear(dora, "notification"))["position"]
    flow.note("(the connection is lost)")
    for title in ("Two", "Three"):
        await send(replica, everywhere=flow, to={"users": ["dora"]}, title=title)
    async with session(replica.ws_url, "dora", position=last) as dora:
        flow.connected(dora, position=last)
        await flow.hear(dora, "notification")
        await flow.hear(dora, "notification")


async def expiry(flow: Flow, replica: Replica) -> None:
    async with session(replica.ws_url, "emil", lifetime_seconds=SHORT_SECONDS) as emil:
        flow.connected(emil)
        await flow.hear(emil, "token_expiring")
        flow.closed(*await emil.closed())


async def refresh(flow: Flow, replica: Replica) -> None:
    async with session(replica.ws_url, "fritz", lifetime_seconds=SHORT_SECONDS) as fritz:
        flow.connected(fritz)
        await flow.hear(fritz, "token_expiring")
        await flow.say(fritz, type="refresh", token=token("fritz"), ref=1)
        await flow.hear(fritz, "refreshed")


async def revoked(flow: Flow, replica: Replica) -> None:
    offered = [PROTOCOL, f"bearer.{token('jana')}"]
    async with bare(replica.ws_url, subprotocols=offered) as jana:
        flow.note("> connect /ws")
        await flow.hear(jana, "welcome")
        await revoke(flow, replica, "jana")
        flow.closed(*await jana.closed())
    flow.note("> connect /ws, with the same token, without an Origin")
    status, problem, _ = await refusal(replica.ws_url, subprotocols=offered)
    flow.note(f"< HTTP {status}")
    flow.note(f"< {json.dumps(problem)}")


async def slow(flow: Flow, replica: Replica) -> None:
    """What a client finds that did not read: as much as the buffers held, and then the close."""
    async with session(replica.ws_url, "gina", receive_buffer_bytes=4_096) as gina:
        flow.connected(gina)
        flow.note("(the client reads nothing; a backend sends it 2,000 notifications)")
        batch = [{"to": {"users": ["gina"]}, "type": "tick", "data": {"n": n, "pad": "x" * 300}} for n in range(1_000)]
        async with httpx.AsyncClient(base_url=replica.url, headers=bearer(), verify=False) as backend:
            for _ in range(2):
                assert (await backend.post("/notify/batch", json=batch, timeout=10)).status_code == 202
        await eventually(lambda: _is_gone(replica, "gina"))
        frames, code, reason = await gina.rest()
        flow.note(f"(the client reads again: {len(frames)} notifications, and then)")
        flow.closed(code, reason)
    last = frames[-1]["position"]
    async with session(replica.ws_url, "gina", position=last) as gina:
        flow.connected(gina, position=last)
        flow.note(f"(and {gina.welcome['resume']['replayed']} notifications)")
        assert len(frames) + gina.welcome["resume"]["replayed"] == 2_000


async def _is_gone(replica: Replica, user: str) -> bool:
    return not await sessions_of(replica.operations_url, user)


async def drain_and_reset(drain: Flow, reset: Flow, ending: Replica, other: Replica) -> None:
    """Resume from the position of an embedded journal that is gone."""
    async with session(ending.ws_url, "hugo") as hugo:
        drain.connected(hugo)
        ending.process.send_signal(signal.SIGTERM)
        drain.note("(the replica gets SIGTERM)")
        last = (await drain.hear(hugo, "reconnect"))["position"]
        drain.closed(*await hugo.closed())
    async with session(other.ws_url, "hugo", position=last) as hugo:
        reset.connected(hugo, position=last)


async def hold_all(directory: Path) -> Mapping[str, Sequence[str]]:
    """The lines of every conversation, by its name on the page."""
    settings = {"ACCESS__LEEWAY_SECONDS": "0", "SESSIONS__STALL_TIMEOUT_SECONDS": "1", "LIMITS__BATCH": "9999/second"}
    patient = {**settings, "HTTP__SEND_BUFFER_BYTES": "4096", "SESSIONS__HEARTBEAT_SECONDS": "6"}
    brisk = {**settings, "SESSIONS__HEARTBEAT_SECONDS": "1", "HTTP__DRAIN_WINDOW_SECONDS": "0.1"}
    first, second = await asyncio.gather(
        *(asyncio.to_thread(_start, directory / f"{n}.log", each) for n, each in enumerate((patient, brisk)))
    )
    flows: dict[str, Flow] = {}

    def named(name: str, talk: Callable[[Flow, Replica], Coroutine[Any, Any, None]], replica: Replica) -> Any:
        flows[name] = Flow()
        return talk(flows[name], replica)

    try:
        talks = [
            named("handshake", connect_by_hand, first),
            named("connect", connect, second),
            named("first-frame", first_frame, first),
            named("refused", refused, first),
            named("events", events, second),
            named("events-back", events_back, second),
            named("events-ended", events_ended, first),
            named("subscribe", subscribe, first),
            named("resume", resume, first),
            named("expiry", expiry, second),
            named("refresh", refresh, second),
            named("revoked", revoked, first),
            named("slow", slow, first),
        ]
        await asyncio.gather(*talks)
        flows |= {"drain": Flow(), "reset": Flow()}
        await drain_and_reset(flows["drain"], flows["reset"], second, first)
    finally:
        for replica in (first, second):
            await asyncio.to_thread(replica.stop)
    return {name: flow.lines for name, flow in flows.items()}


def _start(log_path: Path, settings: Mapping[str, str]) -> Replica:
    return Replica(log_path, {f"NOTIFIER_{name}": value for name, value in settings.items()})


def main() -> None:
    """Write the conversations on the page anew."""
    with tempfile.TemporaryDirectory() as directory:
        held = asyncio.run(hold_all(Path(directory)))
    page = PAGE.read_text()
    written = TRANSCRIPT.sub(lambda found: f"```transcript {found[1]}\n" + "\n".join(held[found[1]]) + "\n```", page)
    PAGE.write_text(written)
    missing = held.keys() - {name for name, _ in TRANSCRIPT.findall(page)}
    sys.stdout.write(f"wrote {PAGE.name}; not on the page: {sorted(missing) or 'none'}\n")


if __name__ == "__main__":
    main()
