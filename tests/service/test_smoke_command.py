"""`notifier smoke` against the real service: it works, or says in one line where it ended."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from notifier.cli import main
from tests.replica import Replica
from tests.tokens import token


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    replica = Replica(tmp_path_factory.mktemp("smoke") / "log")
    yield replica
    replica.stop()


def test_it_sends_and_sees_it_arrive(replica: Replica, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "token"
    file.write_text(token("alice", scopes=["notify:send"]) + "\n")

    code = main(["smoke", "--url", replica.url, "--token-file", str(file), "--within-seconds", "20"])

    assert code == 0
    assert capsys.readouterr().out.startswith("sent to alice of default, arrived after ")


@pytest.mark.parametrize(
    ("given", "words"),
    [(token("alice", scopes=[]), "answered with 403"), ("garbage", "refused with 401")],
)
def test_a_refusal_ends_it_at_once(
    given: str, words: str, replica: Replica, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text(given)

    code = main(["smoke", "--url", replica.url, "--token-file", str(file), "--within-seconds", "20"])

    assert code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert given not in line


def test_what_never_answers_is_told_when_the_time_is_up(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    code = main(["smoke", "--url", f"http://127.0.0.1:{port}", "--within-seconds", "0.3"])

    assert code == 1
    assert "not within 0.3 seconds; at last no session was open: " in capsys.readouterr().err


def test_a_token_file_that_cannot_be_read_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoke", "--token-file", "/no/such/file"]) == 2
    assert "--token-file" in capsys.readouterr().err
