"""How often callers may call: every route, per caller, and by no header of theirs.

The limits are per day, so that no test runs over the edge of a window.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import WebSocketRoute

from notifier.app import create_app
from notifier.settings import Settings
from tests.ingress.builders import notification
from tests.replica import Replica
from tests.tokens import bearer

LIMIT = 3
Fresh = Callable[[], dict[str, str]]
FORWARDED = [
    {"X-Forwarded-For": "203.0.113.{}"},
    {"X_FORWARDED_FOR": "203.0.113.{}"},
    {"X-Forwarded-For": "127.0.0.1, 203.0.113.{}"},
    {"Forwarded": "for=203.0.113.{}"},
    {"X-Real-IP": "203.0.113.{}"},
    {"True-Client-IP": "203.0.113.{}"},
    {"X-Client-IP": "203.0.113.{}"},
    {"Host": "host-{}.example"},
    {"X-Forwarded-Host": "host-{}.example", "X-Forwarded-Proto": "https"},
    {"User-Agent": "agent-{}"},
    {"Authorization": "Bearer {}"},
]


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A replica behind a proxy, which is this machine. Each test takes addresses and callers of its own."""
    settings = {
        "NOTIFIER_HTTP__TRUSTED_PROXIES": "127.0.0.1",
        "NOTIFIER_HTTP__OPENAPI": "true",
        "NOTIFIER_LIMITS__ADDRESS": f"{LIMIT}/day",
        "NOTIFIER_LIMITS__SEND": f"{LIMIT}/day",
        "NOTIFIER_LIMITS__BATCH": "10/day",
        "NOTIFIER_LIMITS__BROADCAST": f"{LIMIT}/day",
    }
    replica = Replica(tmp_path_factory.mktemp("limits") / "replica.log", settings)
    yield replica
    replica.stop()


@pytest.fixture(scope="module")
def proxy(replica: Replica) -> Iterator[httpx.Client]:
    """The proxy in front of the replica."""
    with httpx.Client(base_url=replica.url, verify=False) as client:
        yield client


