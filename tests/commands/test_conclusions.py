"""`notifier why`: what the answers of all replicas come to."""

from typing import Any

import pytest

from notifier.clients.operations import Reply, addresses
from notifier.commands.conclusions import NOT_KNOWN, NOT_WRITTEN, WRITTEN, accepted_ms, conclude

ID = "01a217a9-f1a2-7db6-829b-141afe49d515"  # Made at 2026-11-26T11:42:23.138Z.


def answer(*sessions: dict[str, Any], **changes: Any) -> Reply:
    held = {
        "in_window": True,
        "accepted_at": "2026-11-26T11:42:23.138Z",
        "expires_at": "2026-11-27T11:42:23.138Z",
        "remembers_closed_since": "2026-11-26T11:00:00.000Z",
        "available_since": "2026-11-26T11:00:00.000Z",
        "other_tenant": None,
        "expired": False,
        "excluded": False,
        "named": True,
        "superseded_by": None,
        "audience": {"everyone": False, "users": 1, "topics": [], "roles": []},
        "sessions": list(sessions),
    }
    return Reply("http://replica", held | changes)


def with_outcome(outcome: str, **more: Any) -> dict[str, Any]:
    closed_at = "2026-11-26T11:41:00.000Z"
    return {"outcome": outcome, "written_by": None, "superseded_by": None, "closed_at": closed_at} | more


WRITTEN_HERE = with_outcome("written", written_by="2026-11-26T11:42:24.000Z")
ABSENT = answer(in_window=False)
SILENT = Reply("http://replica", None, "no answer within 5 s")


@pytest.mark.parametrize(
    ("replies", "verdict", "exit_code"),
    [
        ([answer(), answer(WRITTEN_HERE, with_outcome("left"))], "written", WRITTEN),
        ([answer(WRITTEN_HERE), SILENT], "written", WRITTEN),
        ([answer(), SILENT], "no_answer", NOT_KNOWN),
        ([SILENT], "no_answer", NOT_KNOWN),
        ([answer(with_outcome("waiting"))], "waiting", NOT_WRITTEN),
        ([answer(with_outcome("unknown"), with_outcome("left"))], "perhaps", NOT_KNOWN),
        ([answer(with_outcome("passed"))], "perhaps", NOT_KNOWN),
        ([answer(excluded=True)], "excluded", NOT_WRITTEN),
        ([answer(with_outcome("excluded"))], "excluded", NOT_WRITTEN),
        ([answer(expired=True)], "expired", NOT_WRITTEN),
        ([answer(superseded_by="newer")], "superseded", NOT_WRITTEN),
        ([answer(with_outcome("before"), with_outcome("left"))], "before", NOT_WRITTEN),
        ([answer(with_outcome("left"))], "left", NOT_WRITTEN),
        ([answer(with_outcome("not_addressed"), named=False)], "not_addressed", NOT_WRITTEN),
        ([answer(named=False)], "not_addressed", NOT_WRITTEN),
        ([answer()], "not_connected", NOT_WRITTEN),
        ([ABSENT], "never_seen", NOT_KNOWN),
        ([answer(in_window=False, other_tenant="red")], "other_tenant", NOT_KNOWN),
        ([answer(in_window=False, available_since="2026-11-26T11:43:00.000Z")], "not_in_window", NOT_KNOWN),
        ([answer(in_window=False, available_since="2026-11-26T11:43:00.000Z"), ABSENT], "never_seen", NOT_KNOWN),
    ],
)
def test_the_answers_come_to_one_verdict(replies: list[Reply], verdict: str, exit_code: int) -> None:
    conclusion = conclude(replies, ID, "alice")

    assert (conclusion.verdict, conclusion.exit_code) == (verdict, exit_code)


@pytest.mark.parametrize("text", ["", "x", "01a217a9f1a27db6829b141afe49d515", "8e1f1a52-6a3c-4f6e-9a52-0d6f3f6b8f10"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        accepted_ms(text)


def test_a_name_stands_for_its_addresses_and_a_missing_port_is_the_usual_one() -> None:
    assert addresses("localhost") == ["http://127.0.0.1:9000"]
    assert addresses("http://127.0.0.1:9100/") == ["http://127.0.0.1:9100"]
    assert addresses("[::1]:9100") == ["http://[::1]:9100"]
    for url in ("ftp://host", "http://", "http://no.such.name.invalid"):
        with pytest.raises(ValueError, match="address"):
            addresses(url)
