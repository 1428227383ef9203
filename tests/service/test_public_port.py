"""What the public port believes, and what can be reached there."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.nginx import nginx
from tests.replica import Replica
from tests.service.client import PROTOCOL, bare, complaints, refusal, session
from tests.tokens import token

FORGED = [
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "push.example.com"),
    ("X-Forwarded-For", "198.51.100.1"),
    ("X_FORWARDED_FOR", "198.51.100.2"),
    ("Forwarded", "for=198.51.100.3;proto=https;host=push.example.com"),
    ("X-Real-IP", "198.51.100.4"),
]


@pytest.fixture(scope="module")
def behind_proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A replica that trusts loopback as a proxy."""
    log_path = tmp_path_factory.mktemp("behind") / "replica.log"
    replica = Replica(log_path, {"NOTIFIER_HTTP__TRUSTED_PROXIES": "127.0.0.1"})
    yield replica
    replica.stop()
    assert complaints(log_path) == []


async def test_headers_of_a_client_move_neither_its_address_nor_the_scheme(replica: Replica) -> None:
    """T-60; checklist 3.3.25: each twice; the origin that they would make the same stays foreign."""
    offered = [PROTOCOL, f"bearer.{token('forger')}"]
    async with httpx.AsyncClient(verify=False) as client:
        await client.get(f"{replica.url}/forged", headers=[*FORGED, *FORGED])
    for origin in (f"https://127.0.0.1:{replica.port}", "https://push.example.com"):
        status, problem, _ = await refusal(
            replica.ws_url, subprotocols=offered, headers=[*FORGED, *FORGED, ("Origin", origin)]
        )
        assert (status, problem["code"]) == (403, "origin_forbidden")

    (line,) = [line for line in replica.log_lines() if line.get("path") == "/forged"]
    refused = [line for line in replica.log_lines() if line["event"] == "session refused"]
    assert line["address"] == "127.0.0.1"
    assert {line["address"] for line in refused} == {"127.0.0.1"}


async def test_a_trusted_proxy_tells_the_scheme_and_no_host(behind_proxies: Replica) -> None:
    """T-60, T-61; checklist 3.1.2."""
    by_tls = [("X-Forwarded-Proto", "https")]
    own = f"https://127.0.0.1:{behind_proxies.port}"
    async with bare(
        behind_proxies.ws_url,
        subprotocols=[PROTOCOL, f"bearer.{token('page')}"],
        headers=[*by_tls, ("Origin", own)],
    ) as page:
        welcome = await page.frame()
    status, problem, _ = await refusal(
        behind_proxies.ws_url,
        headers=[*by_tls, ("X-Forwarded-Host", "push.example.com"), ("Origin", "https://push.example.com")],
    )

    assert welcome["type"] == "welcome"
    assert (status, problem["code"]) == (403, "origin_forbidden")


@pytest.mark.parametrize("scheme", ["http", "HTTP", "ws"])
async def test_a_session_that_came_to_the_proxy_in_the_clear_is_refused(behind_proxies: Replica, scheme: str) -> None:
    """T-60; checklist 3.1.1."""
    offered = [PROTOCOL, f"bearer.{token('clear')}"]

    status, problem, _ = await refusal(
        behind_proxies.ws_url, subprotocols=offered, headers=[("X-Forwarded-Proto", scheme)]
    )

    assert (status, problem["code"]) == (403, "tls_required")


async def test_behind_nginx_a_client_cannot_speak_for_the_proxy(
    behind_proxies: Replica, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """T-60: what a client forges is overwritten, or to the left of what the proxy has seen. Checklist 3.3.25."""
    with nginx(behind_proxies.port, tmp_path_factory.mktemp("nginx")) as port:
        async with httpx.AsyncClient(verify=False) as client:
            await client.get(f"http://127.0.0.1:{port}/through", headers=FORGED)
        async with session(f"ws://127.0.0.1:{port}/ws", "through") as through:
            assert through.welcome["user"] == "through"

    (line,) = [line for line in behind_proxies.log_lines() if line.get("path") == "/through"]
    # nginx adds the client it sees; that one is a trusted address here, so the next to its left counts.
    assert line["address"] == "198.51.100.1"


async def test_a_cookie_lets_nobody_in(replica: Replica) -> None:
    """What a browser sends by itself is no credential, or any page could use it. Checklist 3.1.3."""
    held = token("cookie", scopes=["notify:send"])
    cookie = {"Cookie": f"token={held}; authorization=Bearer {held}; access_token={held}"}
    async with httpx.AsyncClient(base_url=replica.url, headers=cookie, verify=False) as client:
        answers = [await client.post("/notify", json={}), await client.get("/events")]
    async with bare(replica.ws_url, headers=list(cookie.items())) as page:
        await page.say(type="ping")

        assert await page.closed() == (4402, "auth_expected")
    assert [answer.status_code for answer in answers] == [401, 401]


OPERATIONS = ["/livez", "/readyz", "/metrics", "/sessions", "/notifications/x", "/rebalance", "/healthz", "/drain"]
DOCUMENTS = ["/openapi.json", "/docs", "/redoc", "/docs/oauth2-redirect"]


@pytest.mark.parametrize("path", [*OPERATIONS, *DOCUMENTS, "/", "/admin", "/.env", "//metrics", "/%2e%2e/metrics"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nothing_of_the_operations_port_is_there(replica: Replica, method: str, path: str) -> None:
    """T-63; checklist 3.4.29."""
    async with httpx.AsyncClient(verify=False) as client:
        answer = await client.request(method, f"{replica.url}{path}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_socket_to_no_address_is_told_so(replica: Replica) -> None:
    """T-63: also for who asks for an upgrade."""
    for path in ("/metrics", "/nothing", "/notify"):
        status, problem, _ = await refusal(replica.ws_url.replace("/ws", path))

        assert (status, problem["code"]) == (404, "not_found")


def test_no_answer_names_the_server(replica: Replica) -> None:
    """Sharp edges 2.2 (server_header)."""
    assert "server" not in httpx.get(f"{replica.url}/nothing").headers


def test_the_log_has_nothing_to_complain_of(replica: Replica) -> None:
    assert complaints(Path(replica.log_path)) == []
