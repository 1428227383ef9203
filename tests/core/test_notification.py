"""Sealing: the final bytes of a notification, its id, its times and its digests."""

import json
import re
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifier.core.audience import EVERYONE
from notifier.core.errors import TooLarge
from notifier.core.identity import Tenant
from notifier.core.notification import SEALED_LIMIT_BYTES, IdempotencyKey, Notification, new_id, new_ids, rfc3339, seal
from tests.core.builders import ACME, OTHER, audience, notification, role, topic, user

NOON_MS = 1_763_683_200_123  # 2025-11-21T00:00:00.123Z
KEY = IdempotencyKey("issuer", "caller", "key")
BARE = Notification(ACME, audience(user("alice")), "greeting")
FULL = Notification(
    ACME,
    audience(user("alice"), topic("orders"), exclude=[user("bob")]),
    "order.shipped",
    title="Order shipped",
    body="On its way",
    link="/orders/1234",
    data={"order": 1234, "lines": [{"b": 1, "a": 2}]},
    ttl_seconds=3600,
    collapse_key="order-1234",
)


def sealed_fields(request: Notification) -> Any:
    return json.loads(seal(request, accepted_at_ms=NOON_MS).sealed)


def key_digest(request: Notification = FULL, key: IdempotencyKey = KEY) -> bytes | None:
    return seal(request, accepted_at_ms=NOON_MS, key=key).key_digest


def content_digest(request: Notification, *, at_ms: int = NOON_MS) -> bytes | None:
    return seal(request, accepted_at_ms=at_ms, key=KEY).content_digest


def test_every_field_is_sealed_as_it_came() -> None:
    envelope = seal(FULL, accepted_at_ms=NOON_MS)

    assert json.loads(envelope.sealed) == {
        "id": envelope.id,
        "type": "order.shipped",
        "title": "Order shipped",
        "body": "On its way",
        "link": "/orders/1234",
        "data": {"order": 1234, "lines": [{"b": 1, "a": 2}]},
        "created_at": "2025-11-21T00:00:00.123Z",
        "expires_at": "2025-11-21T01:00:00.123Z",
        "collapse_key": "order-1234",
    }


def test_fields_that_were_not_given_are_absent() -> None:
    assert sealed_fields(BARE).keys() == {"id", "type", "created_at", "expires_at"}


def test_empty_fields_that_were_given_are_present() -> None:
    fields = sealed_fields(BARE._replace(title="", body="", data={}))

    assert (fields["title"], fields["body"], fields["data"]) == ("", "", {})


def test_live_only_has_no_expiry_to_tell() -> None:
    request = BARE._replace(ttl_seconds=0)

    assert "expires_at" not in sealed_fields(request)
    assert seal(request, accepted_at_ms=NOON_MS).live_only


def test_the_envelope_carries_what_delivery_needs() -> None:
    envelope = seal(FULL, accepted_at_ms=NOON_MS)

    assert (envelope.tenant, envelope.audience, envelope.collapse_key) == (ACME, FULL.audience, "order-1234")
    assert (envelope.accepted_at_ms, envelope.expires_at_ms) == (NOON_MS, NOON_MS + 3_600_000)
    assert not envelope.live_only
    assert (envelope.key_digest, envelope.content_digest) == (None, None)


def test_topics_are_disclosed_where_the_audience_is_topics_alone() -> None:
    assert sealed_fields(BARE._replace(audience=audience(topic("a"), topic("b"))))["topics"] == ["a", "b"]


@pytest.mark.parametrize("other", [user("alice"), role("admin"), EVERYONE])
def test_nothing_of_another_audience_is_disclosed(other: Any) -> None:
    request = BARE._replace(audience=audience(topic("secret-t"), other, exclude=[user("secret-u"), role("secret-r")]))

    assert b"secret" not in seal(request, accepted_at_ms=NOON_MS).sealed
    assert "topics" not in sealed_fields(request)


def test_text_is_utf_8_and_not_escaped() -> None:
    assert "Grüße 🎉".encode() in seal(BARE._replace(title="Grüße 🎉"), accepted_at_ms=NOON_MS).sealed


def test_integers_of_any_size_are_sealed_unchanged() -> None:
    assert sealed_fields(BARE._replace(data={"n": 2**200}))["data"] == {"n": 2**200}


