"""Checks of `POST /notify` and `POST /notify/batch`."""

import re
from typing import Final

from notifier.clients.conform.check import Check, expect, is_moment, rule, same
from notifier.clients.conform.entering import expect_unauthenticated
from notifier.clients.conform.open_session import session
from notifier.clients.conform.target import Target, ask, expect_problem, mark, notification, send, sender

_UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
USER: Final = "conform-nobody"


@rule("RFC 9562, 5.7; openapi/openapi.json")
async def notify(target: Target) -> None:
    """A notification is answered with 202, a UUIDv7 as its id, its tenant, and when it was accepted."""
    answer = await ask(target, "POST", "/notify", token=sender(target), content=notification(USER, "One"))
    expect(answer.status == 202, "202", answer)
    accepted = answer.json()
    expect(_UUID7.fullmatch(str(accepted.get("id"))), "a UUIDv7 as id", answer)
    same("status", accepted.get("status"), "queued")
    expect(is_moment(accepted.get("accepted_at")) and accepted.get("tenant"), "accepted_at and tenant", answer)


@rule("openapi/openapi.json")
async def idempotency_key(target: Target) -> None:
    """A repeat with its Idempotency-Key has the id of the first and Idempotent-Replayed, and is delivered once."""
    key = {"Idempotency-Key": mark()}
    async with session(target) as opened:
        body = notification(opened.welcome["user"], "Once")
        first, again = [
            await ask(target, "POST", "/notify", token=sender(target), headers=key, content=body) for _ in range(2)
        ]
        expect(first.status == again.status == 202, "202 and 202", f"{first}; {again}")
        same("id of the repeat", again.json().get("id"), first.json().get("id"))
        same("Idempotent-Replayed", again.headers.get("idempotent-replayed"), "true")
        behind = await send(target, opened.welcome["user"], "Behind")
        heard = [frame["notification"]["id"] for frame in await opened.notifications([behind])]
        same("delivered", heard, [first.json()["id"], behind])


@rule("openapi/openapi.json")
async def idempotency_key_of_another(target: Target) -> None:
    """An Idempotency-Key that comes again with other content is refused with 422."""
    key = {"Idempotency-Key": mark()}
    await ask(target, "POST", "/notify", token=sender(target), headers=key, content=notification(USER, "One"))
    other = await ask(target, "POST", "/notify", token=sender(target), headers=key, content=notification(USER, "Two"))
    expect_problem(other, 422, "idempotency_key_reused")


@rule("openapi/openapi.json")
async def batch(target: Target) -> None:
    """A batch that is accepted whole is answered with 202, and an outcome for each item in their order."""
    items = [notification(USER, title) for title in ("One", "Two")]
    answer = await ask(target, "POST", "/notify/batch", token=sender(target), content=items)
    expect(answer.status == 202, "202", answer)
    results = answer.json().get("results", [])
    same("index and status", [(each.get("index"), each.get("status")) for each in results], [(0, 202), (1, 202)])


@rule("RFC 4918, 11.1; openapi/openapi.json")
async def batch_with_a_bad_item(target: Target) -> None:
    """A batch with a bad item is answered with 207; the others are accepted."""
    items = [notification(USER, "One"), {"to": {"users": [USER]}}]
    answer = await ask(target, "POST", "/notify/batch", token=sender(target), content=items)
    expect(answer.status == 207, "207", answer)
    results = answer.json().get("results", [])
    same("statuses", [each.get("status") for each in results], [202, 422])
    expect("code" in results[1].get("problem", {}), "a problem with a code for the bad one", answer)


@rule("CloudEvents 1.0, JSON format; openapi/openapi.json")
async def cloud_event(target: Target) -> None:
    """A CloudEvent is a notification in its data; one with the same source and id is a repeat."""
    event = {
        "specversion": "1.0",
        "source": "/conform",
        "id": mark(),
        "type": "conform.check",
        "data": notification(USER, "In an event"),
    }
    headers = {"Content-Type": "application/cloudevents+json"}
    first, again = [
        await ask(target, "POST", "/notify", token=sender(target), headers=headers, content=event) for _ in range(2)
    ]
    expect(first.status == again.status == 202, "202 and 202", f"{first}; {again}")
    same("id of the repeat", again.json().get("id"), first.json().get("id"))


@rule("RFC 9457; openapi/openapi.json")
async def unknown_member(target: Target) -> None:
    """A request with a member that nobody knows is refused with 422, and a pointer to it."""
    body = notification(USER, "One", conform_unknown=True)
    problem = expect_problem(await ask(target, "POST", "/notify", token=sender(target), content=body), 422)
    pointers = [each.get("pointer") for each in problem.get("errors", [])]
    expect("/conform_unknown" in pointers, "the pointer /conform_unknown in errors", problem)


@rule("RFC 9457; openapi/openapi.json")
async def malformed_body(target: Target) -> None:
    """A body that is no JSON is refused with 400 and a problem."""
    expect_problem(await ask(target, "POST", "/notify", token=sender(target), content="{"), 400)


@rule("RFC 9110, 15.5.16; openapi/openapi.json")
async def media_type(target: Target) -> None:
    """A body of another media type is refused with 415."""
    headers = {"Content-Type": "text/plain"}
    answer = await ask(target, "POST", "/notify", token=sender(target), headers=headers, content="{}")
    expect_problem(answer, 415)


@rule("RFC 6750, 3; openapi/openapi.json")
async def sending_without_a_token(target: Target) -> None:
    """Who sends without a token is refused with 401 and WWW-Authenticate."""
    expect_unauthenticated(await ask(target, "POST", "/notify", content=notification(USER, "One")))


@rule("RFC 9110, 15.5.6")
async def wrong_method(target: Target) -> None:
    """Another method is refused with 405 and Allow."""
    answer = await ask(target, "GET", "/notify", token=target.token)
    expect_problem(answer, 405)
    expect("POST" in answer.headers.get("allow", ""), "Allow: POST", answer.headers.get("allow", "none"))


CHECKS: Final[tuple[Check, ...]] = (
    notify,
    idempotency_key,
    idempotency_key_of_another,
    batch,
    batch_with_a_bad_item,
    cloud_event,
    unknown_member,
    malformed_body,
    media_type,
    sending_without_a_token,
    wrong_method,
)
