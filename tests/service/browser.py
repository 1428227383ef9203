"""The demo as a new user runs it, the real command, and a real Chromium that visits its page."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

BOOT_SECONDS = 20.0
DEADLINE_SECONDS = 15.0
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Of each text to what is behind it, by WCAG 2.1, 1.4.3; the colours are drawn, so that any notation is understood.
CONTRASTS: Final = """() => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    const brush = canvas.getContext("2d", { willReadFrequently: true });
    const channels = (colour) => {
        brush.clearRect(0, 0, 1, 1);
        brush.fillStyle = colour;
        brush.fillRect(0, 0, 1, 1);
        return [...brush.getImageData(0, 0, 1, 1).data];
    };
    const linear = (value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const luminance = (colour) => {
        const [red, green, blue] = channels(colour).map((value) => linear(value / 255));
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const behind = (element) => {
        const colour = getComputedStyle(element).backgroundColor;
        return channels(colour)[3] || !element.parentElement ? colour : behind(element.parentElement);
    };
    const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const texts = [...document.querySelectorAll("body *")].filter((each) => each.offsetHeight > 0 && hasText(each));
    return Object.fromEntries(texts.map((each) => {
        const both = [getComputedStyle(each).color, behind(each)].map(luminance);
        return [each.outerHTML, (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05)];
    }));
}"""


def demo_process(*arguments: str, output: Any, settings: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start `notifier demo` without waiting for anything."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
    return subprocess.Popen(
        [sys.executable, "-m", "notifier", "demo", *arguments],
        env={**inherited, **(settings or {})},
        stdout=output,
        stderr=subprocess.STDOUT,
    )


class Demo:
    """Runs `notifier demo`, and knows what its greeting says.

    Args:
        port: 0 takes a free one.
        settings: without the NOTIFIER_ prefix.
    """

    def __init__(self, log_path: Path, *, port: int = 0, **settings: str) -> None:
        self.log_path = log_path
        settings = {
            f"NOTIFIER_{name}": value for name, value in {"HTTP__DRAIN_WINDOW_SECONDS": "0", **settings}.items()
        }
        with log_path.open("wb") as log:
            self.process = demo_process("--port", str(port), output=log, settings=settings)
        try:
            self.greeting = self._await_greeting()
        except BaseException:
            self.stop()
            raise
        self.url = _found(r"Open (http://\S+)/ in", self.greeting)
        self.port = int(self.url.rpartition(":")[2])
        self.operations_url = _found(r"(http://\S+)/metrics", self.greeting)
        self.curl_line = _found(r"(?m)^(curl (?:.*\\\n)*.*)$", self.greeting)
        self.listen_line = _found(r"(?m)^(.* listen .*)$", self.greeting)

    def stop(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and return the exit code; SIGKILL when the process does not end in time."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(DEADLINE_SECONDS)
        finally:
            self.process.kill()

    def _await_greeting(self) -> str:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            text = self.log_path.read_text()
            if re.search(r"/metrics\n", text):
                return text
            time.sleep(0.02)
        raise AssertionError(f"the demo did not start:\n{self.log_path.read_text()}")


class Visit:
    """One tab on the demo page; `complaints` are what its console would show in red or yellow.

    Args:
        user: whom of those on the page this looks at; None: the first.
    """

    def __init__(self, page: Page, user: str | None = None) -> None:
        self.page = page
        self.user = user
        self.complaints: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    @property
    def pane(self) -> Locator:
        if self.user is None:
            return self.page.locator(".pane").first
        return self.page.get_by_role("region", name=self.user, exact=True)

    @property
    def state(self) -> Locator:
        return self.pane.locator(".state")

    @property
    def cards(self) -> Locator:
        return self.pane.locator(".notifications > li")

    @property
    def titles(self) -> Locator:
        return self.pane.locator(".notifications h3")

    def field(self, name: str) -> Locator:
        """What the page says about the user: `user`, `position`, `received` and so on."""
        return self.pane.locator(f"[data-field={name}]")

    async def click(self, button: str) -> None:
        await self.pane.get_by_role("button", name=button, exact=True).click()

    async def open(self, url: str, **identity: str) -> None:
        """Open the page as somebody, the reader's choice in its address, and wait until the session is open."""
        await self.page.goto(f"{url}/?{urlencode(identity)}")
        await self.is_live()

    async def leave(self, url: str) -> None:
        """Leave the page for another address of its origin, where the tab's storage can be reached."""
        await self.page.goto(f"{url}/demo/demo.css")

    async def forget(self, url: str) -> None:
        """Make the tab as good as new."""
        await self.page.unroute_all()
        await self.leave(url)
        await self.page.evaluate("sessionStorage.clear()")
        self.complaints.clear()

    async def is_live(self, how: str = "") -> None:
        """Wait until the session is open; `how` is what the page says about it beyond that."""
        await expect(self.state).to_have_attribute("data-state", "live")
        await expect(self.state).to_contain_text(how)

    async def is_cut_off(self) -> None:
        """Wait until the page knows that its session is gone, whether it waits or tries just then."""
        await expect(self.state).to_have_attribute("data-state", re.compile("^(re)?connecting$"))

    async def send(self, kind: str, name: str = "", **fields: str) -> None:
        """Fill in the page's form, and send it."""
        form = self.page.locator("#send")
        await form.get_by_label("To").select_option(kind)
        if kind != "everyone":
            await form.get_by_label("Name").fill(name)
        await form.locator("details").evaluate("details => { details.open = true; }")
        for label, value in fields.items():
            await form.get_by_label(label.capitalize()).fill(value)
        await form.get_by_role("button", name="Send").click()

    async def answer(self) -> str:
        """What the page says about the last sending, once it knows."""
        output = self.page.locator("#answer")
        await expect(output).to_contain_text(re.compile(r"\w"))
        return await output.inner_text()

    async def contrasts(self) -> dict[str, float]:
        """The contrast of each text that is seen, by its element."""
        contrasts: dict[str, float] = await self.page.evaluate(CONTRASTS)
        return contrasts

    async def ids(self) -> list[str]:
        """The ids of the notifications on the page, newest first."""
        return [await card.get_attribute("data-id") or "" for card in await self.cards.all()]

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


def chromium() -> str | None:
    """The path of a Chromium; None where there is none."""
    return shutil.which(os.environ.get("NOTIFIER_TEST_CHROMIUM") or "chromium")


@asynccontextmanager
async def open_browser(*, keeps_pages: bool = False) -> AsyncIterator[Browser]:
    """A Chromium with a profile of its own. Skips where there is none; with CI=true that is a failure.

    Args:
        keeps_pages: for the way back, as any browser does but one that is driven by Playwright.
    """
    path = chromium()
    if path is None:
        missing = "no Chromium: set NOTIFIER_TEST_CHROMIUM to one, or put chromium on PATH"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    expect.set_options(timeout=DEADLINE_SECONDS * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path,
            headless=True,
            args=CHROMIUM_ARGUMENTS,
            ignore_default_args=["--disable-back-forward-cache"] if keeps_pages else None,
        )
        yield browser
        await browser.close()


async def run_in_shell(line: str) -> tuple[int, str]:
    """Run a line as somebody who pasted it into a shell would. Returns the exit code and standard output."""
    process = await asyncio.create_subprocess_shell(line, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(DEADLINE_SECONDS):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, f"{pattern} is not in:\n{text}"
    return match[1]
