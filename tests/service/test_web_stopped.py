"""Tabs that are stopped shut nobody out, and a token that is handed out again brings no haste; in a real Chromium."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from notifier.clients.listen import Listener
from notifier.clients.sessions import Refused
from notifier.clients.socket import socket
from tests.replica import Replica
from tests.service.tabs import Send, Site, Tab, open_tab, replica_for, sender, sessions_of
from tests.tokens import bearer, token

pytestmark = pytest.mark.asyncio(loop_scope="module")

OpenTab = Callable[..., Awaitable[Tab]]
ENDS: Final = 3


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site(policy="")
    yield site
    site.close()


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Replica]:
    with replica_for(site, tmp_path_factory.mktemp("stopped")) as replica:
        yield replica


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return f"stopped-{abs(hash(request.node.name))}"


@pytest_asyncio.fixture(loop_scope="module")
async def send(replica: Replica, user: str) -> AsyncIterator[Send]:
    async with sender(replica, user) as sent:
        yield sent


@pytest.fixture
def tab(context: BrowserContext, site: Site, replica: Replica, user: str) -> OpenTab:
    async def opened(**claims: Any) -> Tab:
        return await open_tab(context, site, replica.url, **{"user": user, **claims})

    return opened


async def revoke(replica: Replica, **what: str) -> None:
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer("security", scopes=["notify:revoke"])) as backend:
        answer = await backend.post("/revocations", json=what)
    assert answer.status_code == 202, answer.text


class TestTabs:
    async def test_after_a_revocation_any_tab_may_sign_in_again(
        self, tab: OpenTab, send: Send, replica: Replica, user: str
    ) -> None:
        """The others stay stopped, and take nothing from it."""
        stays, loads = await tab(), await tab()
        for each in (stays, loads):
            await each.start()
        await revoke(replica, user=user)
        for each in (stays, loads):
            await each.is_("stopped")
            assert await each.value("client.state.code") == 4403
        fresh = {"iat": int(time.time()) + 2}
        loads.claims["extra"] = fresh
        await loads.load()
        await loads.start()
        new = await tab(extra=fresh)
        await new.start()
        await send("One")

        for each in (loads, new):
            await each.has("One")
        assert await stays.titles() == []
        assert await stays.value("client.state.state") == "stopped"
        assert await sessions_of(replica, user) == 1

    @pytest.mark.parametrize("cause", ["expired", "final"])
    async def test_a_tab_that_is_stopped_shuts_no_new_one_out(self, tab: OpenTab, cause: str) -> None:
        stopped, good = await tab(lifetime_seconds=-60), await tab()
        if cause == "final":
            await stopped.value(
                """void (() => {
                  const mint = window.mint;
                  const signedOut = Object.assign(new Error("signed out"), { isFinal: true });
                  window.mint = () => (minted > 1 ? Promise.reject(signedOut) : mint());
                })()"""
            )
        await stopped.page.evaluate("start()")
        await stopped.is_("stopped")

        await good.start()
        assert await stopped.value("client.state.code") == (4401 if cause == "expired" else 4402)
        assert await stopped.value("states.at(-1).state") == "stopped"

    async def test_who_followed_a_tab_whose_token_was_refused_goes_on_under_its_own(
        self, tab: OpenTab, send: Send, replica: Replica, user: str
    ) -> None:
        leader, follower = await tab(extra={"jti": user}), await tab(extra={"jti": f"{user}-other"})
        for each in (leader, follower):
            await each.start()
        assert await sessions_of(replica, user) == 1
        await revoke(replica, token_id=user)
        await leader.is_("stopped")
        await send("One")

        await follower.has("One")
        assert "stopped" not in await follower.value("states.map(({ state }) => state)")
        assert await follower.value("resets") == []


class TestTexts:
    """What `getToken` returns may be anything."""

    @pytest.mark.parametrize("given", ["'PASTE THE TOKEN HERE'", "'<html>Bad Gateway'", "({ token: 'x' })"])
    async def test_what_is_no_token_stops_it_and_is_not_told(self, tab: OpenTab, given: str) -> None:
        page = await tab()
        await page.value(f"(window.mint = () => {given}, start())")

        await page.is_("stopped")
        assert await page.value("[client.state.code, client.state.reason, errors.length]") == [
            4402,
            "token_invalid: getToken returned something else",
            1,
        ]
        assert page.complaints == []

    async def test_what_a_browser_throws_is_tried_again_without_the_token_in_its_reason(self, tab: OpenTab) -> None:
        page = await tab()
        await page.value(
            """void (() => {
              const { WebSocket } = window;
              window.WebSocket = function (_, [, secret]) {
                window.WebSocket = WebSocket;
                throw new SyntaxError(`The subprotocol '${secret}' is invalid.`);
              };
            })()"""
        )
        await page.start()

        reasons = await page.value("states.map(({ reason }) => reason).filter(Boolean)")
        assert reasons == ["SyntaxError: The subprotocol 'bearer.…' is invalid."]
        assert page.complaints == []

    async def test_what_is_no_address_is_told_at_once(self, tab: OpenTab) -> None:
        page = await tab()
        thrown = await page.value("(() => { try { start({ url: 'http://' }); } catch (e) { return e.name; } })()")

        assert thrown == "TypeError"


class Forgiving:
    """Lets an expired token in some times, as while clocks may differ, and shows it out at once; then it refuses."""

    def __init__(self) -> None:
        self.handshakes = 0

    async def converse(self, connection: ServerConnection) -> None:
        self.handshakes += 1
        if self.handshakes <= ENDS:
            welcome = {"type": "welcome", "resume": {"status": "new"}, "topics": [], "denied": []}
            await connection.send(json.dumps({**welcome, "position": "a.1.0", "heartbeat_seconds": 25}))
        await connection.close(4401, "token_expired")


@asynccontextmanager
async def forgiving() -> AsyncIterator[tuple[Forgiving, str]]:
    server = Forgiving()
    async with serve(server.converse, "127.0.0.1", 0, subprotocols=[Subprotocol("notifier.v1")]) as listening:
        yield server, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


class TestHandedOutAgain:
    """The token that was just called expired: back-off, and the end when it is refused."""

    async def test_the_page_waits_longer_each_time(self, tab: OpenTab) -> None:
        page = await tab()
        async with forgiving() as (server, url):
            await page.value("(() => { const once = mint(); window.mint = () => once; })()")
            await page.value("void (Math.random = () => 0.99)")  # What is left of full jitter is its ceiling.
            await page.value(
                f"""void (() => {{
                  start({{ url: '{url}' }});
                  window.waits = [];
                  client.on("state", ({{ retryAt }}) => retryAt && waits.push(retryAt - Date.now()));
                }})()"""
            )
            await page.is_("stopped")

        rounds = ["connecting", "live", "waiting"] * ENDS
        states = await page.value("states.map(({ state }) => state)")
        assert states == [*rounds, "connecting", "stopped"]
        assert [round(wait / 500) for wait in await page.value("waits")] == [1, 2, 4]
        assert server.handshakes == ENDS + 1

    async def test_the_python_client_does_so_too(self) -> None:
        ends: list[dict[str, Any]] = []
        constant = token()
        async with forgiving() as (server, url), asyncio.timeout(20):
            with pytest.raises(Refused) as refused:
                await _collect(ends, Listener(url, constant, transport=socket))

        pauses = [end["after_ms"] for end in ends if end["type"] == "disconnected"]
        assert (refused.value.code, server.handshakes) == (4401, ENDS + 1)
        assert pauses[0] == 0
        assert all(pauses[1:])


async def _collect(frames: list[dict[str, Any]], listener: Listener) -> None:
    async for frame in listener:
        frames.append(frame)  # noqa: PERF401 - what was heard before it raises counts
