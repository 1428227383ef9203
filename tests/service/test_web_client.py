"""The JavaScript client in a real Chromium, against replicas that are killed, drained and blocked."""

import asyncio
import gzip
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext

from tests.nginx import AS_SHIPPED, nginx
from tests.rabbitmq import RabbitMQ
from tests.replica import Replica
from tests.service.conftest import StartReplica
from tests.service.tabs import Send, Site, Tab, is_subscribed, open_tab, replica_for, sender, sessions_of
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.asyncio(loop_scope="module")

OpenTab = Callable[..., Awaitable[Tab]]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Replica]:
    with replica_for(site, tmp_path_factory.mktemp("web")) as replica:
        yield replica


@pytest_asyncio.fixture(loop_scope="module")
async def balancer(replica: Replica) -> AsyncIterator[TcpProxy]:
    """The one address of the service, in front of a replica; another one can take its place."""
    async with TcpProxy("127.0.0.1", replica.port) as balancer:
        yield balancer


@pytest.fixture
def tab(context: BrowserContext, site: Site, balancer: TcpProxy, user: str) -> OpenTab:
    """Opens a tab of one user behind the balancer."""

    async def opened(**claims: Any) -> Tab:
        return await open_tab(context, site, f"http://127.0.0.1:{balancer.port}", **{"user": user, **claims})

    return opened


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return f"web-{abs(hash(request.node.name))}"


@pytest_asyncio.fixture(loop_scope="module")
async def send(replica: Replica, user: str) -> AsyncIterator[Send]:
    """Sends to the user of the test; the argument is the title."""
    async with sender(replica, user) as sent:
        yield sent


class TestOneTab:
    async def test_what_is_sent_is_told_to_listeners_and_iterators(self, tab: OpenTab, send: Send) -> None:
        page = await tab()
        await page.start()
        await page.page.evaluate(
            "() => { window.iterated = []; (async () => { for await (const n of client) iterated.push(n.title); })(); }"
        )
        await send("One")
        await send("Two")

        await page.has("One", "Two")
        await page.until("iterated.length === 2")
        assert [each["state"] for each in await page.value("states")] == ["connecting", "live"], await page.value(
            "states"
        )
        assert page.complaints == []

    async def test_a_lost_connection_is_resumed_without_another_token(
        self, tab: OpenTab, send: Send, balancer: TcpProxy
    ) -> None:
        page = await tab()
        await page.start()
        await send("One")
        await page.has("One")
        balancer.cut()
        await page.is_("waiting")
        await send("Two")
        balancer.restore()

        await page.has("One", "Two")
        assert len(page.minted) == 1
        assert await page.value("resets") == []
        assert await page.value("client.state.resume") == {"status": "resumed", "replayed": 1}

    async def test_a_reload_brings_what_came_meanwhile(self, tab: OpenTab, send: Send) -> None:
        page = await tab()
        await page.start()
        await send("One")
        await page.has("One")
        await page.page.goto("about:blank")
        await send("Two")
        await page.load()
        await page.start()

        await page.has("Two")

    async def test_a_position_that_is_gone_is_a_reset(self, tab: OpenTab) -> None:
        page = await tab()
        await page.start(position="another.1.0", share=False)

        await page.until("resets.length === 1")
        assert await page.value("resets[0].reason") == "epoch_changed"

    async def test_topics_are_joined_and_left(self, tab: OpenTab, send: Send) -> None:
        page = await tab(topics=["orders.#"])
        await page.start(topics=["orders.eu"])
        await page.page.evaluate("client.subscribe('orders.us', 'prices.eu')")
        await page.until("errors.length === 1")
        assert await page.value("errors") == [{"code": "topic_forbidden", "detail": "prices.eu"}]
        await send("EU", to={"topics": ["orders.eu"]})
        await send("US", to={"topics": ["orders.us"]})
        await page.has("EU", "US")
        await page.page.evaluate("client.unsubscribe('orders.us')")
        await send("US again", to={"topics": ["orders.us"]})
        await send("EU again", to={"topics": ["orders.eu"]})

        await page.has("EU", "US", "EU again")

    async def test_a_newer_one_of_a_collapse_key_says_which_it_replaces(self, tab: OpenTab, send: Send) -> None:
        page = await tab()
        await page.start()
        older = await send("10 %", collapse_key="progress")
        await send("20 %", collapse_key="progress")

        await page.has("10 %", "20 %")
        assert await page.value("got.map(({ replaces }) => replaces ?? null)") == [None, older]

    async def test_a_token_is_refreshed_in_place(self, tab: OpenTab, send: Send) -> None:
        page = await tab(lifetime_seconds=12)
        await page.start()
        await page.until("minted === 2", within_seconds=30)
        await send("After the refresh")

        await page.has("After the refresh")
        assert [each["state"] for each in await page.value("states")] == ["connecting", "live"], await page.value(
            "states"
        )

    async def test_an_expired_token_is_replaced_once_at_once(self, tab: OpenTab) -> None:
        page = await tab(lifetime_seconds=-60)
        await page.page.evaluate("start()")

        await page.is_("stopped")
        assert len(page.minted) >= 2
        assert await page.value("client.state.code") == 4401
        assert await page.value("errors.at(-1).code") == 4401

    async def test_a_refused_token_stops_it_and_ends_the_iteration(self, tab: OpenTab) -> None:
        page = await tab(audience="somebody-else")
        await page.page.evaluate("start()")
        await page.is_("stopped")

        thrown = await page.value(
            "(async () => { try { for await (const _ of client); } catch (e) { return e.code; } })()"
        )
        assert thrown == 4402

    async def test_it_goes_offline_and_back_with_the_browser(
        self, tab: OpenTab, send: Send, context: BrowserContext
    ) -> None:
        page = await tab()
        await page.start()
        await context.set_offline(True)
        await page.is_("offline")
        await send("Meanwhile")
        await context.set_offline(False)

        await page.is_("live")
        await page.has("Meanwhile")

    async def test_links_are_safe_or_none(self, tab: OpenTab, site: Site) -> None:
        page = await tab()
        links = [
            "/orders/1",
            "https://example.com/x",
            "http://example.com",
            "javascript:alert(1)",
            "//evil.example",
            "data:,x",
        ]
        safe = await page.page.evaluate("(links) => links.map(safeLink)", links)

        assert safe == [f"{site.origin}/orders/1", "https://example.com/x", None, None, None, None]


