"""A browser's own EventSource, in a real Chromium: with a ticket, through a restart, and what makes it stop.

The page's code is that of docs/protocol.md.
"""

import asyncio
import signal
from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from playwright.async_api import Page

from tests.docs.pages import blocks
from tests.replica import Replica
from tests.service.browser import open_browser
from tests.service.client import eventually
from tests.service.conftest import StartReplica
from tests.tcp_proxy import TcpProxy
from tests.tokens import bearer, token

(SNIPPET,) = (block.text for block in blocks("docs/protocol.md") if block.kind == "js")
# What the page shows, and every EventSource and message, for the test to look at.
WATCH = """
window.shown = []; window.heard = []; window.sources = [];
const Source = EventSource;
window.EventSource = class extends Source {
  constructor(url) {
    super(url);
    sources.push(this);
    this.addEventListener("message", (event) => heard.push({ id: event.lastEventId, ...JSON.parse(event.data) }));
  }
};
window.EventSource.CLOSED = Source.CLOSED;
"""


@pytest_asyncio.fixture
async def page() -> AsyncIterator[Page]:
    async with open_browser() as browser:
        page = await browser.new_page()
        await page.add_init_script(WATCH)
        yield page


async def listen(page: Page, url: str) -> None:
    """Run the page's code on a page of the service's own origin; any answer is one."""
    await page.goto(f"{url}/events")
    await page.add_script_tag(content=SNIPPET)
    await page.evaluate(
        "token => { listen(async () => token, (notification) => shown.push(notification.title)); }", token("erik")
    )


async def send(replica: Replica, title: str) -> None:
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer()) as backend:
        await backend.post("/notify", json={"to": {"users": ["erik"]}, "type": "t", "title": title})


async def shows(page: Page, *titles: str) -> None:
    async def is_shown() -> bool:
        shown: list[str] = await page.evaluate("shown")
        return shown == [*titles]

    await eventually(is_shown, 20)


async def kinds(page: Page) -> list[str]:
    """What the page heard, and how each session began."""
    heard = await page.evaluate("heard.map(({ type, resume }) => resume ? `${type} ${resume.status}` : type)")
    return [kind for kind in heard if kind != "token_expiring"]


async def test_it_comes_back_by_itself_and_with_a_fresh_ticket_when_it_gave_up(
    page: Page, start_replica: StartReplica, amqp_url: str, prefix: str
) -> None:
    """T-09 in a browser. It returns with Last-Event-ID, over the same ticket, to a replica that has not seen it.

    Where the ticket was used already, 204 stops it, and the page asks for another one.
    """
    # Both from the beginning, so that a slow start does not outlast the ticket.
    first, second = (start_replica(JOURNAL__URL=amqp_url, BROKER__PREFIX=prefix) for _ in range(2))
    async with TcpProxy("127.0.0.1", first.port) as proxy:
        await listen(page, f"http://127.0.0.1:{proxy.port}")
        await eventually(lambda: _has_welcome(page))
        await send(first, "before")
        await shows(page, "before")

        assert await asyncio.to_thread(first.stop, signal.SIGTERM) == 0
        proxy.cut()
        await send(second, "missed")
        proxy.target = ("127.0.0.1", second.port)
        proxy.restore()
        await shows(page, "before", "missed")
        assert await page.evaluate("sources.length") == 1

        proxy.reset_connections()
        await send(second, "after")
        await shows(page, "before", "missed", "after")
        assert await page.evaluate("sources.map((source) => source.readyState)") == [2, 1]

    assert await kinds(page) == [
        *("welcome new", "notification", "reconnect"),
        *("welcome resumed", "notification"),
        *("welcome resumed", "notification"),
    ]


async def _has_welcome(page: Page) -> bool:
    return "welcome new" in await kinds(page)


async def test_a_refused_token_is_told_and_a_lost_network_is_waited_for(page: Page, replica: Replica) -> None:
    await listen(page, replica.url)
    await eventually(lambda: _has_welcome(page))
    refused = await page.evaluate("listen(async () => 'no.token', () => {}).catch((error) => error.message)")
    await page.context.set_offline(True)
    await page.evaluate(
        "token => { Math.random = () => 0.01; listen(async () => token, ({ title }) => shown.push(title)); }",
        token("erik"),
    )
    await page.context.set_offline(False)
    await eventually(lambda: page.evaluate("heard.filter(({ type }) => type === 'welcome').length > 1"))

    assert refused == "no ticket: 401"
