"""The page of docs/web.md, as it stands but for the address and the token, in a real Chromium."""

from pathlib import Path

import httpx
from playwright.async_api import expect

from tests.docs.pages import blocks
from tests.ingress.builders import notification
from tests.replica import Replica
from tests.service.browser import open_browser
from tests.service.tabs import Site
from tests.tokens import bearer, token

(PAGE,) = [block.text for block in blocks("docs/web.md") if block.kind == "html"]
ADDRESS = "http://127.0.0.1:8000"


async def test_the_page_shows_what_is_sent(tmp_path: Path) -> None:
    site = Site(policy="")
    replica = Replica(tmp_path / "replica.log", {"NOTIFIER_HTTP__ALLOWED_ORIGINS": f'["{site.origin}"]'})
    assert (PAGE.count(ADDRESS), PAGE.count("PASTE THE TOKEN HERE")) == (3, 1)
    site.files["/index.html"] = PAGE.replace(ADDRESS, replica.url).replace("PASTE THE TOKEN HERE", token("alice"))
    try:
        async with open_browser() as browser, httpx.AsyncClient(base_url=replica.url, headers=bearer()) as backend:
            page = await browser.new_page()
            await page.goto(f"{site.origin}/index.html")
            await expect(page.locator("notifier-bell")).to_have_attribute("data-state", "live")
            await backend.post("/notify", json=notification("alice", title="Hello, Alice"))

            await expect(page.locator("#list li")).to_have_text(["Hello, Alice"])
            await expect(page.get_by_role("button", name="Notifications, 1 unread")).to_be_visible()
    finally:
        replica.stop()
        site.close()
