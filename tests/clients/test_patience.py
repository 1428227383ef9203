"""When a request is tried again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from notifier.clients.patience import BACKOFF_SECONDS, Patience, asked_seconds


def answer(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_pauses_have_full_jitter_under_a_ceiling_that_doubles() -> None:
    rows = []
    for _ in range(200):
        patience = Patience(10_000)
        rows.append([patience.pause() for _ in range(8)])
    least, most = BACKOFF_SECONDS

    for number, pauses in enumerate(zip(*rows, strict=True)):
        ceiling = min(most, least * 2**number)
        seconds = [pause for pause in pauses if pause is not None]
        assert len(seconds) == len(rows)
        assert 0 <= min(seconds) < 0.2 * ceiling
        assert 0.8 * ceiling < max(seconds) <= ceiling


def test_nothing_is_tried_sooner_than_the_service_asked() -> None:
    pauses = [Patience(60).pause_after(answer(503, retry_after="3")) for _ in range(50)]

    assert all(pause is not None and 3 <= pause <= 3 + BACKOFF_SECONDS[0] for pause in pauses)


def test_a_date_is_understood_as_well() -> None:
    at = datetime.now(UTC) + timedelta(seconds=20)

    assert 18 < asked_seconds(answer(503, retry_after=format_datetime(at, usegmt=True))) <= 20


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_what_is_no_time_to_come_asks_for_nothing(value: str) -> None:
    assert asked_seconds(answer(503, retry_after=value)) == 0


def test_a_pause_beyond_the_deadline_is_the_end() -> None:
    now = [100.0]
    patience = Patience(10, clock=lambda: now[0])
    assert patience.pause_after(answer(503)) is not None
    now[0] = 111

    assert patience.pause_after(answer(503)) is None


def test_the_last_attempt_comes_at_the_end_of_the_patience() -> None:
    """A full-jitter pause of up to 8 s would waste most of a short patience."""
    for _ in range(50):
        now = [100.0]
        patience = Patience(3, clock=lambda now=now: now[0])  # type: ignore[misc]
        while (pause := patience.pause()) is not None:
            now[0] += pause

        assert now == [pytest.approx(103)]


def test_no_patience_means_one_attempt() -> None:
    assert Patience(0).pause_after(answer(503)) is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 422])
def test_what_will_be_refused_again_is_not_tried_again(status: int) -> None:
    assert Patience(60).pause_after(answer(status)) is None


@pytest.mark.parametrize("error", [httpx.UnsupportedProtocol("ftp"), httpx.LocalProtocolError("bad header")])
def test_what_is_wrong_with_the_request_itself_is_not_tried_again(error: httpx.TransportError) -> None:
    assert Patience(60).pause_after(error) is None


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("late"), httpx.ReadError("reset")])
def test_a_lost_connection_is_tried_again(error: httpx.TransportError) -> None:
    assert Patience(60).pause_after(error) is not None
