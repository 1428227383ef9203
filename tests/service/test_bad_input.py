"""What cannot be accepted is answered with a problem, and does the service no harm."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.ingress.builders import notification
from tests.replica import Replica
from tests.service.client import DEADLINE_SECONDS, session
from tests.tokens import bearer, token

GOOD = json.dumps(notification()).encode()
JSON = {"Content-Type": "application/json"}
PROBLEM_MEDIA_TYPE = "application/problem+json"


def with_data(raw: str) -> bytes:
    """A good request whose data holds this text as it stands."""
    return GOOD[:-1] + b',"data":{"value":' + raw.encode() + b"}}"


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 16_384):
        yield body[start : start + 16_384]


async def raw_answer(replica: Replica, request: bytes) -> httpx.Response:
    """Send bytes as they are, leave the connection open, and read one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    try:
        writer.write(request)
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, *lines = head.strip().split("\r\n")
            headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
            body = await reader.readexactly(int(dict(headers)["content-length"]))
        return httpx.Response(int(status.split(" ")[1]), headers=headers, content=body)
    finally:
        writer.close()


def head(*lines: str, path: str = "/notify") -> bytes:
    authorization = f"Authorization: {bearer()['Authorization']}"
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", authorization, *lines, "", ""]).encode()


# -- problems --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status", "code"),
    [
        ("POST", "/notify", JSON, b"{", 400, "not_json"),
        ("POST", "/notify", {"Authorization": ""}, GOOD, 401, "token_missing"),
        ("POST", "/notify", {"Authorization": "Basic eDp5"}, GOOD, 401, "token_missing"),
        ("POST", "/notify", {"Authorization": "Bearer x"}, GOOD, 401, "token_invalid"),
        ("POST", "/notify", {"Authorization": b"Bearer \xe9.\xe9.\xe9"}, GOOD, 401, "token_invalid"),
        ("POST", "/notify", bearer(lifetime_seconds=-60), GOOD, 401, "token_expired"),
        ("POST", "/notify", bearer(scopes=[]), GOOD, 403, "insufficient_scope"),
        ("GET", "/nothing/h\u00e9re", {}, b"", 404, "not_found"),
        ("POST", "/notify/", JSON, GOOD, 404, "not_found"),
        ("GET", "/notify", {}, b"", 405, "method_not_allowed"),
        ("DELETE", "/notify/batch", {}, b"", 405, "method_not_allowed"),
        ("POST", "/notify", JSON, b" " * 70_000, 413, "request_too_large"),
        ("POST", "/notify", {"Content-Type": "text/plain"}, GOOD, 415, "unsupported_media_type"),
        ("POST", "/notify", JSON, b"{}", 422, "invalid_notification"),
        ("GET", "/ws", {}, b"", 426, "upgrade_required"),
    ],
)
async def test_a_refusal_is_a_problem(
    backend: httpx.AsyncClient, method: str, path: str, headers: dict[str, Any], content: bytes, status: int, code: str
) -> None:
    answer = await backend.request(method, path, headers=headers, content=content)

    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["content-type"] == PROBLEM_MEDIA_TYPE
    assert problem["type"] == f"urn:notifier:problem:{code}"
    assert problem["instance"] == httpx.URL(f"http://x{path}").raw_path.decode()
    assert problem["title"]
    assert problem["detail"]
    assert ("errors" in problem) == (code == "invalid_notification")
    assert answer.headers["x-request-id"]


async def test_405_says_what_is_allowed(backend: httpx.AsyncClient) -> None:
    allowed = {path: (await backend.put(path)).headers["allow"] for path in ("/notify", "/notify/batch", "/ws")}

    assert allowed == {"/notify": "POST", "/notify/batch": "POST", "/ws": "GET"}


async def test_a_token_that_is_not_accepted_is_told_so_by_its_challenge(backend: httpx.AsyncClient) -> None:
    answer = await backend.post("/notify", json=notification(), headers={"Authorization": f"Bearer {token()}x"})

    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_a_request_without_a_token_is_challenged(backend: httpx.AsyncClient) -> None:
    answer = await backend.post("/notify", json=notification(), headers={"Authorization": ""})

    assert answer.headers["www-authenticate"].startswith("Bearer ")


async def test_426_names_the_protocol(backend: httpx.AsyncClient) -> None:
    answer = await backend.get("/ws")

    assert answer.headers["upgrade"] == "websocket"


