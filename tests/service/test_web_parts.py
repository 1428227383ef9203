"""What stands on the JavaScript client, and how it is built: the React hook, the bell, the types, the package."""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.ingress.builders import notification
from tests.replica import Replica
from tests.service.tabs import Site, Tab, is_subscribed, open_tab, profile, replica_for, sessions_of
from tests.tokens import bearer

in_one_loop = pytest.mark.asyncio(loop_scope="module")

ROOT: Final = Path(__file__).parents[2]
WEB: Final = ROOT / "tests/web"
CLIENT: Final = ROOT / "notifier/clients/web"
PACKAGE: Final = "notifier-push-client"
BELL_PAGE: Final = (
    '<!doctype html><html lang="en"><title>Shop</title><script type="module" src="/page.js?{query}"></script>'
    '<script type="module" src="/bell.js?{query}"></script><notifier-bell></notifier-bell>'
)
BELL_SCRIPT: Final = """
const url = new URL(import.meta.url).searchParams.get("service");
await import(`${url}/client/v1/bell.js`);
window.bell = document.querySelector("notifier-bell");
"""
REACT_PAGE: Final = (
    '<!doctype html><html lang="en"><title>Shop</title><div id="root"></div>'
    '<script type="module" src="/page.js?{query}"></script><script type="module" src="/app.js"></script>'
)


@pytest.fixture(scope="module")
def npm() -> str:
    """npm, with what tests/web/package-lock.json lists. Skips where there is none; with CI=true that is a failure."""
    found = shutil.which(os.environ.get("NOTIFIER_TEST_NPM") or "npm")
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no npm: see scripts/find_npm.sh")
    assert found is not None
    run(found, "ci", "--no-audit", "--no-fund")
    return found


def run(*command: str | Path) -> str:
    """Run a command in tests/web. Returns what it prints."""
    environment = {**os.environ, "NODE_PATH": str(WEB / "node_modules")}
    done = subprocess.run(command, cwd=WEB, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bundle(source: str, target: Path, *options: str) -> str:
    run(WEB / "node_modules/.bin/esbuild", source, "--bundle", "--jsx=automatic", f"--outfile={target}", *options)
    return target.read_text()


class TestBuild:
    def test_what_is_served_is_what_the_sources_make(self, npm: str, tmp_path: Path) -> None:
        """`npm run build` in tests/web writes it anew."""
        del npm
        run("node", "build.mjs", tmp_path)

        built = {path.name: path.read_text() for path in tmp_path.iterdir()}
        assert built == {path.name: path.read_text() for path in (CLIENT / "v1").iterdir()}

    def test_the_types_allow_what_is_meant_and_nothing_else(self, npm: str) -> None:
        run(npm, "run", "types")

    def test_asyncapis_own_parser_has_nothing_to_say_of_the_document(self, npm: str) -> None:
        del npm

        assert re.search(
            r"^notifier 3\.0\.0: \d+ messages$", run("node", "asyncapi.mjs", ROOT / "openapi/asyncapi.yaml")
        )

    def test_the_package_has_the_modules_and_their_types(self, npm: str, tmp_path: Path) -> None:
        """Packed, and installed into an empty project, which imports them by its name."""
        run(npm, "pack", CLIENT / "client", "--pack-destination", tmp_path)
        (archive,) = tmp_path.iterdir()
        (tmp_path / "package.json").write_text('{"type": "module"}')
        run(npm, "install", "--prefix", tmp_path, "--no-audit", "--no-fund", "--omit=peer", archive)
        (tmp_path / "main.js").write_text("console.log(Object.keys(await import('notifier-push-client')));")
        types = (WEB / "types.ts").read_text().replace("../../notifier/clients/web/client/notifier.js", PACKAGE)
        (tmp_path / "types.ts").write_text(re.sub(r'"\.\./.*/(\w+)\.js"', rf'"{PACKAGE}/\1"', types))
        shutil.copy(WEB / "tsconfig.json", tmp_path)
        (tmp_path / "node_modules/@types").symlink_to(WEB / "node_modules/@types")

        assert {path.suffix for path in (tmp_path / "node_modules" / PACKAGE).iterdir()} == {".js", ".ts", ".json"}
        assert "NotifierClient" in run("node", tmp_path / "main.js")
        assert "../.." not in (tmp_path / "types.ts").read_text()
        run(WEB / "node_modules/.bin/tsc", "--project", tmp_path)

    def test_a_server_renders_the_hook_without_connecting(self, npm: str, tmp_path: Path) -> None:
        del npm
        bundle("server.jsx", tmp_path / "server.cjs", "--platform=node")

        assert '<output id="state">connecting</output>' in run("node", tmp_path / "server.cjs")


@pytest.fixture(scope="module")
def site(npm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    del npm
    app = bundle("browser.jsx", tmp_path_factory.mktemp("app") / "app.js", "--format=esm")
    site = Site({"/bell": BELL_PAGE, "/bell.js": BELL_SCRIPT, "/react": REACT_PAGE, "/app.js": app})
    yield site
    site.close()


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Replica]:
    with replica_for(site, tmp_path_factory.mktemp("parts")) as replica:
        yield replica


async def send(replica: Replica, user: str, title: str, **changes: object) -> None:
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer(), verify=False) as backend:
        answer = await backend.post("/notify", json=notification(user, title=title, **changes))
    assert answer.status_code == 202, answer.text


