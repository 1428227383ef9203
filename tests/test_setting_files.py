"""Settings in files, as Kubernetes mounts secrets: what is read, what is refused, and what a file cannot give away."""

import os
from pathlib import Path

import pytest

from notifier.cli import main
from notifier.settings import RELOADED, SettingsError, changed_names, known_names, read_settings

URL = "amqp://me:s3cret@rabbit/push"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NOTIFIER_") or name == "WEB_CONCURRENCY"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NOTIFIER_INSECURE", "true")


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """A secret as Kubernetes mounts it: a link to a file in a folder that is itself reached by a link."""
    (tmp_path / "..2026_11_26").mkdir()
    (tmp_path / "..2026_11_26" / "url").write_text(f"{URL}\n")
    (tmp_path / "..data").symlink_to("..2026_11_26")
    (tmp_path / "url").symlink_to("..data/url")
    return tmp_path / "url"


def problems(monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[str]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    return caught.value.problems


def test_a_mounted_secret_is_read_without_its_newline(monkeypatch: pytest.MonkeyPatch, mounted: Path) -> None:
    monkeypatch.setenv("NOTIFIER_JOURNAL__URL_FILE", str(mounted))

    settings = read_settings()

    assert settings.journal.url.get_secret_value() == URL
    assert settings.queue_url_now() == URL


@pytest.mark.parametrize("name", sorted(known_names().keys() - {"NOTIFIER_INSECURE"}))
def test_every_setting_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert problems(monkeypatch, **{f"{name}_FILE": "/no/such"}) == [
        f"{name}_FILE: cannot read /no/such: No such file or directory"
    ]


def test_what_the_command_line_says_wins_over_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "port").write_text("8100")
    monkeypatch.setenv("NOTIFIER_HTTP__PORT_FILE", str(tmp_path / "port"))

    assert read_settings().http.port == 8100
    assert read_settings({"NOTIFIER_HTTP__PORT": 8200}).http.port == 8200


def test_a_setting_and_its_file_together_are_refused(monkeypatch: pytest.MonkeyPatch, mounted: Path) -> None:
    (problem,) = problems(monkeypatch, NOTIFIER_JOURNAL__URL=URL, NOTIFIER_JOURNAL__URL_FILE=str(mounted))

    assert problem == "NOTIFIER_JOURNAL__URL and NOTIFIER_JOURNAL__URL_FILE are both given: leave one of them out"


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("missing", "No such file or directory"),
        (".", "Is a directory"),
        ("binary", "is not text in UTF-8"),
        ("large", "is over 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str, reason: str
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_text("x" * (1024 * 1024 + 1))

    (problem,) = problems(monkeypatch, NOTIFIER_QUEUE__URL_FILE=str(tmp_path / file))

    assert problem.startswith("NOTIFIER_QUEUE__URL_FILE: ")
    assert str(tmp_path / file) in problem
    assert reason in problem


def test_what_is_wrong_in_a_file_is_said_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("http://me:s3cret@rabbit")
    (tmp_path / "issuers").write_text('[{"issuer": "s3cret"')

    found = problems(
        monkeypatch,
        NOTIFIER_JOURNAL__URL_FILE=str(tmp_path / "url"),
        NOTIFIER_ACCESS__ISSUERS_FILE=str(tmp_path / "issuers"),
    )

    assert [problem.partition(":")[0] for problem in found] == [
        "NOTIFIER_JOURNAL__URL_FILE",
        "NOTIFIER_ACCESS__ISSUERS_FILE",
    ]
    assert "s3cret" not in "".join(found)


def test_a_misspelt_file_is_told_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = problems(monkeypatch, NOTIFIER_JOURNAL__URI_FILE="/run/url")

    assert problem == "NOTIFIER_JOURNAL__URI_FILE is not a setting; did you mean NOTIFIER_JOURNAL__URL_FILE?"


def test_check_reads_files_and_shows_no_password(
    monkeypatch: pytest.MonkeyPatch, mounted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NOTIFIER_JOURNAL__URL_FILE", str(mounted))

    assert main(["check"]) == 0

    assert "NOTIFIER_JOURNAL__URL=amqp://me:***@rabbit/push" in capsys.readouterr().out


def test_what_is_reloaded_is_a_setting() -> None:
    assert known_names().keys() >= RELOADED


def test_what_has_changed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "limit").write_text("1/day")
    before = read_settings()
    monkeypatch.setenv("NOTIFIER_LIMITS__SEND_FILE", str(tmp_path / "limit"))

    assert changed_names(before, read_settings()) == ["NOTIFIER_LIMITS__SEND"]
