"""Which pages of browsers may call: CORS headers on every kind of answer."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from notifier.app import create_app
from notifier.settings import Settings
from tests.ingress.builders import notification
from tests.replica import Replica
from tests.tokens import bearer

APP = "https://app.example.com"
ALLOWED_ORIGINS = f"{APP},https://*.example.org,http://localhost:5173"
ALLOWED_HEADERS = {"authorization", "content-type", "idempotency-key", "last-event-id", "traceparent", "tracestate"}
EXPOSED_HEADERS = {"retry-after", "ratelimit", "ratelimit-policy", "idempotent-replayed", "x-request-id"}
# What the fetch standard lets every request carry (CORS-safelisted request headers).
SAFE_HEADERS = {"accept", "accept-language", "content-language", "content-type"}
FOREIGN = [
    "https://evil.example",
    "https://app.example.com.evil.example",
    "https://evilapp.example.com",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://example.org",
    "https://a.b.example.org",
    "https://.example.org",
    "http://a.example.org",
    "null",
    "*",
]


@pytest.fixture(scope="module")
def cors_replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A replica that some pages may call; one caller may send 3 a day."""
    settings = {"NOTIFIER_HTTP__ALLOWED_ORIGINS": ALLOWED_ORIGINS, "NOTIFIER_LIMITS__SEND": "3/day"}
    replica = Replica(tmp_path_factory.mktemp("cors") / "replica.log", settings)
    yield replica
    replica.stop()


@pytest.fixture(scope="module")
def page(cors_replica: Replica) -> Iterator[httpx.Client]:
    """What a page of a browser does, on the wire."""
    with httpx.Client(base_url=cors_replica.url, verify=False) as client:
        yield client


def names(value: str) -> set[str]:
    return {name.strip().lower() for name in value.split(",")}


def preflight(
    page: httpx.Client, origin: str, *, method: str = "POST", headers: str = "authorization"
) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return page.options("/notify", headers=asked)


@pytest.mark.parametrize("origin", [APP, "https://a.example.org", "https://b-2.example.org", "http://localhost:5173"])
def test_an_allowed_page_may_read_the_answer(page: httpx.Client, origin: str) -> None:
    answer = page.get("/ws", headers={"Origin": origin})

    assert answer.headers["access-control-allow-origin"] == origin
    assert names(answer.headers["access-control-expose-headers"]) == EXPOSED_HEADERS
    assert "origin" in names(answer.headers["vary"])
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_page_may_not_read_the_answer(page: httpx.Client, origin: str) -> None:
    answer = page.get("/ws", headers={"Origin": origin})

    assert "access-control-allow-origin" not in answer.headers


def test_an_allowed_page_may_ask_before_it_sends(page: httpx.Client) -> None:
    answer = preflight(page, APP, headers="Authorization, Idempotency-Key, traceparent")

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == APP
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert names(answer.headers["access-control-allow-headers"]) == ALLOWED_HEADERS | SAFE_HEADERS


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_page_that_asks_is_refused(page: httpx.Client, origin: str) -> None:
    answer = preflight(page, origin)

    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("asked", [{"method": "DELETE"}, {"headers": "x-forwarded-for"}], ids=["method", "header"])
def test_a_page_that_asks_for_more_than_is_allowed_is_refused(page: httpx.Client, asked: dict[str, str]) -> None:
    assert preflight(page, APP, **asked).status_code == 400


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/notify", {}, notification(), 401),
        ("/notify", bearer("nobody", scopes=[]), notification(), 403),
        ("/nothing", {}, None, 404),
        ("/ws", {}, None, 405),
        ("/notify", bearer("large"), notification(body="x" * 70_000), 413),
        ("/notify", bearer("media") | {"Content-Type": "text/plain"}, notification(), 415),
        ("/notify", bearer("invalid"), {}, 422),
    ],
)
def test_an_error_carries_cors_headers(
    page: httpx.Client, path: str, headers: dict[str, str], body: Any, status: int
) -> None:
    answer = page.post(path, json=body, headers={"Origin": APP} | headers)

    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == APP
    assert names(answer.headers["access-control-expose-headers"]) == EXPOSED_HEADERS


def test_an_answer_over_the_limit_carries_cors_headers(page: httpx.Client) -> None:
    headers = bearer("eager") | {"Origin": APP}
    answers = [page.post("/notify", json=notification(), headers=headers) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    assert answers[-1].headers["access-control-allow-origin"] == APP


async def test_an_answer_over_the_limit_of_the_address_carries_cors_headers() -> None:
    app = create_app(settings_of(http={"allowed_origins": [APP]}, limits={"address": "1/day"}))
    first, second = [await ask(app, "/nothing", APP) for _ in range(2)]

    assert (first.status_code, second.status_code) == (404, 429)
    assert second.headers["access-control-allow-origin"] == APP


async def test_a_failure_of_ours_is_a_problem_with_cors_headers_that_says_nothing_of_its_cause() -> None:
    app = create_app(settings_of(http={"allowed_origins": [APP]}))

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError("the cause")

    answer = await ask(app, "/fails", APP)

    assert answer.status_code == 500
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "internal_error"
    assert answer.headers["x-request-id"]
    assert "the cause" not in answer.text


@pytest.mark.parametrize("origin", ["https://any.example", "null"])
async def test_the_insecure_mode_may_let_every_page_in(origin: str) -> None:
    answer = await ask(create_app(settings_of(http={"allowed_origins": ["*"]})), "/nothing", origin)

    assert answer.headers["access-control-allow-origin"] in (origin, "*")


def settings_of(**groups: Any) -> Settings:
    return Settings.model_validate({"insecure": True, **groups})


async def ask(app: FastAPI, path: str, origin: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        return await client.get(path, headers={"Origin": origin})


# -- without a list --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_without_a_list_no_foreign_page_may_read_or_ask(replica: Replica, origin: str) -> None:
    answer = httpx.get(f"{replica.url}/ws", headers={"Origin": origin})
    with httpx.Client(base_url=replica.url, verify=False) as page:
        asked = preflight(page, origin)

    assert "access-control-allow-origin" not in answer.headers
    assert "access-control-allow-origin" not in asked.headers
    assert not asked.is_success


def test_without_a_list_a_page_of_the_same_origin_may_send(replica: Replica) -> None:
    answer = httpx.post(f"{replica.url}/notify", json=notification(), headers=bearer() | {"Origin": replica.url})

    assert answer.status_code == 202
