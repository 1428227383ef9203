"""How long the tabs of a browser hear nothing when the one that has the session is lost, and what the client weighs."""

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from playwright.async_api import Browser

from tests.benchmarks.figure import Figure
from tests.benchmarks.load import Absent
from tests.docs.pages import ROOT
from tests.replica import Replica
from tests.service.browser import chromium, open_browser
from tests.service.tabs import Site, Tab, open_tab, profile, sender

TABS: Final = 3
LISTEN: Final = "(window.at = [], client.on('notification', () => at.push(Date.now())), undefined)"
WAYS: Final[Mapping[str, Callable[[Tab], Awaitable[None]]]] = {
    "is closed": lambda leader: leader.page.close(),
    "crashes": Tab.crash,
    "is frozen": Tab.freeze,
}
"""How the one that has the session is lost: it gives the lock back, the browser does, or nobody does."""


def tabs() -> list[Figure]:
    """Three tabs in a real Chromium, of which the leader is lost; and the sizes of what a page loads."""
    if chromium() is None:
        raise Absent("no Chromium: set NOTIFIER_TEST_CHROMIUM to one, or put chromium on PATH")
    return [*asyncio.run(_silences()), *_sizes()]


async def _silences() -> list[Figure]:
    site = Site()
    with TemporaryDirectory(prefix="notifier-bench-") as name:
        origins = {"NOTIFIER_HTTP__ALLOWED_ORIGINS": f'["{site.origin}"]'}
        replica = Replica(Path(name) / "server.log", origins)
        try:
            async with open_browser() as browser:
                return [
                    Figure(
                        f"A leader of {TABS} tabs {way}: until the others have what is sent at once",
                        "s",
                        await _silence_seconds(browser, site, replica, lose),
                    )
                    for way, lose in WAYS.items()
                ]
        finally:
            replica.stop()
            site.close()


async def _silence_seconds(
    browser: Browser, site: Site, replica: Replica, lose: Callable[[Tab], Awaitable[None]]
) -> float:
    """From before the loss until the last of the others has the notification, by the clock that all share."""
    async with profile(browser) as context, sender(replica, "alice") as send:
        opened = [await open_tab(context, site, replica.url, user="alice") for _ in range(TABS)]
        for each in opened:
            await each.start()
            await each.value(LISTEN)
        leader, *others = opened
        began = time.time()
        await lose(leader)
        await send("Shipped")
        for each in others:
            await each.has("Shipped")
        arrivals_ms: list[float] = [await each.value("at[0]") for each in others]
        return max(arrivals_ms) / 1000 - began


def _sizes() -> list[Figure]:
    served = sorted((ROOT / "notifier/clients/web/v1").iterdir())
    return [
        Figure(f"{file.name} as it is served, with gzip", "KiB", len(gzip.compress(file.read_bytes())) / 1024)
        for file in served
    ]
