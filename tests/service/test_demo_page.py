"""The demo, from the command to the page in a real Chromium."""

import asyncio
import json
import re
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Route, WebSocketRoute, expect

from notifier.app import create_app
from notifier.demo import ASSETS
from notifier.settings import Settings
from tests.service.browser import DEADLINE_SECONDS, Demo, Visit, demo_process, run_in_shell
from tests.tokens import bearer, token

pytestmark = pytest.mark.asyncio(loop_scope="module")

OpenTab = Callable[[], Awaitable[Visit]]
Send = Callable[..., Awaitable[str]]

NAME: Final = "({ name, ariaLabel, textContent }) => name || ariaLabel || textContent.trim()"
PANE_ORDER: Final = ["Leave orders.eu", "topic", "Follow", "Cut", "Force a reset", "Sign out"]
FORM_ORDER: Final = ["kind", "name", "title", "as", "More", "Send", "Broadcast", "Burst of 20"]
KEYBOARD_ORDER: Final = ["Cut everyone", *FORM_ORDER, *PANE_ORDER, *PANE_ORDER, "user", "Add"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for the tests that do not stop it; each takes a tenant of its own."""
    demo = Demo(tmp_path_factory.mktemp("demo") / "demo.log")
    yield demo
    demo.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def open_tab(browser: Browser) -> AsyncIterator[OpenTab]:
    """A function that opens an empty tab, in a window of its own: a tab behind another one is slow."""
    contexts: list[BrowserContext] = []

    async def open_tab() -> Visit:
        contexts.append(await browser.new_context(reduced_motion="reduce"))
        return Visit(await contexts[-1].new_page())

    yield open_tab
    for context in contexts:
        await context.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_tab(browser: Browser) -> AsyncIterator[Visit]:
    """A tab for the tests that leave it to the next: a fresh one costs a process."""
    context = await browser.new_context(reduced_motion="reduce")
    yield Visit(await context.new_page())
    await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def tab(shared_tab: Visit, demo: Demo) -> Visit:
    """The shared tab, without a past."""
    await shared_tab.forget(demo.url)
    shared_tab.user = None
    return shared_tab


@pytest_asyncio.fixture(loop_scope="module")
async def alice(tab: Visit, demo: Demo, tenant: str) -> Visit:
    """A tab where alice is signed in, an admin who follows orders.eu."""
    await tab.open(demo.url, user="alice", tenant=tenant, roles="admin", topics="orders.eu")
    return tab


@pytest.fixture
def tenant(request: pytest.FixtureRequest) -> str:
    """A tenant of the test's own."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", request.node.name)[-64:]


@pytest_asyncio.fixture(loop_scope="module")
async def send(demo: Demo, tenant: str) -> AsyncIterator[Send]:
    """A function that sends to alice as a backend of the tenant, and returns the id."""
    async with httpx.AsyncClient(base_url=demo.url, headers=bearer(tenant=tenant)) as client:

        async def send(title: str, **fields: Any) -> str:
            body = {"to": {"users": ["alice"]}, "type": "greeting", "title": title, **fields}
            answer = await client.post("/notify", json=body)
            answer.raise_for_status()
            return str(answer.json()["id"])

        yield send


async def both(tab: Visit, demo: Demo, tenant: str) -> Visit:
    """Open the tab with alice and bob of a tenant, side by side. Returns bob; the tab looks at alice."""
    users = [("user", "alice"), ("tenant", tenant), ("user", "bob"), ("tenant", tenant)]
    await tab.page.goto(f"{demo.url}/?{urlencode(users)}")
    tab.user, bob = "alice", Visit(tab.page, "bob")
    await tab.is_live()
    await bob.is_live()
    return bob


async def counts(visit: Visit) -> dict[str, str]:
    return {name: await visit.field(name).inner_text() for name in ("received", "replayed", "resets", "sent")}


# -- what the terminal says -------------------------------------------------------------------------------------------


async def test_the_printed_address_is_alice_and_the_printed_curl_line_reaches_her(demo: Demo, tab: Visit) -> None:
    await tab.open(demo.url)

    code, answer = await run_in_shell(demo.curl_line)

    assert code == 0
    await expect(tab.titles).to_have_text(["Hello, Alice"])
    assert await tab.ids() == [json.loads(answer)["id"]]
    await expect(tab.field("user")).to_have_text("alice")


async def test_the_printed_second_address_is_bob_who_has_the_role(demo: Demo, tab: Visit) -> None:
    address = re.search(r"Open (\S+) in a second tab", demo.greeting)
    assert address is not None

    await tab.page.goto(address[1])
    await tab.is_live()
    await tab.send("roles", "admin", title="For admins")

    await expect(tab.titles).to_have_text(["For admins"])
    await expect(tab.field("user")).to_have_text("bob")
    await expect(tab.page.locator(".pane")).to_have_count(1)


async def test_the_printed_listen_line_receives_what_the_curl_line_sends(demo: Demo) -> None:
    pipe = asyncio.subprocess.PIPE
    listener = await asyncio.create_subprocess_shell(f"exec {demo.listen_line}", stdout=pipe, stderr=pipe)
    assert listener.stdout is not None
    assert listener.stderr is not None
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert b"listening as alice" in await listener.stderr.readline()
            _, answer = await run_in_shell(demo.curl_line)
            line = await listener.stdout.readline()
    finally:
        listener.kill()
        await listener.communicate()

    assert json.loads(line)["id"] == json.loads(answer)["id"]


async def test_a_taken_port_is_one_sentence_that_names_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = demo_process("--port", str(port), output=subprocess.PIPE)
        output, _ = await asyncio.to_thread(process.communicate, timeout=DEADLINE_SECONDS)

    assert process.returncode == 1
    assert output.decode() == (
        f"notifier: cannot listen on 127.0.0.1:{port}: Address already in use; "
        f'take another port: make demo ARGS="--port {port + 1}"\n'
    )


async def test_ctrl_c_ends_it_with_an_open_page_and_without_a_traceback(open_tab: OpenTab, tmp_path: Path) -> None:
    demo = Demo(tmp_path / "demo.log")
    visit = await open_tab()
    await visit.open(demo.url)

    code = await asyncio.to_thread(demo.stop, signal.SIGINT)

    assert code == 0
    assert demo.log_path.read_text() == demo.greeting
    await visit.is_cut_off()


# -- what the page shows ----------------------------------------------------------------------------------------------


async def test_a_notification_from_a_backend_is_shown_whole(alice: Visit, send: Send) -> None:
    sent = await send("Shipped", type="order.shipped", body="On its way", link="/orders/1", data={"order": [1, None]})

    card = alice.cards.first
    await expect(card.get_by_role("heading")).to_have_text("Shipped")
    await expect(card).to_contain_text("On its way")
    await expect(card).to_contain_text("order.shipped")
    await expect(card.locator("time")).to_have_attribute("datetime", re.compile(r"^20\d\d-.*Z$"))
    assert json.loads(await card.locator("pre").inner_text()) == {"order": [1, None]}
    assert await alice.ids() == [sent]


async def test_a_newer_one_of_a_collapse_key_takes_the_place_of_the_older(alice: Visit, send: Send) -> None:
    await send("10 %", collapse_key="progress")
    await send("Other")
    await expect(alice.titles).to_have_text(["Other", "10 %"])

    await send("20 %", collapse_key="progress")

    await expect(alice.titles).to_have_text(["20 %", "Other"])


async def test_markup_is_shown_as_text(alice: Visit, send: Send) -> None:
    markup = '<img src="x" onerror="alert(1)"><b>Bold</b>'

    await send(markup, body=markup, data={"html": markup})

    card = alice.cards.first
    await expect(card.get_by_role("heading")).to_have_text(markup)
    assert await card.locator("img, b").count() == 0
    assert alice.complaints == []


async def test_an_https_link_opens_apart_and_tells_nothing(alice: Visit, send: Send) -> None:
    await send("Look", link="https://status.example.com/now?a=1")

    link = alice.cards.first.get_by_role("link")
    await expect(link).to_have_attribute("href", "https://status.example.com/now?a=1")
    await expect(link).to_have_attribute("rel", "noopener noreferrer")


async def test_only_https_and_paths_of_this_origin_become_links(alice: Visit, demo: Demo) -> None:
    """The service refuses the others; the page does not rely on it."""
    unsafe = ["javascript:alert(1)", "JaVaScript:alert(1)", "data:text/html,x", "http://example.com/", "//example.com"]
    unsafe += ["/\\example.com", "/\t/example.com", " javascript:alert(1)", "orders/1", "", "https://"]
    safe = ["https://example.com/", "/orders/1"]

    found = await alice.page.evaluate(
        "async (links) => links.map((await import('/client/v1/notifier.js')).safeLink)",
        [*unsafe, *safe],
    )

    assert found == [None] * len(unsafe) + ["https://example.com/", f"{demo.url}/orders/1"]


# -- what the page sends ----------------------------------------------------------------------------------------------


async def test_the_form_reaches_a_user_a_topic_a_role_and_everyone(alice: Visit) -> None:
    names = {"users": "alice", "topics": "orders.eu", "roles": "admin", "everyone": ""}
    answers = []
    for count, (kind, name) in enumerate(names.items(), 1):
        await alice.send(kind, name, title=f"By {kind}", data='{"n": 1}')
        await expect(alice.cards).to_have_count(count)
        answers.append(await alice.answer())

    await expect(alice.titles).to_have_text(["By everyone", "By roles", "By topics", "By users"])
    assert answers == [f"202 queued: {notification_id}" for notification_id in reversed(await alice.ids())]


async def test_bob_sees_what_is_for_everyone_and_not_what_is_for_alice(
    alice: Visit, open_tab: OpenTab, demo: Demo, tenant: str
) -> None:
    bob = await open_tab()
    await bob.open(demo.url, user="bob", tenant=tenant)

    await alice.send("users", "alice", title="For alice")
    await expect(alice.titles).to_have_text(["For alice"])
    await alice.send("everyone", title="For everyone")

    await expect(alice.titles).to_have_text(["For everyone", "For alice"])
    await expect(bob.titles).to_have_text(["For everyone"])


async def test_an_unsafe_link_is_not_sent_and_the_page_says_why(alice: Visit) -> None:
    answers = []
    for link in ("javascript:alert(1)", "//example.com", "http://example.com/"):
        await alice.send("users", "alice", link=link)
        answers.append(await alice.answer())
    await alice.send("users", "alice", link="", title="Safe")

    await expect(alice.titles).to_have_text(["Safe"])
    assert answers == ["422 invalid_notification: /link: must be an https URL or an absolute path"] * 3


# -- coming back ------------------------------------------------------------------------------------------------------


async def test_a_reload_brings_what_came_meanwhile_and_nothing_twice(alice: Visit, send: Send) -> None:
    first = await send("Before")
    await expect(alice.titles).to_have_text(["Before"])
    address = alice.page.url
    await alice.page.goto("about:blank")
    missed = [await send("Meanwhile 1"), await send("Meanwhile 2")]

    await alice.page.goto(address)
    await alice.is_live("resumed, 2 replayed")
    once = await alice.ids()
    await alice.page.reload()
    await alice.is_live("resumed, 0 replayed")

    assert once == [*reversed(missed), first]
    assert await alice.ids() == once


async def test_what_the_service_brings_again_is_shown_once(alice: Visit, send: Send, demo: Demo) -> None:
    """As after a position that was not saved in time: put it back, and keep the ids."""
    sent = [await send("One"), await send("Two")]
    await expect(alice.cards).to_have_count(2)
    address = alice.page.url
    await alice.leave(demo.url)
    await alice.page.evaluate("""() => {
        const name = Object.keys(sessionStorage).find((name) => name.startsWith("notifier.demo ["));
        const kept = JSON.parse(sessionStorage.getItem(name));
        sessionStorage.setItem(name, JSON.stringify({ ...kept, position: "earliest" }));
    }""")

    await alice.page.goto(address)
    await alice.is_live("resumed, 2 replayed")
    last = await send("Three")

    await expect(alice.titles).to_have_text(["Three", "Two", "One"])
    assert await alice.ids() == [last, *reversed(sent)]


async def test_a_rebalance_is_resumed(alice: Visit, send: Send, demo: Demo) -> None:
    async with httpx.AsyncClient(base_url=demo.operations_url) as operations:
        (await operations.post("/rebalance", params={"fraction": 1})).raise_for_status()
    await alice.is_live("resumed")
    await send("After")

    await expect(alice.titles).to_have_text(["After"])


async def test_the_page_waits_as_long_as_the_service_asks(open_tab: OpenTab, demo: Demo) -> None:
    visit = await open_tab()

    async def drain(way: WebSocketRoute) -> None:
        way.connect_to_server()
        way.send(json.dumps({"type": "reconnect", "after_ms": 3_600_000, "reason": "drain"}))
        await way.close(code=4001, reason="drain")

    await visit.page.route_web_socket("**/ws*", drain)
    await visit.page.goto(demo.url)

    await expect(visit.state).to_contain_text(re.compile(r"reconnecting\s+in 3(600|59\d) s"))


async def test_the_page_leaves_a_service_that_went_silent_and_resumes(open_tab: OpenTab, tmp_path: Path) -> None:
    demo = Demo(tmp_path / "demo.log", SESSIONS__HEARTBEAT_SECONDS="1")
    visit = await open_tab()
    await visit.open(demo.url)

    demo.process.send_signal(signal.SIGSTOP)
    try:
        await visit.is_cut_off()
        demo.process.send_signal(signal.SIGCONT)
        await visit.is_live("resumed, 0 replayed")
    finally:
        demo.stop()


async def test_the_page_comes_back_to_a_killed_service_and_says_reset(open_tab: OpenTab, tmp_path: Path) -> None:
    demo = Demo(tmp_path / "before.log")
    visit = await open_tab()
    await visit.page.add_init_script("Math.random = () => 0.25;")  # The pauses: 1/8 s, 1/4 s, 1/2 s and so on.
    await visit.open(demo.url)
    await visit.send("users", "alice", title="Before")
    await expect(visit.titles).to_have_text(["Before"])
    is_calm = visit.complaints == []

    demo.stop(signal.SIGKILL)
    await expect(visit.state).to_contain_text(re.compile(r"reconnecting\s+in \d+ s"))
    again = Demo(tmp_path / "after.log", port=demo.port)
    try:
        await visit.is_live("reset (epoch_changed)")
        await visit.send("users", "alice", title="After")
        await expect(visit.titles).to_have_text(["After", "Before"])
    finally:
        again.stop()

    assert is_calm
    assert all("ERR_CONNECTION" in complaint or "WebSocket" in complaint for complaint in visit.complaints)


async def test_the_form_signs_in_as_somebody_else(tab: Visit, demo: Demo, tenant: str) -> None:
    await tab.open(demo.url, user="alice")
    await tab.click("Sign out")
    for label, value in {"User": "auth0|5f é", "Tenant": tenant, "Roles": "a, b ,", "Topics": "x.y,z"}.items():
        await tab.page.get_by_label(label, exact=True).fill(value)

    await tab.page.get_by_label("Topics").press("Enter")
    tab.user = "auth0|5f é"
    await tab.is_live()
    await tab.send("roles", "b", title="By role")
    await expect(tab.cards).to_have_count(1)
    await tab.send("topics", "z", title="By topic")

    await expect(tab.titles).to_have_text(["By topic", "By role"])
    await expect(tab.field("user")).to_have_text("auth0|5f é")


async def test_signed_out_survives_a_reload_and_signing_in_resumes(alice: Visit, send: Send) -> None:
    await send("Before")
    await expect(alice.titles).to_have_text(["Before"])
    await alice.click("Sign out")
    await alice.page.reload()
    await expect(alice.state).to_have_text(re.compile("signed out"))
    await expect(alice.cards).to_have_count(0)
    await send("Meanwhile")

    await alice.click("Sign in")

    await alice.is_live("resumed, 1 replayed")
    await expect(alice.titles).to_have_text(["Meanwhile", "Before"])


# -- the shop window --------------------------------------------------------------------------------------------------


async def test_who_is_cut_off_resumes_with_what_the_others_saw_meanwhile(tab: Visit, demo: Demo, tenant: str) -> None:
    """Several users side by side; a broadcast; the connection cut and restored by a button."""
    bob = await both(tab, demo, tenant)
    await tab.send("everyone", title="Before")
    await expect(tab.titles).to_have_text(["Before"])

    await tab.click("Cut")
    await expect(tab.state).to_have_text(re.compile("cut off by you"))
    await tab.page.locator("#send").get_by_label("Title").fill("Meanwhile")
    await tab.page.get_by_role("button", name="Broadcast").click()
    await expect(bob.titles).to_have_text(["Meanwhile", "Before"])
    await expect(tab.titles).to_have_text(["Before"])
    await tab.click("Restore")

    await tab.is_live("resumed, 1 replayed")
    await expect(tab.titles).to_have_text(["Meanwhile", "Before"])
    await expect(tab.cards.locator(".badge")).to_have_text(["replayed"])
    await expect(bob.cards.locator(".badge")).to_have_count(0)
    assert await counts(tab) == {"received": "2", "replayed": "1", "resets": "0", "sent": "2"}
    assert await counts(bob) == {"received": "2", "replayed": "0", "resets": "0", "sent": "0"}
    assert tab.complaints == []


async def test_a_reset_happens_and_says_what_it_means(tab: Visit, demo: Demo, tenant: str) -> None:
    """The service itself says it: the page presents the position of a journal that is gone."""
    bob = await both(tab, demo, tenant)

    await tab.click("Force a reset")

    await tab.is_live("reset (epoch_changed)")
    await expect(tab.field("notice")).to_contain_text("some may be missing")
    await bob.is_live()
    assert [(await counts(user))["resets"] for user in (tab, bob)] == ["1", "0"]
    await tab.send("users", "alice", title="After")
    await expect(tab.titles).to_have_text(["After"])
    await tab.page.reload()
    await tab.is_live("resumed, 0 replayed")
    assert await counts(tab) == {"received": "1", "replayed": "0", "resets": "1", "sent": "1"}


async def test_everyone_is_cut_off_and_restored_by_one_button(tab: Visit, demo: Demo, tenant: str) -> None:
    bob = await both(tab, demo, tenant)

    await tab.page.get_by_role("button", name="Cut everyone").click()
    await expect(tab.page.locator(".state[data-state=cut]")).to_have_count(2)
    await tab.send("everyone", title="Meanwhile")
    await tab.answer()
    await tab.page.get_by_role("button", name="Restore everyone").click()

    for user in (tab, bob):
        await user.is_live("resumed, 1 replayed")


async def test_topics_are_followed_and_left_and_the_address_keeps_them(alice: Visit) -> None:
    another = alice.pane.get_by_label("Follow another")
    await another.fill("news.today")
    await another.press("Enter")
    await alice.pane.get_by_role("button", name="Leave orders.eu").click()
    await expect(another).to_be_focused()
    await alice.page.reload()
    await alice.is_live("resumed")

    await expect(alice.field("topics").locator("li")).to_have_text([re.compile("news.today")])
    await alice.send("topics", "orders.eu", title="Left")
    await alice.answer()
    await alice.send("topics", "news.today", title="Followed")
    await expect(alice.titles).to_have_text(["Followed"])


async def test_a_topic_that_is_denied_is_said_and_not_kept(alice: Visit) -> None:
    another = alice.pane.get_by_label("Follow another")
    await another.fill("secret")
    await another.press("Enter")

    await expect(alice.field("notice")).to_have_text("No secret (topic_forbidden).")
    await expect(alice.field("topics").locator("li")).to_have_count(1)
    await expect(alice.page).not_to_have_url(re.compile("secret"))


async def test_latencies_are_measured_from_post_to_arrival_and_drawn(tab: Visit, demo: Demo, tenant: str) -> None:
    """Two sessions, each with its own; what is replayed is not one: it says how long somebody was away."""
    bob = await both(tab, demo, tenant)
    await tab.send("everyone", title="One")
    await expect(bob.cards).to_have_count(1)
    await tab.click("Cut")
    await tab.send("everyone", title="Two")
    await expect(bob.cards).to_have_count(2)
    await tab.click("Restore")
    await expect(tab.cards).to_have_count(2)

    await expect(tab.page.locator("#measured")).to_have_text("3")
    bars = await tab.page.locator("#plot .each").get_attribute("d")
    assert bars is not None
    assert bars.count("M") == 3
    p50, p99 = [await tab.page.locator(f"#{name}").inner_text() for name in ("p50", "p99")]
    assert 0 < float(p50.removesuffix(" ms")) <= float(p99.removesuffix(" ms")) < DEADLINE_SECONDS * 1_000
    await expect(tab.page.get_by_role("img", name=f"half within {p50}, 99 of 100 within {p99}")).to_be_visible()


async def test_a_burst_is_sent_and_counted(alice: Visit) -> None:
    await alice.page.get_by_role("button", name="Burst of 20").click()

    await expect(alice.cards).to_have_count(20)
    await expect(alice.titles.first).to_have_text("Order shipped 20/20")
    await expect(alice.field("sent")).to_have_text("20")
    await expect(alice.pane.get_by_role("button", name="20 unread")).to_be_visible()


async def test_a_user_is_added_once_and_removed_and_the_address_knows(alice: Visit, tenant: str) -> None:
    form = alice.page.locator("#sign-in")
    for _ in range(2):
        await form.get_by_label("User").fill("carol")
        await form.get_by_label("Tenant").fill(tenant)
        await form.get_by_role("button", name="Add").click()
    carol = Visit(alice.page, "carol")
    await expect(alice.page.locator("#joined")).to_have_text("carol is here already")
    await alice.page.reload()
    await carol.is_live()
    await carol.click("Sign out")
    await carol.click("Remove")
    await alice.page.reload()

    await alice.is_live("resumed")
    await expect(alice.page.locator(".pane")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_scrolls_one_way_and_has_room_for_a_thumb(
    browser: Browser, demo: Demo, scheme: Literal["light", "dark"]
) -> None:
    context = await browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    try:
        visit = Visit(await context.new_page())
        await visit.page.goto(demo.url)
        await visit.is_live()
        await visit.click("Force a reset")
        await visit.is_live("reset")
        await visit.page.get_by_role("button", name="Broadcast").click()
        await expect(visit.cards).to_have_count(1)

        assert await visit.page.evaluate("document.documentElement.scrollWidth") == 390
        small = "[...document.querySelectorAll('button, input, select')].filter((each) => each.offsetHeight > 0"
        small += " && each.offsetHeight < 32).map((each) => each.outerHTML)"
        assert await visit.page.evaluate(small) == []
        contrast = await visit.contrasts()
        assert {name: ratio for name, ratio in contrast.items() if ratio < 4.5} == {}
    finally:
        await context.close()


async def test_all_of_it_can_be_done_with_the_keyboard(tab: Visit, demo: Demo) -> None:
    """From the first Tab on: whatever can be clicked is reached, in the order in which it is read."""
    await tab.page.goto(demo.url)
    await tab.is_live()
    await tab.page.evaluate("document.activeElement.blur()")
    reached: list[str] = []
    while "Add" not in reached and len(reached) < 60:
        await tab.page.keyboard.press("Tab")
        reached.append(await tab.page.evaluate(f"({NAME})(document.activeElement)"))

    assert [name for name in reached if name in KEYBOARD_ORDER] == KEYBOARD_ORDER
    await tab.pane.get_by_role("button", name="Cut", exact=True).focus()
    await tab.page.keyboard.press("Enter")
    await expect(tab.state).to_have_text(re.compile("cut off by you"))
    await tab.page.keyboard.press("Enter")
    await tab.is_live("resumed")


# -- tokens -----------------------------------------------------------------------------------------------------------


async def tokens_for(visit: Visit, *tokens: str) -> None:
    """Answer the page's next requests for a token with these; then let them through again."""
    waiting = list(tokens)

    async def answer(route: Route) -> None:
        if waiting:
            await route.fulfill(json={"token": waiting.pop(0), "expires_in_seconds": 3_600})
        else:
            await route.continue_()

    await visit.page.route("**/demo/token", answer)


async def test_an_expired_token_is_replaced(tab: Visit, demo: Demo) -> None:
    await tokens_for(tab, token("alice", lifetime_seconds=-60))

    await tab.page.goto(f"{demo.url}/?user=alice")

    await tab.is_live()


async def test_a_second_expired_token_in_a_row_ends_it(tab: Visit, demo: Demo) -> None:
    expired = [token("alice", lifetime_seconds=-60 - age) for age in range(4)]
    await tokens_for(tab, *expired)

    await tab.page.goto(f"{demo.url}/?user=alice")

    await expect(tab.state).to_have_text(re.compile("refused: 4401 token_expired"))


async def test_a_refused_token_ends_it_with_the_reason(tab: Visit, demo: Demo) -> None:
    await tokens_for(tab, token("alice") + "x")

    await tab.page.goto(f"{demo.url}/?user=alice")

    await expect(tab.state).to_have_text(re.compile("refused: 4402 token_invalid"))


async def test_a_name_that_cannot_be_is_refused_with_the_reason(tab: Visit, demo: Demo) -> None:
    await tab.page.goto(f"{demo.url}/?tenant=not%20one")

    await expect(tab.state).to_contain_text("422 invalid_token_request: the body: a tenant must be")


# -- policy and routes ------------------------------------------------------------------------------------------------


async def test_the_page_does_all_it_can_without_a_complaint_of_the_console(alice: Visit, send: Send) -> None:
    await send("From a backend", link="/orders/1", data={"n": 1})
    await alice.send("everyone", title="From the form")
    await expect(alice.cards).to_have_count(2)
    await alice.page.reload()
    await alice.is_live("resumed")
    await alice.click("Sign out")

    assert alice.complaints == []


async def test_the_policy_is_in_force(alice: Visit) -> None:
    """This also shows that the complaints of the console are heard."""
    await alice.page.evaluate("""async () => {
        document.body.setAttribute("style", "color: red");
        document.body.append(Object.assign(document.createElement("img"), { src: "/image.png" }));
        await fetch("http://127.0.0.1:9/").catch(() => {});
        try { document.body.innerHTML = "<b>"; } catch {}
    }""")

    complaints = "\n".join(alice.complaints)
    missing = [name for name in ("style-src", "img-src", "connect-src", "TrustedHTML") if name not in complaints]
    assert missing == []


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html"),
        *((path, "text/javascript") for path, *_ in ASSETS if path.endswith(".js")),
        ("/demo/demo.css", "text/css"),
    ],
)
async def test_each_file_is_served_with_its_type_and_the_policy(demo: Demo, path: str, media_type: str) -> None:
    async with httpx.AsyncClient(base_url=demo.url) as client:
        answer = await client.get(path)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none';")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("body", "media_type", "status", "code"),
    [
        ("{", "application/json", 400, "not_json"),
        ('{"user": "alice"}', "text/plain", 415, "unsupported_media_type"),
        ("{}", "application/json", 422, "invalid_token_request"),
        ('{"user": "alice", "admin": true}', "application/json", 422, "invalid_token_request"),
        ('{"user": ""}', "application/json", 422, "invalid_token_request"),
        ('{"user": "alice", "user": "bob"}', "application/json", 422, "invalid_token_request"),
        ('{"user": "alice", "roles": ["a\\u0000"]}', "application/json", 422, "invalid_token_request"),
        ('{"user": "alice", "topics": ["a..b"]}', "application/json", 422, "invalid_token_request"),
        ('{"user": "%s"}' % ("a" * 20_000), "application/json", 413, "request_too_large"),
    ],
)
async def test_a_token_request_that_cannot_be_is_a_problem(
    demo: Demo, body: str, media_type: str, status: int, code: str
) -> None:
    async with httpx.AsyncClient(base_url=demo.url) as client:
        answer = await client.post("/demo/token", content=body, headers={"Content-Type": media_type})

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_minted_token_is_kept_by_no_cache_and_says_how_long_it_lives(demo: Demo) -> None:
    wanted = {"user": "alice", "tenant": "t", "roles": ["admin"], "topics": ["orders.*"]}
    async with httpx.AsyncClient(base_url=demo.url) as client:
        answer = await client.post("/demo/token", json=wanted)

    assert answer.json() == {"token": answer.json()["token"], "expires_in_seconds": 3_600}
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/demo/demo.js", "/demo/demo.css", "/demo/token"])
async def test_the_service_by_itself_has_no_demo(path: str) -> None:
    """Even with development keys."""
    service = create_app(Settings(insecure=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service), base_url="http://127.0.0.1") as client:
        answer = await client.request("POST" if path.endswith("token") else "GET", path, json={"user": "alice"})

    assert answer.status_code == 404