# -- the id of a request ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/notify", "/nothing"])
async def test_the_id_of_a_request_is_taken_and_echoed(backend: httpx.AsyncClient, path: str) -> None:
    answer = await backend.post(path, json=notification(), headers={"X-Request-Id": "Trace_1.a-b"})

    assert answer.headers.get_list("x-request-id") == ["Trace_1.a-b"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b', "a,b", "a/b", b"\xe9"], ids=repr)
async def test_an_odd_id_of_a_request_is_replaced(backend: httpx.AsyncClient, given: Any) -> None:
    answer = await backend.post("/notify", json=notification(), headers={"X-Request-Id": given})

    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])


async def test_each_request_gets_an_id_of_its_own(backend: httpx.AsyncClient) -> None:
    ids = {(await backend.get("/nothing")).headers["x-request-id"] for _ in range(3)}

    assert len(ids) == 3


# -- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "pointer", "code"),
    [
        pytest.param(b"", 400, None, "not_json", id="nothing"),
        pytest.param(b"hello", 400, None, "not_json", id="not JSON"),
        pytest.param(GOOD + b"x", 400, None, "not_json", id="more behind it"),
        pytest.param(GOOD[:-1], 400, None, "not_json", id="cut short"),
        pytest.param(b"\xef\xbb\xbf" + GOOD, 400, None, "not_json", id="byte order mark"),
        pytest.param(GOOD.replace(b"Hello", b"H\xff"), 400, None, "not_json", id="not UTF-8"),
        pytest.param(GOOD.decode().encode("utf-16"), 400, None, "not_json", id="UTF-16"),
        pytest.param(b"null", 422, "", "wrong_type", id="null"),
        pytest.param(b"[]", 422, "", "wrong_type", id="array"),
        pytest.param(b'"text"', 422, "", "wrong_type", id="text"),
        pytest.param(b"[" * 1_000 + b"]" * 1_000, 422, None, "too_deep", id="1,000 deep"),
        pytest.param(b'{"a":' * 1_000 + b"1" + b"}" * 1_000, 422, None, "too_deep", id="1,000 objects deep"),
        pytest.param(b"[" * 60_000, 422, None, "too_deep", id="deep and not closed"),
        pytest.param(with_data("[" * 7 + "]" * 7), 422, "/data/value/0/0/0/0/0/0", "too_deep", id="9 deep"),
        pytest.param(with_data("NaN"), 422, "/data/value", "number_not_finite", id="NaN"),
        pytest.param(with_data("[-Infinity]"), 422, "/data/value/0", "number_not_finite", id="-Infinity"),
        pytest.param(with_data("1e400"), 422, "/data/value", "number_not_finite", id="1e400"),
        pytest.param(with_data("9" * 5_000), 422, "/data/value", "number_too_long", id="5,000 digits"),
        pytest.param(GOOD[:-1] + b',"title":"x"}', 422, "", "duplicate_name", id="one name twice"),
        pytest.param(with_data('{"a":1,"a":1}'), 422, "/data/value", "duplicate_name", id="one name twice inside"),
        pytest.param(with_data('"\\ud800"'), 422, "/data/value", "lone_surrogate", id="lone surrogate"),
        pytest.param(with_data('{"\\udfff":1}'), 422, "/data/value", "lone_surrogate", id="lone surrogate as a name"),
        pytest.param(GOOD.replace(b"Hello", b"\\udead"), 422, "/title", "lone_surrogate", id="lone surrogate as title"),
    ],
)
async def test_a_bad_body_is_refused_and_the_next_request_on_the_connection_works(
    backend: httpx.AsyncClient, body: bytes, status: int, pointer: str | None, code: str
) -> None:
    """Checklist 3.3.22."""
    answer = await backend.post("/notify", content=body, headers=JSON)
    after = await backend.post("/notify", json=notification())

    problem = answer.json()
    if status == 400:
        assert (answer.status_code, problem["code"]) == (400, code)
    else:
        errors = [(error["pointer"] if pointer is not None else None, error["code"]) for error in problem["errors"]]
        assert (answer.status_code, errors) == (422, [(pointer, code)])
    assert after.status_code == 202


async def test_eight_levels_are_taken(backend: httpx.AsyncClient) -> None:
    answer = await backend.post("/notify", content=with_data("[" * 6 + "]" * 6), headers=JSON)

    assert answer.status_code == 202


async def test_numbers_of_any_size_pass_unchanged(replica: Replica, backend: httpx.AsyncClient) -> None:
    numbers = [2**53 + 1, -(2**64), int("9" * 4_000), 0, 1.7976931348623157e308, 5e-324]
    async with session(replica.ws_url, "numbers") as client:
        await backend.post("/notify", json=notification("numbers", data={"numbers": numbers}))
        received = await client.notification()

    assert received["data"] == {"numbers": numbers}


