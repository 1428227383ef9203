"""The frames of `notifier.v1`, byte by byte, and the reading of those a client sends."""

import json

import pytest

from notifier.core.audience import Address, Audience
from notifier.core.envelope import Envelope, Position
from notifier.core.errors import Forbidden, LimitExceeded, NotifierError, Unauthenticated, Unavailable
from notifier.core.identity import Tenant
from notifier.core.ports import CloseReason
from notifier.transports.closing import CODE_OF_REASON, HangUp
from notifier.transports.conversation import read_object
from notifier.transports.frames import Frames, message

SEALED = '{"id":"1","title":"Größe \u2028"}'.encode()


def test_the_sealed_bytes_stand_in_the_frame_as_they_are() -> None:
    envelope = Envelope("1", Tenant("t"), Audience((Address("user", "u"),)), SEALED, 0, 1)

    frame = Frames().notification(Position("e", 2, 3), envelope)

    assert frame.json == b'{"type":"notification","position":"e.2.3","notification":' + SEALED + b"}"
    assert frame.texts == (frame.json.decode(),)
    assert frame.wire == bytes([0x81, len(frame.json)]) + frame.json
    assert frame.size == len(frame.wire)


def test_fields_without_a_value_are_left_out() -> None:
    assert message("pong", ref=None, position="p", zero=0).json == b'{"type":"pong","position":"p","zero":0}'


def test_lone_surrogates_of_a_client_stay_escaped() -> None:
    assert message("pong", ref="\ud800").json == rb'{"type":"pong","ref":"\ud800"}'


@pytest.mark.parametrize("reason", CloseReason)
def test_every_reason_to_close_has_a_code(reason: CloseReason) -> None:
    """Checklist 3.1.13."""
    assert CODE_OF_REASON[reason] in {4000, 4001, 4401, 4402, 4403, 4409, 1011, 1012}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unauthenticated("token_expired", "d"), 4401),
        (Unauthenticated("token_invalid", "d"), 4402),
        (Forbidden("no", "d"), 4403),
        (Unavailable("overload", "d"), 4005),
        (NotifierError("unforeseen", "d"), 1011),
    ],
)
def test_a_refusal_has_the_code_of_what_the_client_should_do(error: NotifierError, code: int) -> None:
    """Checklist 3.1.13."""
    hang_up = HangUp.because(error)

    assert (hang_up.code, hang_up.reason) == (code, error.code)


def test_a_limit_is_a_reason_to_come_back_later() -> None:
    from datetime import timedelta

    assert HangUp.because(LimitExceeded("too_many_sessions", "d", retry_after=timedelta(seconds=1))).code == 4004


@pytest.mark.parametrize(
    ("text", "code"),
    [(b"{}", 4400), ("", 4400), ("[]", 4400), ("1", 4400), ("{", 4400), ("[" * 100_000, 1009), ("é" * 600, 1009)],
)
def test_what_is_no_object_of_the_right_size_is_refused(text: str | bytes, code: int) -> None:
    with pytest.raises(HangUp) as refused:
        read_object(text, limit_bytes=1_024)

    assert refused.value.code == code


def test_an_object_is_read_up_to_its_last_byte() -> None:
    text = json.dumps({"a": "x" * 1_015})

    assert len(text) == 1_024
    assert read_object(text, limit_bytes=1_024) == {"a": "x" * 1_015}