def test_the_limit_is_on_the_bytes_of_the_sealed_form() -> None:
    room = SEALED_LIMIT_BYTES - len(seal(BARE._replace(body=""), accepted_at_ms=NOON_MS).sealed)

    assert len(seal(BARE._replace(body="x" * room), accepted_at_ms=NOON_MS).sealed) == SEALED_LIMIT_BYTES
    for over in ("x" * (room + 1), "é" * (room // 2 + 1)):
        with pytest.raises(TooLarge) as refused:
            seal(BARE._replace(body=over), accepted_at_ms=NOON_MS)
        assert refused.value.code == "sealed_too_large"


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**47))
def test_an_id_is_a_uuid_7_that_holds_its_time(now_ms: int) -> None:
    made = new_id(now_ms)

    parsed = uuid.UUID(made)
    assert str(parsed) == made
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == now_ms


def test_ids_of_one_millisecond_differ_in_every_random_bit() -> None:
    values = [uuid.UUID(new_id(NOON_MS)).int for _ in range(2_000)]

    assert len(set(values)) == 2_000
    ever_set = ever_clear = 0
    for value in values:
        ever_set |= value
        ever_clear |= ~value
    random_bits = (0xFFF << 64) | (1 << 62) - 1
    assert ever_set & ever_clear & (1 << 80) - 1 == random_bits


def test_ids_that_are_made_together_are_in_order() -> None:
    values = new_ids(NOON_MS, 2_000)

    assert values == sorted(set(values))
    assert {uuid.UUID(value).version for value in values} == {7}


def test_counting_never_runs_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.urandom", lambda size: b"\xff" * size)

    assert new_ids(NOON_MS, 2) == ["019aa3b5-ec7b-7fff-bfff-fffffffffffe", "019aa3b5-ec7b-7fff-bfff-ffffffffffff"]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 4_102_444_800_000))
def test_times_are_rfc_3339_in_utc_with_exact_milliseconds(unix_ms: int) -> None:
    text = rfc3339(unix_ms)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1) == unix_ms


def test_digests_are_16_bytes() -> None:
    assert [len(key_digest() or b""), len(content_digest(FULL) or b"")] == [16, 16]


@pytest.mark.parametrize(
    "other",
    [
        key_digest(FULL._replace(tenant=OTHER)),
        key_digest(key=replace(KEY, issuer="other")),
        key_digest(key=replace(KEY, caller="other")),
        key_digest(key=replace(KEY, value="other")),
        key_digest(key=IdempotencyKey("issuerc", "aller", "key")),
        key_digest(key=IdempotencyKey("issuer", "callerk", "ey")),
        key_digest(FULL._replace(tenant=Tenant("acmei")), IdempotencyKey("ssuer", "caller", "key")),
        key_digest(key=IdempotencyKey("issuer", "", "6:callerkey")),
    ],
)
def test_a_key_is_another_for_each_tenant_issuer_caller_and_value(other: bytes) -> None:
    assert other != key_digest()


def test_a_key_is_the_same_whatever_the_content_and_time() -> None:
    assert seal(BARE, accepted_at_ms=NOON_MS + 5, key=KEY).key_digest == key_digest()


def test_content_digests_do_not_depend_on_the_order_of_names_or_addresses_or_on_time() -> None:
    turned = FULL._replace(
        data={"lines": [{"a": 2, "b": 1}], "order": 1234},
        audience=audience(topic("orders"), user("alice"), exclude=[user("bob")]),
    )

    assert content_digest(turned, at_ms=NOON_MS + 99) == content_digest(FULL)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "other"},
        {"title": "other"},
        {"title": None},
        {"body": "other"},
        {"link": None},
        {"data": {"order": 1235}},
        {"data": {"order": "1234", "lines": [{"b": 1, "a": 2}]}},
        {"data": None},
        {"ttl_seconds": 60},
        {"collapse_key": None},
        {"audience": audience(user("alice"), topic("orders"))},
        {"audience": audience(user("alice"), topic("orders"), user("bob"))},
    ],
    ids=str,
)
def test_other_content_has_another_digest(change: dict[str, Any]) -> None:
    assert content_digest(FULL._replace(**change)) != content_digest(FULL)


def test_moving_text_between_fields_is_other_content() -> None:
    assert content_digest(notification(title="x")) != content_digest(notification(title=None)._replace(body="x"))