@pytest.mark.parametrize(
    "media",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        "application/merge-patch+json",
        "application/vnd.a.b+json;v=1",
    ],
)
async def test_json_by_any_of_its_names_is_taken(backend: httpx.AsyncClient, media: str) -> None:
    answer = await backend.post("/notify", content=GOOD, headers={"Content-Type": media})

    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "unsupported_media_type"),
        ({"Content-Type": "text/json"}, "unsupported_media_type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "unsupported_media_type"),
        ({"Content-Type": "application/x-ndjson"}, "unsupported_media_type"),
        ({"Content-Type": "application/jsonp"}, "unsupported_media_type"),
        (JSON | {"Content-Encoding": "gzip"}, "unsupported_content_encoding"),
        (JSON | {"Content-Encoding": "identity, br"}, "unsupported_content_encoding"),
    ],
)
async def test_another_media_type_or_encoding_is_415_and_the_next_request_works(
    backend: httpx.AsyncClient, headers: dict[str, str], code: str
) -> None:
    """Checklist 3.3.21."""
    answer = await backend.post("/notify", content=GOOD, headers=headers)
    after = await backend.post("/notify", json=notification())

    assert (answer.status_code, answer.json()["code"]) == (415, code)
    assert after.status_code == 202


# -- sizes and pace --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [65_537, 70_000, 1_000_000])
async def test_too_large_a_body_is_413_with_and_without_its_length(backend: httpx.AsyncClient, size: int) -> None:
    """Checklist 3.3.21, 2.3."""
    body = GOOD + b" " * (size - len(GOOD))

    declared = await backend.post("/notify", content=body, headers=JSON)
    chunked = await backend.post("/notify", content=in_pieces(body), headers=JSON)
    after = await backend.post("/notify", json=notification())

    assert (declared.status_code, declared.json()["code"]) == (413, "request_too_large")
    assert (chunked.status_code, chunked.json()["code"]) == (413, "request_too_large")
    assert after.status_code == 202


async def test_a_body_of_exactly_the_limit_is_taken_whole_and_in_pieces(backend: httpx.AsyncClient) -> None:
    body = GOOD + b" " * (65_536 - len(GOOD))

    declared = await backend.post("/notify", content=body, headers=JSON)
    chunked = await backend.post("/notify", content=in_pieces(body), headers=JSON)

    assert (declared.status_code, chunked.status_code) == (202, 202)


async def test_a_sealed_form_over_the_limit_is_413(backend: httpx.AsyncClient) -> None:
    raw = json.dumps(notification(body="x"), separators=(",", ":"))
    body = raw.replace('"body":"x"', '"body":"' + "x" * (65_536 - len(raw)) + '"').encode()

    answer = await backend.post("/notify", content=body, headers=JSON)

    assert len(body) <= 65_536
    assert (answer.status_code, answer.json()["code"]) == (413, "sealed_too_large")


async def test_a_length_over_the_limit_is_refused_before_the_body_comes(replica: Replica) -> None:
    answer = await raw_answer(replica, head("Content-Type: application/json", "Content-Length: 70000"))

    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")


async def test_a_stranger_is_refused_before_the_body_comes(replica: Replica) -> None:
    answer = await raw_answer(replica, b"POST /notify HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")

    assert answer.status_code == 401


async def test_a_body_that_stops_half_way_is_400_after_its_time(start_replica: Any) -> None:
    """Checklist 3.3.27."""
    replica = start_replica(HTTP__BODY_TIMEOUT_SECONDS="0.2")
    framings = [b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"]
    begun = head("Content-Type: application/json")[:-2]

    answers = [await raw_answer(replica, begun + framing) for framing in framings]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(400, "body_timeout")] * 2
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer()) as backend:
        assert (await backend.post("/notify", json=notification())).status_code == 202


async def test_a_client_that_leaves_half_way_is_no_error_of_ours(replica: Replica, backend: httpx.AsyncClient) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    half = head("Content-Type: application/json", "Content-Length: 100", "X-Request-Id: left-half-way") + b"{"
    writer.write(half)
    writer.close()
    await writer.wait_closed()

    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (lines := [line for line in replica.log_lines() if line.get("request_id") == "left-half-way"]):
            await backend.get("/nothing")
    assert [(line["event"], line["status"]) for line in lines] == [("request", 400)]


async def test_nothing_in_this_module_made_the_service_fail(replica: Replica) -> None:
    """Runs last: whatever went before, nothing was logged as an error."""
    assert [line for line in replica.log_lines() if line["level"] in ("error", "critical")] == []
