"""Pages that are put away and come back, or that close, sign out and lose their tokens at an awkward moment."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext

from tests.replica import Replica
from tests.service.browser import open_browser
from tests.service.client import eventually
from tests.service.tabs import Send, Site, Tab, open_tab, replica_for, sender, sessions_of
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.asyncio(loop_scope="module")

OpenTab = Callable[..., Awaitable[Tab]]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site({"/other": "<!doctype html><title>Another page</title>"})
    yield site
    site.close()


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Replica]:
    with replica_for(site, tmp_path_factory.mktemp("pages")) as replica:
        yield replica


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with open_browser(keeps_pages=True) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def balancer(replica: Replica) -> AsyncIterator[TcpProxy]:
    async with TcpProxy("127.0.0.1", replica.port) as balancer:
        yield balancer


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return f"page-{abs(hash(request.node.name))}"


@pytest_asyncio.fixture(loop_scope="module")
async def send(replica: Replica, user: str) -> AsyncIterator[Send]:
    async with sender(replica, user) as sent:
        yield sent


@pytest.fixture
def tab(context: BrowserContext, site: Site, balancer: TcpProxy, user: str) -> OpenTab:
    """Opens a tab of one user behind the balancer."""

    async def opened(**claims: Any) -> Tab:
        return await open_tab(context, site, f"http://127.0.0.1:{balancer.port}", **{"user": user, **claims})

    return opened


async def has_sessions(count: int, replica: Replica, user: str) -> None:
    async def has() -> bool:
        return await sessions_of(replica, user) == count

    await eventually(has, 10)


class TestPutAway:
    """A page that the browser keeps for the way back (bfcache)."""

    async def put_away(self, tab: Tab, site: Site) -> None:
        await tab.value("void addEventListener('pageshow', ({ persisted }) => (window.wasKept = persisted))")
        await tab.page.goto(f"{site.origin}/other")

    async def come_back(self, tab: Tab) -> None:
        """Fails where the browser has loaded the page anew."""
        await tab.page.go_back(wait_until="commit")
        await tab.until("window.wasKept === true")

    @pytest.mark.parametrize("share", [True, False])
    async def test_a_page_that_is_alone_leaves_and_resumes(
        self, tab: OpenTab, send: Send, site: Site, replica: Replica, user: str, *, share: bool
    ) -> None:
        page = await tab()
        await page.start(share=share)
        await send("One")
        await page.has("One")
        await self.put_away(page, site)
        await has_sessions(0, replica, user)
        await send("Two")
        await self.come_back(page)
        await send("Three")

        await page.has("One", "Two", "Three")
        assert await page.value("resets") == []
        assert len(page.minted) == 1
        assert await sessions_of(replica, user) == 1

    @pytest.mark.parametrize("goes", ["leader", "follower"])
    async def test_another_tab_leads_meanwhile_and_nothing_is_lost_or_shown_twice(
        self, tab: OpenTab, send: Send, site: Site, replica: Replica, user: str, goes: str
    ) -> None:
        tabs = [await tab(), await tab()]
        for each in tabs:
            await each.start()
        gone, stays = tabs if goes == "leader" else reversed(tabs)
        await send("One")
        for each in tabs:
            await each.has("One")
        await self.put_away(gone, site)
        await send("Two")
        await stays.has("One", "Two")
        assert await sessions_of(replica, user) == 1
        await self.come_back(gone)
        await gone.has("One", "Two")
        await send("Three")

        for each in tabs:
            await each.has("One", "Two", "Three")
            assert await each.value("resets") == []
        assert await sessions_of(replica, user) == 1

    async def test_a_tab_that_began_meanwhile_knows_what_was_missed(self, tab: OpenTab, send: Send, site: Site) -> None:
        first = await tab()
        await first.start()
        await send("One")
        await first.has("One")
        await self.put_away(first, site)
        second = await tab()
        await second.start()
        await send("Two")
        await second.has("Two")
        await self.come_back(first)

        await first.has("One", "Two")
        assert await first.value("resets") == []

    async def test_a_page_that_comes_back_after_a_logout_is_closed(self, tab: OpenTab, send: Send, site: Site) -> None:
        """Whoever goes back after somebody has signed out elsewhere gets nothing of theirs."""
        tabs = [await tab(), await tab()]
        for each in tabs:
            await each.start()
        await send("One")
        for each in tabs:
            await each.has("One")
        await self.put_away(tabs[0], site)
        await tabs[1].page.evaluate("client.logout()")
        await self.come_back(tabs[0])

        await tabs[0].is_("closed")
        assert await tabs[0].value("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0


class TestTokens:
    async def test_one_that_fails_at_first_is_asked_for_again_and_the_tab_shares(
        self, tab: OpenTab, replica: Replica, user: str
    ) -> None:
        tabs = [await tab(), await tab()]
        await tabs[0].start()
        await tabs[1].page.evaluate(
            """() => {
              const mint = window.mint;
              window.mint = () => (minted < 3 ? Promise.reject(new Error("no backend")) : mint());
              start();
            }"""
        )
        await tabs[1].is_("live")

        assert "Error: no backend" in await tabs[1].value("states.map(({ reason }) => reason)")
        assert await sessions_of(replica, user) == 1

    async def test_one_that_does_not_come_is_asked_for_again(self, tab: OpenTab) -> None:
        page = await tab()
        await page.value(
            """void (() => {
              const [mint, later] = [window.mint, window.setTimeout];
              window.mint = () => (minted < 2 ? new Promise(() => {}) : mint());
              window.setTimeout = (run, ms) => later(run, ms === 60_000 && minted < 1 ? 0 : ms);
            })()"""
        )

        await page.start()
        assert await page.value("minted") == 2

    async def test_a_clock_that_is_ahead_asks_for_no_more(self, tab: OpenTab, send: Send, balancer: TcpProxy) -> None:
        page = await tab()
        await page.value("(() => { const now = Date.now; Date.now = () => now() + 86_400_000; })()")
        await page.start()
        balancer.cut()
        await page.is_("waiting")
        await send("One")
        balancer.restore()

        await page.has("One")
        assert len(page.minted) == 1

    async def test_one_that_ends_with_a_line_is_good(self, tab: OpenTab) -> None:
        page = await tab()
        await page.value("(() => { const mint = window.mint; window.mint = async () => `${await mint()}\\n`; })()")

        await page.start()

    async def test_one_that_no_browser_sends_stops_it(self, tab: OpenTab) -> None:
        page = await tab()
        await page.value("(window.mint = () => 'no token', start())")

        await page.is_("stopped")
        assert await page.value("client.state.code") == 4402

    async def test_a_tab_that_is_stopped_stays_so_and_does_not_lead_others(
        self, tab: OpenTab, send: Send, context: BrowserContext
    ) -> None:
        """The other one may have signed in again."""
        stopped, good = await tab(), await tab()
        await stopped.value(
            "(() => { const mint = window.mint; window.mint = async () => (await mint()).slice(0, -4) + 'AAAA'; })()"
        )
        await stopped.page.evaluate("start()")
        await stopped.is_("stopped")
        await good.start()
        await send("One")
        await good.has("One")
        await context.set_offline(True)
        await good.is_("offline")

        assert await stopped.value("client.state.state") == "stopped"
        assert await stopped.titles() == []


class TestMoments:
    @pytest.mark.parametrize("moment", ["connecting", "live"])
    async def test_a_listener_may_close_it_and_the_next_tab_leads_at_once(
        self, tab: OpenTab, send: Send, user: str, replica: Replica, moment: str
    ) -> None:
        leader, closing, other = [await tab() for _ in range(3)]
        # Whoever's clock stands still never takes the lock from anybody.
        await other.value("void (Date.now = () => 0)")
        for each in (leader, closing, other):
            await each.start()
        await closing.value(f"void client.on('state', ({{ state }}) => state === '{moment}' && client.close())")
        await leader.page.close()
        await closing.is_("closed")
        await send("One")

        await other.has("One")
        assert await closing.value("navigator.locks.query().then(({ held }) => held.length)") == 1
        assert await sessions_of(replica, user) == 1
        assert await closing.value("states.at(-1).state") == "closed"

    async def test_a_topic_may_be_joined_while_there_is_no_connection(
        self, tab: OpenTab, send: Send, balancer: TcpProxy
    ) -> None:
        page = await tab(topics=["orders.#"])
        await page.start()
        balancer.cut()
        await page.is_("waiting")
        await page.page.evaluate("client.subscribe('orders.eu')")
        balancer.restore()
        await page.is_("live")
        await send("EU", to={"topics": ["orders.eu"]})

        await page.has("EU")
