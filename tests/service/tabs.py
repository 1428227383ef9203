"""Pages that use the JavaScript client in a real Chromium, from a service that may move from replica to replica."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from playwright.async_api import Browser, BrowserContext, CDPSession, ConsoleMessage, Page
from playwright.async_api import Error as PlaywrightError

from tests.ingress.builders import notification
from tests.replica import Replica
from tests.service.browser import DEADLINE_SECONDS
from tests.tokens import bearer, token

# What a strict page allows: scripts of its own and of the service, no inline style, no markup from text.
POLICY: Final = (
    "default-src 'none'; script-src 'self' {service}; connect-src {service} {sockets}; style-src 'self'; "
    "base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
PAGE: Final = '<!doctype html><html lang="en"><title>Shop</title><script type="module" src="/page.js?{query}"></script>'
SCRIPT: Final = """
const url = new URL(import.meta.url).searchParams.get("service");
const { NotifierClient, safeLink } = await import(`${url}/client/v1/notifier.js`);
Object.assign(window, { NotifierClient, safeLink, got: [], states: [], resets: [], errors: [], minted: 0 });
const getToken = () => {
  window.minted += 1;
  return window.mint();
};
window.start = (options = {}) => {
  window.client = new NotifierClient({ url, getToken, ...options });
  client.on("notification", (notification) => got.push(notification));
  client.on("state", (state) => states.push(state));
  client.on("reset", (reset) => resets.push(reset));
  client.on("error", ({ code, detail }) => errors.push({ code, detail }));
};
"""

# Sends to a user; the argument is the title, what is named changes the notification. Returns the id.
Send = Callable[..., Awaitable[str]]


class Site:
    """The pages of a shop: another origin than the service.

    Args:
        files: by their paths; `{query}` in one stands for the query with which it was asked for.
        policy: the Content-Security-Policy of all of them.
    """

    def __init__(self, files: Mapping[str, str] | None = None, *, policy: str = POLICY) -> None:
        self.files = {"/page": PAGE, "/page.js": SCRIPT, **(files or {})}
        handler = type("Handler", (_Handler,), {"files": self.files, "policy": policy})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()
        self.origin = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    files: Mapping[str, str]
    policy: str

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        service = parse_qs(parts.query).get("service", [""])[0]
        media = "text/javascript" if parts.path.endswith(".js") else "text/html"
        body = self.files.get(parts.path, "").replace("{query}", parts.query).encode()
        self.send_response(200)
        self.send_header("Content-Type", f"{media}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        policy = self.policy.format(service=service, sockets=service.replace("http", "ws", 1))
        self.send_header("Content-Security-Policy", policy)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Tab:
    """One page with a client; `minted` are the tokens that it asked for."""

    def __init__(self, page: Page, url: str, **claims: Any) -> None:
        self.page = page
        self.url = url
        self.claims = claims
        self.minted: list[str] = []
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._on_console)

    async def load(self) -> None:
        await self.page.goto(self.url)
        await self.until("document.readyState === 'complete' && window.start !== undefined")

    async def start(self, **options: Any) -> None:
        """Start the client, and wait until its session is open."""
        await self.page.evaluate("(options) => start(options)", options)
        await self.is_("live")

    async def is_(self, state: str) -> None:
        await self.until(f"window.client.state.state === {state!r}")

    async def until(self, condition: str, *, within_seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until an expression of the page is true. Playwright's own way would be against the page's policy."""
        try:
            async with asyncio.timeout(within_seconds):
                while not await self.page.evaluate(condition):  # noqa: ASYNC110 - it is the page that decides
                    await asyncio.sleep(0.02)
        except TimeoutError:
            page = await self.page.evaluate("({ got, states, resets, errors })")
            raise AssertionError(f"{condition} did not come about: {page}") from None

    async def has(self, *titles: str) -> None:
        """Wait for these notifications, in this order; there are no others."""
        await self.until(f"window.got.length >= {len(titles)}")
        assert await self.titles() == list(titles)

    async def titles(self) -> list[str]:
        titles: list[str] = await self.page.evaluate("got.map(({ title }) => title)")
        return titles

    async def value(self, expression: str) -> Any:
        return await self.page.evaluate(expression)

    async def freeze(self) -> None:
        """Stop the page in its tracks, as a browser does with a tab nobody looks at; returns when it stands still.

        The debugger does it: Page.setWebLifecycleState does nothing to a page that Playwright keeps focused.
        """
        self._control: CDPSession = await self.page.context.new_cdp_session(self.page)
        stands = asyncio.Event()
        self._control.on("Debugger.paused", lambda _: stands.set())
        await self._control.send("Debugger.enable")
        await self._control.send("Debugger.pause")
        async with asyncio.timeout(DEADLINE_SECONDS):
            await stands.wait()

    async def crash(self) -> None:
        """End the page's process, as the system does when memory runs out."""
        with suppress(PlaywrightError):
            await self.page.goto("chrome://crash")

    async def thaw(self) -> None:
        await self._control.send("Debugger.disable")

    def _on_console(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "TrustedHTML" in message.text:
            self.complaints.append(message.text)

    def mint(self) -> str:
        claims: Mapping[str, Any] = {"user": "alice", **self.claims}
        self.minted.append(token(**claims))
        return self.minted[-1]


@contextmanager
def replica_for(site: Site, directory: Path) -> Iterator[Replica]:
    """A replica that lets the pages of the site in; its log goes to the directory."""
    replica = Replica(directory / "replica.log", {"NOTIFIER_HTTP__ALLOWED_ORIGINS": f'["{site.origin}"]'})
    yield replica
    replica.stop()


@asynccontextmanager
async def profile(browser: Browser) -> AsyncIterator[BrowserContext]:
    """What the tabs of one user share."""
    context = await browser.new_context()
    yield context
    await context.close()


async def open_tab(context: BrowserContext, site: Site, service: str, *, path: str = "/page", **claims: Any) -> Tab:
    """A page of the site, with nothing started yet; `claims` are those of its tokens."""
    page = await context.new_page()
    tab = Tab(page, f"{site.origin}{path}?{urlencode({'service': service})}", **claims)
    await page.expose_function("mint", tab.mint)
    await tab.load()
    return tab


async def is_subscribed(replica: Replica, user: str, topics: list[str]) -> None:
    """Wait until the one session of a user has these topics."""
    params = {"tenant": "default", "user": user}
    async with httpx.AsyncClient() as operator, asyncio.timeout(10):
        while True:
            answer = await operator.get(f"{replica.operations_url}/sessions", params=params)
            if [session.get("topics") for session in answer.json()["sessions"]] == [topics]:
                return
            await asyncio.sleep(0.05)


async def sessions_of(replica: Replica, user: str) -> int:
    async with httpx.AsyncClient() as operator:
        answer = await operator.get(f"{replica.operations_url}/sessions", params={"tenant": "default", "user": user})
    return len(answer.json()["sessions"])


@asynccontextmanager
async def sender(replica: Replica, user: str) -> AsyncIterator[Send]:
    """Sends to a user; the argument is the title."""
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer(), verify=False) as backend:

        async def sent(title: str, **changes: Any) -> str:
            answer = await backend.post("/notify", json=notification(user, title=title, **changes))
            assert answer.status_code == 202, answer.text
            sent_id: str = answer.json()["id"]
            return sent_id

        yield sent