class TestReplicas:
    @pytest_asyncio.fixture(loop_scope="module")
    async def replicas(self, rabbitmq: RabbitMQ, prefix: str, start_replica: StartReplica, site: Site) -> list[Replica]:
        """Two replicas with one journal."""
        settings = {"JOURNAL__URL": rabbitmq.url(), "BROKER__PREFIX": prefix}
        settings["HTTP__ALLOWED_ORIGINS"] = f'["{site.origin}"]'
        return [start_replica(**settings) for _ in range(2)]

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    async def test_a_replica_that_ends_is_replaced_by_another_and_nothing_is_lost(
        self, context: BrowserContext, site: Site, replicas: list[Replica], user: str, number: signal.Signals
    ) -> None:
        async with TcpProxy("127.0.0.1", replicas[0].port) as balancer, sender(replicas[1], user) as send:
            page = await open_tab(context, site, f"http://127.0.0.1:{balancer.port}", user=user)
            await page.start()
            await send("One")
            await page.has("One")
            balancer.target = ("127.0.0.1", replicas[1].port)
            ending = asyncio.to_thread(replicas[0].stop, number)
            await asyncio.gather(ending, send("Two"))
            await send("Three")

            await page.has("One", "Two", "Three")
            assert await page.value("resets") == []


class TestBlocked:
    """Behind a proxy that knows no WebSockets: nginx as it is shipped."""

    async def test_it_goes_over_sse_and_resumes_there(
        self, context: BrowserContext, site: Site, replica: Replica, user: str, send: Send, tmp_path: Path
    ) -> None:
        with nginx(replica.port, tmp_path, template=AS_SHIPPED) as port:
            async with TcpProxy("127.0.0.1", port) as way:
                page = await open_tab(context, site, f"http://127.0.0.1:{way.port}", user=user, topics=["orders.#"])
                await page.start()
                await send("One")
                await page.has("One")
                assert await page.value("client.state.transport") == "sse"
                way.reset_connections()
                await send("Two")
                await page.has("One", "Two")
                await page.page.evaluate("client.subscribe('orders.eu')")
                await is_subscribed(replica, user, ["orders.eu"])
                await send("Three", to={"topics": ["orders.eu"]})

                await page.has("One", "Two", "Three")
                assert await page.value("resets") == []

    async def test_a_token_that_ends_on_a_stream_is_replaced(
        self, context: BrowserContext, site: Site, replica: Replica, user: str, send: Send, tmp_path: Path
    ) -> None:
        with nginx(replica.port, tmp_path, template=AS_SHIPPED) as port:
            page = await open_tab(context, site, f"http://127.0.0.1:{port}", user=user, lifetime_seconds=12)
            await page.start()
            await page.until("minted === 2")
            await page.is_("live")
            await send("After")

            await page.has("After")

    async def test_a_refusal_is_final_there_too(
        self, context: BrowserContext, site: Site, replica: Replica, user: str, tmp_path: Path
    ) -> None:
        with nginx(replica.port, tmp_path, template=AS_SHIPPED) as port:
            page = await open_tab(context, site, f"http://127.0.0.1:{port}", user=user, audience="somebody-else")
            await page.page.evaluate("start()")
            await page.is_("stopped")

            assert await page.value("[client.state.code, client.state.reason]") == [4402, "token_invalid"]


