"""What a stream of events is made of: one object of bytes for all, and last words in the place of a close code."""

import json

import pytest

from notifier.core.audience import EVERYONE, Audience
from notifier.core.envelope import Envelope, Position
from notifier.core.identity import Tenant
from notifier.core.ports import CloseReason
from notifier.transports.closing import CODE_OF_REASON
from notifier.transports.encodings import Retry
from notifier.transports.frames import Frames
from notifier.transports.stream import last_words

AT = Position("epoch", 7, 0)
SEALED = '{"id":"1","title":"Grüße \u2028"}'.encode()
ENVELOPE = Envelope("1", Tenant("t"), Audience((EVERYONE,), ()), SEALED, 0, 1)


def test_a_notification_is_one_event_behind_its_position() -> None:
    frame = Frames().notification(AT, ENVELOPE)

    first, second, rest = frame.event.split(b"\n", 2)
    assert (first, rest) == (b"id: epoch.7.0", b"\n")
    assert second == b"data: " + frame.json
    assert json.loads(frame.json)["notification"] == json.loads(SEALED)


def test_all_sessions_share_one_object_of_each_encoding() -> None:
    frames = Frames()
    frame = frames.notification(AT, ENVELOPE)
    joined = frames.join([frame, frames.notification(Position("epoch", 8, 0), ENVELOPE)])

    assert frame.event is frame.event
    assert frame.chunk is frame.chunk
    assert joined.event is joined.event
    assert joined.chunk is joined.chunk


def test_nothing_is_encoded_for_streams_while_there_are_none() -> None:
    """The hot path of sockets reads `wire` alone."""
    frame = Frames().notification(AT, ENVELOPE)

    assert frame.wire
    assert (frame._event, frame._chunk) == (None, None)


def test_joined_frames_are_their_events_in_one_chunk() -> None:
    frames = Frames()
    parts = [frames.notification(AT, ENVELOPE), frames.degraded(), frames.heartbeat(AT)]

    joined = frames.join(parts)

    assert joined.event == b"".join(part.event for part in parts)
    assert joined.chunk == b"%x\r\n%b\r\n" % (len(joined.event), joined.event)


def test_a_heartbeat_is_an_id_alone_and_a_pause_no_message() -> None:
    assert Frames().heartbeat(AT).event == b"id: epoch.7.0\n\n"
    assert Retry(1_500).event == b"retry: 1500\n\n"


def test_who_is_sent_elsewhere_waits_as_long_as_it_is_told() -> None:
    frame = Frames().reconnect(CloseReason.DRAIN, AT, 700)

    assert frame.event.startswith(b'retry: 700\nid: epoch.7.0\ndata: {"type":"reconnect","after_ms":700,')


def test_a_message_without_a_position_keeps_the_last_id() -> None:
    assert Frames().degraded().event == b'data: {"type":"degraded"}\n\n'


@pytest.mark.parametrize("reason", list(CloseReason))
def test_every_end_is_told_with_the_code_of_a_socket(reason: CloseReason) -> None:
    """A drain and a rebalance have told it by `reconnect`."""
    words = last_words(reason)

    if reason in (CloseReason.DRAIN, CloseReason.REBALANCE):
        assert words is None
    else:
        assert words is not None
        said = json.loads(words.json)
        assert (said["type"], said["code"], said["close_code"]) == ("error", reason.value, CODE_OF_REASON[reason])
