"""The look at all logs at the end of a run finds what may not be there."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.leaks import leaks
from tests.tokens import token

CALM = (
    '{"event": "request", "path": "/notify", "caller": "alice", "code": "token_invalid", "broker": "amqp://me@rabbit/"}'
)

TICKET = "v1.eyJ1bnRpbCI6MTc2NDE2NjMyMX0.3qkxJ6bM2gcl5f0rJYkOq8sJt5G2b0Jt0a7mXqXWm5c"


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that is gone before the look at the end of this run."""
    with TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f'{{"event": "{token()}"}}', "a token"),
        (f'{{"event": "{token().split(".")[1]}"}}', "a token"),
        (f'{{"query": "{TICKET}"}}', "a ticket"),
        ('{"path": "/ws?topics=a&token=x"}', "a token's place"),
        ('{"path": "/events?ticket=x"}', "a token's place"),
        ('{"headers": "Authorization: Bearer x"}', "a token's place"),
        ('{"protocols": "notifier.v1, bearer.x"}', "a token's place"),
        ('{"broker": "amqp://me:password@rabbit/"}', "a password in a URL"),
        ('{"sent": {"title": "Hello"}}', "a payload"),
        (r'{"sent": "{\"body\":\"Hello\"}"}', "a payload"),
        ("""{"sent": "{'title': 'Hello'}"}""", "a payload"),
        ('{"detail": "canary-title-4711"}', "a payload"),
    ],
)
def test_a_line_that_says_too_much_is_found_with_its_place(directory: Path, text: str, kind: str) -> None:
    """Checklist 3.4.28."""
    (directory / "some").mkdir()
    log = directory / "some" / "replica.log"
    log.write_text(f"{CALM}\n{text}\n{CALM}\n")

    assert kind in {leak.kind for leak in leaks(directory)}
    assert {(leak.file, leak.line) for leak in leaks(directory)} == {(log, 2)}


def test_ids_and_codes_may_be_said(directory: Path) -> None:
    (directory / "replica.log").write_text(f"{CALM}\n")

    assert list(leaks(directory)) == []