class TestTabs:
    """One connection for all tabs of a browser."""

    async def test_three_tabs_have_one_session_and_each_is_told_everything(
        self, tab: OpenTab, send: Send, replica: Replica, user: str
    ) -> None:
        tabs = await started(tab, 3)
        await send("One")
        await send("Two")

        for each in tabs:
            await each.has("One", "Two")
        assert await sessions_of(replica, user) == 1
        assert sum(len(each.minted) for each in tabs) == 3  # Each has to know whose it is.

    @pytest.mark.parametrize("way", ["close", "crash"])
    async def test_a_leader_that_is_lost_is_replaced(
        self, tab: OpenTab, send: Send, replica: Replica, user: str, way: str
    ) -> None:
        leader, *others = await started(tab, 3)
        await send("One")
        for each in others:
            await each.has("One")
        if way == "close":
            await leader.page.close()
        else:
            await leader.crash()
        await send("Two")

        for each in others:
            await each.has("One", "Two")
        assert await sessions_of(replica, user) == 1

    async def test_a_frozen_leader_is_replaced_within_two_seconds_and_shows_nothing_twice(
        self, tab: OpenTab, send: Send, replica: Replica, user: str
    ) -> None:
        leader, *others = await started(tab, 3)
        await send("One")
        for each in (leader, *others):
            await each.has("One")
        await leader.freeze()
        began = time.monotonic()
        await send("Two")
        for each in others:
            await each.has("One", "Two")
        took_seconds = time.monotonic() - began
        await leader.thaw()
        await send("Three")

        for each in (leader, *others):
            await each.has("One", "Two", "Three")
        assert took_seconds < 2.5  # Two, and what the looking takes.
        assert await sessions_of(replica, user) == 1

    async def test_a_tab_hears_its_own_topics_alone(
        self, tab: OpenTab, send: Send, replica: Replica, user: str
    ) -> None:
        claims = {"topics": ["orders.#"]}
        leader = await tab(**claims)
        await leader.start(topics=["orders.eu"])
        other = await tab(**claims)
        await other.start(topics=["orders.us"])
        await other.page.evaluate("client.subscribe('orders.uk')")
        await is_subscribed(replica, user, ["orders.eu", "orders.uk", "orders.us"])
        for region in ("eu", "us", "uk"):
            await send(region, to={"topics": [f"orders.{region}"]})
        await send("last")

        await leader.has("eu", "last")
        await other.has("us", "uk", "last")

    async def test_a_tab_that_is_loaded_again_has_missed_nothing(self, tab: OpenTab, send: Send) -> None:
        _, other = await started(tab, 2)
        await send("One")
        await other.has("One")
        await other.page.goto("about:blank")
        await send("Two")
        await other.load()
        await other.start()
        await send("Three")

        await other.has("Two", "Three")

    async def test_a_new_tab_begins_now(self, tab: OpenTab, send: Send) -> None:
        (leader,) = await started(tab, 1)
        await send("One")
        await leader.has("One")
        (other,) = await started(tab, 1)
        await send("Two")

        await other.has("Two")

    async def test_logout_ends_all_tabs_and_forgets(self, tab: OpenTab, send: Send) -> None:
        tabs = await started(tab, 2)
        await send("One")
        for each in tabs:
            await each.has("One")
        await tabs[1].page.evaluate("client.logout()")

        for each in tabs:
            await each.is_("closed")
            assert await each.value("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0

    async def test_tabs_of_others_have_a_session_of_their_own(
        self, tab: OpenTab, send: Send, replica: Replica, user: str
    ) -> None:
        (mine,) = await started(tab, 1)
        other = await tab(user=f"{user}-other")
        await other.start()
        await send("Mine")

        await mine.has("Mine")
        assert await other.titles() == []
        assert await sessions_of(replica, f"{user}-other") == 1

    async def test_tabs_may_be_told_not_to_share(self, tab: OpenTab, replica: Replica, user: str) -> None:
        for _ in range(2):
            await (await tab()).start(share=False)

        assert await sessions_of(replica, user) == 2


async def started(tab: OpenTab, count: int) -> list[Tab]:
    """So many tabs, one after the other; the first leads."""
    tabs = []
    for _ in range(count):
        tabs.append(await tab())
        await tabs[-1].start()
    return tabs


class TestFiles:
    async def test_the_client_is_served_small_and_to_be_kept(self, replica: Replica) -> None:
        async with httpx.AsyncClient(base_url=replica.url) as browser:
            answer = await browser.get("/client/v1/notifier.js")
            again = await browser.get("/client/v1/notifier.js", headers={"If-None-Match": answer.headers["etag"]})
            missing = await browser.get("/client/v1/../../demo.html")

        assert answer.headers["content-type"].startswith("text/javascript")
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["cache-control"] == "public, max-age=3600"
        assert again.status_code == 304
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")

    async def test_it_takes_8_kib_at_most(self) -> None:
        root = Path(__file__).parents[2]
        size = len(gzip.compress((root / "notifier/clients/web/v1/notifier.js").read_bytes()))

        assert size <= 8 * 1024
        assert f" {size / 1024:.1f} KiB with gzip " in (root / "docs/web.md").read_text()
