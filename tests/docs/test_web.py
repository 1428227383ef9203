"""The page of docs/web.md and the lines of the README, as they stand but for address and token, in a real Chromium."""

from pathlib import Path

import httpx
from playwright.async_api import expect

from tests.docs.pages import blocks
from tests.ingress.builders import notification
from tests.replica import Replica
from tests.service.browser import open_browser
from tests.service.tabs import Site, is_subscribed
from tests.tcp_proxy import TcpProxy
from tests.tokens import bearer, token

(PAGE,) = [block.text for block in blocks("docs/web.md") if block.kind == "html"]
ADDRESS = "http://127.0.0.1:8000"
(LINES,) = [block.text for block in blocks("README.md") if block.kind == "js"]
# What the README leaves to its reader: whose token it is, and what is done with what comes.
AROUND_LINES = """<!doctype html><title>Shop</title><ul id="list"></ul><output></output>
<script>
  const askYourBackend = async () => "%s";
  const show = (title) => document.querySelector("#list").appendChild(document.createElement("li")).append(title);
  const fetchWhatThePageShows = () => (document.querySelector("output").textContent = "fetched");
</script>
<script type="module">%s</script>
"""


async def test_the_page_shows_what_is_sent(tmp_path: Path) -> None:
    site = Site(policy="")
    replica = Replica(tmp_path / "replica.log", {"NOTIFIER_HTTP__ALLOWED_ORIGINS": f'["{site.origin}"]'})
    assert (PAGE.count(ADDRESS), PAGE.count("PASTE THE TOKEN HERE")) == (3, 1)
    site.files["/index.html"] = PAGE.replace(ADDRESS, replica.url).replace("PASTE THE TOKEN HERE", token("alice"))
    try:
        async with open_browser() as browser:
            page = await browser.new_page()
            await page.goto(f"{site.origin}/index.html")
            await expect(page.locator("notifier-bell")).to_have_attribute("data-state", "live")
            await send(replica, "Hello, Alice")

            await expect(page.locator("#list li")).to_have_text(["Hello, Alice"])
            await expect(page.get_by_role("button", name="Notifications, 1 unread")).to_be_visible()
    finally:
        replica.stop()
        site.close()


async def test_the_lines_of_the_readme_show_what_is_sent_and_hear_of_a_reset(tmp_path: Path) -> None:
    """The second replica has a journal of its own, as the first has after a restart."""
    site = Site(policy="")
    settings = {"NOTIFIER_HTTP__ALLOWED_ORIGINS": f'["{site.origin}"]'}
    replicas = [Replica(tmp_path / f"{number}.log", settings) for number in range(2)]
    assert LINES.count("https://push.example.com") == 2
    try:
        async with TcpProxy("127.0.0.1", replicas[0].port) as way, open_browser() as browser:
            lines = LINES.replace("https://push.example.com", f"http://127.0.0.1:{way.port}")
            site.files["/index.html"] = AROUND_LINES % (token("alice"), lines)
            page = await browser.new_page()
            await page.goto(f"{site.origin}/index.html")
            await is_subscribed(replicas[0], "alice", [])
            await send(replicas[0], "Hello, Alice")
            await expect(page.locator("#list li")).to_have_text(["Hello, Alice"])
            way.target = ("127.0.0.1", replicas[1].port)
            way.reset_connections()
            await expect(page.locator("output")).to_have_text("fetched")
            await send(replicas[1], "Hello again")

            await expect(page.locator("#list li")).to_have_text(["Hello, Alice", "Hello again"])
    finally:
        for replica in replicas:
            replica.stop()
        site.close()


async def send(replica: Replica, title: str) -> None:
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer()) as backend:
        answer = await backend.post("/notify", json=notification("alice", title=title))
    assert answer.status_code == 202