@pytest.fixture(scope="module")
def fresh_address() -> Callable[[], dict[str, str]]:
    """A function that makes the header of somebody at an address of their own."""
    numbers = itertools.count()
    return lambda: {"X-Forwarded-For": f"2001:db8:0:{next(numbers):x}::1"}


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Every HTTP route with each of its methods, also those of included routers; and what is no route."""
    found = [
        (method, context.path or "")
        for context in iter_route_contexts(app.routes)
        if not isinstance(context.original_route, WebSocketRoute)
        for method in sorted(getattr(context, "methods", None) or ["GET"])
    ]
    return [*found, ("GET", "/no/such/path"), ("PUT", "/notify"), ("HEAD", "/ws"), ("OPTIONS", "/notify")]


def assert_is_over(answer: httpx.Response, policy: str, quota: int) -> None:
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers.get_list("ratelimit-policy") == [f'"{policy}";q={quota};w=86400']
    assert answer.headers["ratelimit"].startswith(f'"{policy}";r=0;t=')
    if answer.request.method != "HEAD":
        assert answer.json()["code"] == "rate_limited"


def head_of(proxy: httpx.Client, method: str, path: str, headers: Mapping[str, str]) -> httpx.Response:
    """An answer, without the body that a stream has no end of; a refusal is read."""
    with proxy.stream(method, path, headers=headers, json=body_for(path)) as answer:
        if answer.status_code == 429:
            answer.read()
    return answer


def body_for(path: str) -> Any:
    return [notification()] if path == "/notify/batch" else notification()


# -- every route -----------------------------------------------------------------------------------------------------


def test_the_walk_over_the_routes_finds_all_doors() -> None:
    """T-42: else the next tests would prove nothing."""
    app = create_app(Settings.model_validate({"insecure": True, "http": {"openapi": True}}))

    walked = routes_of(app)

    doors = {("POST", "/notify"), ("POST", "/notify/batch"), ("POST", "/ticket"), ("GET", "/ws"), ("GET", "/events")}
    assert doors | {("GET", "/openapi.json")} <= set(walked)


def test_every_route_of_a_replica_is_limited_by_address(proxy: httpx.Client, fresh_address: Fresh) -> None:
    """Checklist 2.4."""
    app = create_app(Settings.model_validate({"insecure": True, "http": {"openapi": True}}))

    for number, (method, path) in enumerate(routes_of(app)):
        headers = bearer(f"walker-{number}") | fresh_address()
        answers = [head_of(proxy, method, path, headers) for _ in range(LIMIT + 1)]

        assert all(answer.status_code != 429 for answer in answers[:LIMIT]), (method, path)
        assert_is_over(answers[LIMIT], "address", LIMIT)


async def test_a_route_that_is_added_or_included_later_is_limited_as_well() -> None:
    """Checklist 2.3."""
    settings = {"insecure": True, "limits": {"address": f"{LIMIT}/day"}}
    app = create_app(Settings.model_validate(settings))
    before = set(routes_of(app))
    inner, outer = APIRouter(prefix="/inner"), APIRouter(prefix="/outer")
    for at in (inner, outer, app):
        at.add_api_route("/added", lambda: "here", methods=["GET", "POST"])
    outer.include_router(inner)
    app.include_router(outer)

    added = set(routes_of(app)) - before
    refused = [await answers_of(app, f"10.0.0.{number}", *route) for number, route in enumerate(sorted(added))]

    assert {path for _, path in added} == {"/added", "/outer/added", "/outer/inner/added"}
    assert refused == [[200] * LIMIT + [429]] * 6


async def answers_of(app: FastAPI, address: str, method: str, path: str) -> list[int]:
    transport = httpx.ASGITransport(app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        return [(await client.request(method, path)).status_code for _ in range(LIMIT + 1)]


# -- per caller ------------------------------------------------------------------------------------------------------


def test_sending_is_limited_per_caller(proxy: httpx.Client, fresh_address: Fresh) -> None:
    """Checklist 3.3.23."""

    def send(**claims: Any) -> httpx.Response:
        return proxy.post("/notify", json=notification(), headers=bearer(**claims) | fresh_address())

    answers = [send(user="one") for _ in range(4)]
    others = [send(user="two"), send(user="one", tenant="other")]

    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    assert [answer.headers["ratelimit"][:10] for answer in answers[:3]] == ['"send";r=2', '"send";r=1', '"send";r=0']
    assert_is_over(answers[3], "send", LIMIT)
    assert [answer.status_code for answer in others] == [202, 202]


def test_a_fresh_token_of_the_same_caller_brings_no_fresh_allowance(proxy: httpx.Client, fresh_address: Fresh) -> None:
    tokens = [bearer("renewing", lifetime_seconds=life) for life in (60, 600, 700, 800)]
    statuses = [
        proxy.post("/notify", json=notification(), headers=each | fresh_address()).status_code for each in tokens
    ]

    assert statuses == [202, 202, 202, 429]


def test_a_batch_costs_an_allowance_per_item(proxy: httpx.Client, fresh_address: Fresh) -> None:
    def post(path: str, body: Any) -> httpx.Response:
        return proxy.post(path, json=body, headers=bearer("batcher") | fresh_address())

    taken, over, rest, last = [post("/notify/batch", [notification()] * count) for count in (7, 4, 3, 1)]
    alone = post("/notify", notification())

    assert [taken.status_code, rest.status_code, alone.status_code] == [202, 202, 202]
    assert over.status_code == 429
    assert over.headers["ratelimit"].startswith('"batch";r=3;t=')
    assert_is_over(last, "batch", 10)


def test_broadcasts_have_an_allowance_of_their_own_through_either_door(
    proxy: httpx.Client, fresh_address: Fresh
) -> None:
    def post(path: str, body: Any) -> httpx.Response:
        return proxy.post(path, json=body, headers=bearer("announcer") | fresh_address())

    everyone = notification(to={"everyone": True})
    first, batch = post("/notify", everyone), post("/notify/batch", [everyone, notification(), everyone])
    over = [post("/notify", everyone), post("/notify/batch", [notification(), everyone])]
    alone = post("/notify", notification())

    assert [first.status_code, batch.status_code, alone.status_code] == [202, 202, 202]
    for answer in over:
        assert_is_over(answer, "broadcast", LIMIT)


def test_no_header_moves_the_key_of_a_caller(proxy: httpx.Client, fresh_address: Fresh) -> None:
    """Checklist 2.4."""

    def send(more: dict[str, str]) -> int:
        headers = fresh_address() | more | bearer("mover")
        return proxy.post("/notify", json=notification(), headers=headers).status_code

    within = [send({}) for _ in range(LIMIT)]
    over = [send(addressed(each, 1)) for each in FORWARDED]

    assert within == [202] * LIMIT
    assert over == [429] * len(FORWARDED)


# -- whose address ---------------------------------------------------------------------------------------------------


def addressed(template: Mapping[str, str], number: int) -> dict[str, str]:
    return {name: value.format(number) for name, value in template.items()}


@pytest.mark.parametrize("trusted", ["", "192.0.2.1"], ids=["no proxy", "another proxy"])
def test_without_a_proxy_that_is_trusted_no_header_moves_the_key_of_an_address(
    start_replica: Callable[..., Replica], trusted: str
) -> None:
    quota = len(FORWARDED)
    replica = start_replica(LIMITS__ADDRESS=f"{quota}/day", HTTP__TRUSTED_PROXIES=trusted)
    with httpx.Client(base_url=replica.url, verify=False) as client:
        within = [client.get("/nothing", headers=addressed(each, 1)).status_code for each in FORWARDED]
        over = [client.get("/nothing", headers=addressed(each, 2)).status_code for each in FORWARDED]

    assert within == [404] * quota
    assert over == [429] * quota


@pytest.mark.parametrize(
    "before_and_after",
    [
        pytest.param(["X-Forwarded-For: 198.51.100.{}, {address}"], id="left of it"),
        pytest.param(["X-Forwarded-For: {}, {address}, 127.0.0.1"], id="a trusted one behind it"),
        pytest.param(["X-Forwarded-For: 198.51.100.{}", "X-Forwarded-For: {address}"], id="a header before it"),
        pytest.param(["X-Forwarded-For: {address}", "X_Forwarded_For: 198.51.100.{}"], id="underscores"),
        pytest.param(["X-Forwarded-For: {address}", "Forwarded: for=198.51.100.{}"], id="the other header"),
        pytest.param(["X-Forwarded-For: {address}", "X-Real-IP: 198.51.100.{}"], id="the real address"),
    ],
)
def test_behind_a_trusted_proxy_the_rightmost_untrusted_address_is_the_key(
    proxy: httpx.Client, fresh_address: Fresh, before_and_after: list[str]
) -> None:
    """Checklist 3.3.25."""
    address = fresh_address()["X-Forwarded-For"]
    statuses: list[int] = []
    for number in range(LIMIT + 1):
        lines = [line.format(number, address=address).split(": ", 1) for line in before_and_after]
        statuses.append(proxy.get("/nothing", headers=[(name, value) for name, value in lines]).status_code)
    beside = proxy.get("/nothing", headers={"X-Forwarded-For": f"{address}, {fresh_address()['X-Forwarded-For']}"})

    assert statuses == [404] * LIMIT + [429]
    assert beside.status_code == 404
