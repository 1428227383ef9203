"""An event in structured JSON, and the notification in it."""

from typing import Any

import pytest

from notifier.core.envelope import Trace
from notifier.core.errors import InvalidNotification
from notifier.ingress.cloud_events import open_event
from tests.ingress.builders import event, notification


def broken(**changes: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidNotification) as refused:
        open_event(event(**changes))
    return [(violation.pointer, violation.code) for violation in refused.value.violations]


def test_the_data_is_the_notification_and_source_and_id_are_its_key() -> None:
    request, key, trace = open_event(event("alice", source="/shop", id="1", subject="any", rank=3))

    assert (request.to.users, request.title) == (["alice"], "Hello")
    assert key == "cloudevent /shop 1"
    assert trace is None


def test_source_and_id_cannot_be_taken_for_others() -> None:
    """Neither `/shop 1` and `2`, nor `/shop` and `1 2`, may be the key of both."""
    assert broken(source="/shop 1", id="2") == [("/source", "wrong_pattern")]
    assert open_event(event(source="/shop", id="1 2")).key == "cloudevent /shop 1 2"


def test_the_trace_it_names_goes_along() -> None:
    assert open_event(event(traceparent="00-1-2-01", tracestate="a=b")).trace == Trace("00-1-2-01", "a=b")


@pytest.mark.parametrize(
    ("changes", "violations"),
    [
        ({"specversion": "0.3"}, [("/specversion", "literal_error")]),
        ({"id": ""}, [("/id", "too_short")]),
        ({"id": 1}, [("/id", "wrong_type")]),
        ({"source": None}, [("/source", "missing")]),
        ({"datacontenttype": "text/xml"}, [("/datacontenttype", "wrong_pattern")]),
        ({"data": None, "data_base64": "e30="}, [("/data", "missing")]),
        ({"data": notification(type="NO")}, [("/data/type", "wrong_pattern")]),
        ({"data": notification(more=1)}, [("/data/more", "unknown_field")]),
        ({"data": notification(data={"a": [[[[[[[1]]]]]]]})}, [("/data/data/a/0/0/0/0/0/0", "too_deep")]),
        ({"data": notification(title="\ud800")}, [("/data/title", "lone_surrogate")]),
        ({"extension": "\ud800"}, [("/extension", "lone_surrogate")]),
    ],
)
def test_each_broken_rule_is_named_where_it_is(changes: dict[str, Any], violations: list[tuple[str, str]]) -> None:
    assert broken(**changes) == violations


def test_data_may_be_as_deep_as_without_an_event() -> None:
    deep: object = 1
    for _ in range(6):
        deep = [deep]

    assert open_event(event(data=notification(data={"deep": deep}))).request.data == {"deep": deep}


@pytest.mark.parametrize("media", ["application/json", "application/vnd.shop+json; charset=utf-8", "text/json"])
def test_data_is_json_by_any_of_its_names(media: str) -> None:
    assert open_event(event(datacontenttype=media)).request.title == "Hello"


@pytest.mark.parametrize("value", [None, [], "text", 1])
def test_what_is_no_object_is_no_event(value: object) -> None:
    with pytest.raises(InvalidNotification):
        open_event(value)