@in_one_loop
class TestReact:
    async def test_a_component_shows_what_comes_and_parts_when_it_goes(
        self, browser: Browser, site: Site, replica: Replica
    ) -> None:
        """In strict mode, which mounts everything twice."""
        async with profile(browser) as context:
            tab = await open_tab(context, site, replica.url, path="/react", user="rea", topics=["orders.#"])
            page = tab.page
            await expect(page.locator("#state")).to_have_text("live")
            assert await tab.value("shown") == ["connecting", "live"]
            await send(replica, "rea", "One", collapse_key="k")
            await send(replica, "rea", "Two")
            await expect(page.locator("li")).to_have_text(["Two", "One"])
            await send(replica, "rea", "One again", collapse_key="k")
            await expect(page.locator("li")).to_have_text(["One again", "Two"])
            await expect(page.locator("#unread")).to_have_text("2")
            await page.get_by_role("button", name="Mark read").click()
            await expect(page.locator("#unread")).to_have_text("0")
            assert await sessions_of(replica, "rea") == 1
            await page.get_by_role("button", name="Toggle").click()
            async with asyncio.timeout(10):
                while await sessions_of(replica, "rea"):  # noqa: ASYNC110 - another process decides
                    await asyncio.sleep(0.05)

            assert tab.complaints == []

    async def test_signing_out_forgets(self, browser: Browser, site: Site, replica: Replica) -> None:
        async with profile(browser) as context:
            tab = await open_tab(context, site, replica.url, path="/react", user="roy", topics=["orders.#"])
            await expect(tab.page.locator("#state")).to_have_text("live")
            await send(replica, "roy", "One")
            await expect(tab.page.locator("li")).to_have_text(["One"])
            await tab.page.get_by_role("button", name="Sign out").click()

            await expect(tab.page.locator("#state")).to_have_text("closed")
            await expect(tab.page.locator("li")).to_have_count(0)
            assert await tab.value("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0

    async def test_what_goes_wrong_is_told(self, browser: Browser, site: Site, replica: Replica) -> None:
        async with profile(browser) as context:
            tab = await open_tab(context, site, replica.url, path="/react", user="ren")
            await expect(tab.page.locator("#state")).to_have_text("live")
            await tab.until("errors.length")

            assert await tab.value("errors") == [{"code": "topic_forbidden", "detail": "orders.eu"}]

    async def test_topics_change_without_another_connection(
        self, browser: Browser, site: Site, replica: Replica
    ) -> None:
        async with profile(browser) as context:
            tab = await open_tab(context, site, replica.url, path="/react", user="ria", topics=["orders.#"])
            page = tab.page
            sockets: list[str] = []
            await expect(page.locator("#state")).to_have_text("live")
            page.on("websocket", lambda socket: sockets.append(socket.url))
            await send(replica, "ria", "EU", to={"topics": ["orders.eu"]})
            await expect(page.locator("li")).to_have_text(["EU"])
            await page.get_by_role("button", name="Move").click()
            await is_subscribed(replica, "ria", ["orders.us"])
            await send(replica, "ria", "US", to={"topics": ["orders.us"]})
            await send(replica, "ria", "EU again", to={"topics": ["orders.eu"]})
            await send(replica, "ria", "last")

            await expect(page.locator("li")).to_have_text(["last", "US", "EU"])
            assert sockets == []


@in_one_loop
class TestBell:
    @pytest_asyncio.fixture(loop_scope="module")
    async def tab(self, browser: Browser, site: Site, replica: Replica) -> AsyncIterator[Tab]:
        async with profile(browser) as context:
            tab = await open_tab(context, site, replica.url, path="/bell", user="bel")
            await tab.until("window.bell?.toggle !== undefined")
            await tab.start()
            await tab.page.evaluate("bell.client = client; undefined")
            yield tab
            assert tab.complaints == []

    async def test_it_counts_what_is_unread_and_shows_it_on_a_click(self, tab: Tab, replica: Replica) -> None:
        bell = tab.page.get_by_role("button", name="Notifications")
        await send(replica, "bel", "Shipped", body="On its way", link="/orders/1")
        await send(replica, "bel", "Late")
        await expect(tab.page.get_by_role("button", name="Notifications, 2 unread")).to_be_visible()
        await expect(tab.page.get_by_role("status")).to_have_text("Late")
        await bell.click()

        await expect(bell).to_have_attribute("aria-expanded", "true")
        await expect(tab.page.get_by_role("listitem")).to_contain_text(["Late", "Shipped"])
        await expect(tab.page.get_by_role("link", name="Shipped")).to_have_attribute("href", re.compile("/orders/1$"))
        await expect(bell).to_have_accessible_name("Notifications")

    async def test_what_is_seen_in_one_tab_is_read_in_the_others(self, tab: Tab, site: Site, replica: Replica) -> None:
        other = await open_tab(tab.page.context, site, replica.url, path="/bell", user="bel", topics=["orders.#"])
        same = await open_tab(tab.page.context, site, replica.url, path="/bell", user="bel")
        for each in (other, same):
            await each.until("window.bell?.toggle !== undefined")
            await each.start()
            await each.page.evaluate("bell.client = client; undefined")
        await send(replica, "bel", "One")
        await send(replica, "bel", "Two")
        for each in (tab, other, same):
            await expect(each.page.get_by_role("button", name="Notifications, 2 unread")).to_be_visible()
        await same.page.get_by_role("button", name="Notifications").click()
        await expect(tab.page.get_by_role("button")).to_have_accessible_name("Notifications")
        await send(replica, "bel", "Three")

        await expect(same.page.get_by_role("listitem")).to_have_count(3)
        await expect(tab.page.get_by_role("button")).to_have_accessible_name("Notifications")
        await expect(other.page.get_by_role("button", name="Notifications, 3 unread")).to_be_visible()

    async def test_it_is_worked_with_keys_alone(self, tab: Tab, replica: Replica) -> None:
        await send(replica, "bel", "One")
        page = tab.page
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("region", name="Notifications")).to_be_visible()
        await page.keyboard.press("Escape")

        await expect(page.get_by_role("region", name="Notifications")).to_be_hidden()
        await expect(page.get_by_role("button", name="Notifications")).to_be_focused()

    async def test_markup_stays_text_and_no_link_leads_astray(self, tab: Tab, replica: Replica) -> None:
        await send(replica, "bel", "<img src=x onerror=alert(1)>", link="https://example.com/<b>")
        await tab.page.get_by_role("button", name="Notifications").click()

        await expect(tab.page.get_by_role("listitem")).to_contain_text("<img src=x onerror=alert(1)>")
        assert await tab.value("bell.shadowRoot.querySelectorAll('img, b').length") == 0

    async def test_a_newer_one_of_a_collapse_key_takes_the_place_of_the_older(self, tab: Tab, replica: Replica) -> None:
        await send(replica, "bel", "10 %", collapse_key="progress")
        await send(replica, "bel", "20 %", collapse_key="progress")

        await tab.page.get_by_role("button", name="Notifications, 1 unread").click()
        await expect(tab.page.get_by_role("listitem")).to_have_count(1)
        await expect(tab.page.get_by_role("listitem")).to_contain_text("20 %")

    async def test_it_speaks_the_language_of_the_page_and_reads_from_its_side(self, tab: Tab) -> None:
        await tab.page.evaluate(
            "bell.labels = { bell: 'התראות', none: 'אין חדש', list: 'התראות' }; document.dir = 'rtl';"
        )
        await tab.page.get_by_role("button", name="התראות").click()

        await expect(tab.page.get_by_text("אין חדש")).to_be_visible()
        assert await tab.value("getComputedStyle(bell.shadowRoot.querySelector('[part=panel]')).direction") == "rtl"

    async def test_its_colours_are_the_pages(self, tab: Tab, replica: Replica) -> None:
        await send(replica, "bel", "One")
        await expect(tab.page.get_by_role("button", name="Notifications, 1 unread")).to_be_visible()
        await tab.page.evaluate("bell.style.setProperty('--notifier-accent', 'rgb(1, 2, 3)'); undefined")

        count = "getComputedStyle(bell.shadowRoot.querySelector('[part=count]')).backgroundColor"
        assert await tab.value(count) == "rgb(1, 2, 3)"

    async def test_it_may_be_given_all_before_its_module_is_there(self, tab: Tab, replica: Replica) -> None:
        await tab.page.goto(tab.url.replace("/bell", "/page"))
        await tab.until("window.start !== undefined")
        await tab.start()
        await tab.value(
            """void (async () => {
              const bell = document.body.appendChild(document.createElement("notifier-bell"));
              Object.assign(bell, { client, labels: { bell: "Nachrichten" } });
              await import(`${new URL(location).searchParams.get("service")}/client/v1/bell.js`);
            })()"""
        )
        await expect(tab.page.get_by_role("button", name="Nachrichten")).to_be_visible()
        await send(replica, "bel", "One")

        await expect(tab.page.get_by_role("button", name="Nachrichten, 1 unread")).to_be_visible()

    async def test_it_says_when_it_is_cut_off(self, tab: Tab) -> None:
        await tab.page.context.set_offline(True)

        await expect(tab.page.get_by_role("button", name="Notifications, Not connected")).to_be_visible()
