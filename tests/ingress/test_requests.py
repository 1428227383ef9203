"""What a message of the request queue asks for."""

import json
from typing import Any

import pytest
from aio_pika import IncomingMessage
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from notifier.broker.lenient import UNDECODABLE
from notifier.core.errors import BadRequest, Forbidden, InvalidNotification, NotifierError, TooLarge
from notifier.core.notification import IdempotencyKey
from notifier.core.pipeline import Request
from notifier.ingress.requests import Taken, read_message
from tests.ingress.builders import event, notification


def message(body: object = None, *, key: str = "default.send", **properties: Any) -> IncomingMessage:
    """A message as it is delivered, with an id unless the properties say otherwise."""
    raw = body if isinstance(body, bytes) else json.dumps(notification() if body is None else body).encode()
    header = ContentHeader(0, len(raw), Basic.Properties(**{"message_id": "m", **properties}))
    # Without a channel: nothing of this is acknowledged.
    return IncomingMessage(DeliveredMessage(Basic.Deliver("c", 1, False, "e", key), header, raw, None), no_ack=True)  # type: ignore[arg-type]


def read(body: object = None, *, require_message_id: bool = True, **properties: Any) -> list[Request]:
    return read_message(message(body, **properties), require_message_id=require_message_id)


def refusal(body: object = None, **properties: Any) -> NotifierError:
    with pytest.raises(NotifierError) as refused:
        read(body, **properties)
    return refused.value


def test_one_notification_has_the_message_id_as_its_key() -> None:
    (request,) = read(notification("alice"))

    assert request.notification.tenant == "default"
    assert request.key == IdempotencyKey("amqp", "default amqp", "m")


def test_items_of_an_array_have_the_message_id_and_their_index_as_their_keys() -> None:
    requests = read([notification(title="a"), notification(title="b")], key="acme.send", user_id="shop")

    assert [request.notification.title for request in requests] == ["a", "b"]
    assert [request.key for request in requests] == [
        IdempotencyKey("amqp", "acme shop", "m/0"),
        IdempotencyKey("amqp", "acme shop", "m/1"),
    ]


def test_an_event_brings_its_key_and_needs_no_message_id() -> None:
    (alone,) = read(event(id="7"), content_type="application/cloudevents+json", message_id=None)
    (of_a_batch,) = read([event(id="7")], content_type="application/cloudevents-batch+json", message_id="m")

    assert alone.key == of_a_batch.key == IdempotencyKey("amqp", "default amqp", "cloudevent /test 7")


@pytest.mark.parametrize("missing", [None, ""])
def test_a_message_id_is_required_unless_the_setting_says_otherwise(missing: str | None) -> None:
    loosened = read([notification(), notification()], message_id=missing, require_message_id=False)

    assert [request.key for request in loosened] == [None, None]
    assert refusal(message_id=missing).code == "message_id_missing"


@pytest.mark.parametrize("wrong", ["a\nb", "\x00", "\u200b", "x" * 256])
def test_a_message_id_is_held_to_the_rules_of_a_key(wrong: str) -> None:
    assert refusal(message_id=wrong).code == "message_id_invalid"


@pytest.mark.parametrize("key", ["t.send", "T_e-n4nt.send", "x" * 64 + ".send", "t.broadcast"])
def test_a_routing_key_names_the_tenant(key: str) -> None:
    (request,) = read(key=key)

    assert request.notification.tenant == key.partition(".")[0]


@pytest.mark.parametrize(
    "key",
    ["", "send", ".send", "t.", "t.sends", "t.SEND", "a.b.send", "x" * 65 + ".send", "t.send\n", "ü.send", "*.send"],
)
def test_other_routing_keys_are_refused(key: str) -> None:
    error = refusal(key=key)

    assert (type(error), error.code) == (BadRequest, "routing_key_invalid")


def test_everyone_is_for_broadcast_alone() -> None:
    everyone = notification(to={"everyone": True})

    assert read(everyone, key="t.broadcast")[0].notification.audience.everyone
    assert isinstance(refusal(everyone, key="t.send"), Forbidden)


def test_another_tenant_is_out_of_reach() -> None:
    same, other = ({"users": ["a"], "tenant": tenant} for tenant in ("t", "other"))

    assert read(notification(to=same), key="t.send")[0].notification.tenant == "t"
    assert refusal(notification(to=other), key="t.send").code == "tenant_forbidden"


@pytest.mark.parametrize("media", [None, "application/json", "Application/JSON; charset=utf-8", "application/x+json"])
@pytest.mark.parametrize("encoding", [None, "identity", "UTF-8"])
def test_json_may_be_called_json_or_nothing(media: str | None, encoding: str | None) -> None:
    assert read(content_type=media, content_encoding=encoding)


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"content_type": "text/plain"}, "unsupported_media_type"),
        ({"content_encoding": "gzip"}, "unsupported_content_encoding"),
    ],
)
def test_anything_else_is_not_guessed(properties: dict[str, str], code: str) -> None:
    assert refusal(**properties).code == code


def test_properties_that_could_not_be_decoded_are_named() -> None:
    error = refusal(headers={UNDECODABLE: "timestamp: year 58851 is out of range"})

    assert (error.code, "timestamp: year 58851" in error.detail) == ("properties_undecodable", True)


@pytest.mark.parametrize(
    ("item", "pointer", "code"),
    [
        (notification(title=5), "/1/title", "wrong_type"),
        ("no object", "/1", "wrong_type"),
        (notification(to={"users": ["a"], "tenant": "other"}), "/1", "tenant_forbidden"),
    ],
)
def test_a_bad_item_is_pointed_out(item: object, pointer: str, code: str) -> None:
    error = refusal([notification(), item, notification()])

    assert isinstance(error, InvalidNotification)
    assert [(each.pointer, each.code) for each in error.violations] == [(pointer, code)]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (json.dumps(notification()).encode() + b" " * 65_536, "request_too_large"),
        (b"[" + b" " * 4_194_304 + b"]", "request_too_large"),
        ([notification()] * 1_001, "batch_too_large"),
    ],
)
def test_sizes_are_those_of_the_other_doors(body: object, code: str) -> None:
    error = refusal(body)

    assert (type(error), error.code) == (TooLarge, code)


def test_an_array_may_be_longer_than_a_request() -> None:
    item = notification(body="x" * 40_000)

    assert len(read([item] * 3)) == 3


@pytest.mark.parametrize(("body", "is_array"), [(b" \n[1]", True), (b"{}", False), (b"", False)])
def test_an_array_is_known_by_its_bracket(body: bytes, is_array: bool) -> None:
    assert Taken(message(body)).is_array == is_array
