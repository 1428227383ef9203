"""What the README says is so: its settings table, its make targets, its commands."""

import re
from pathlib import Path

import pytest

from notifier import cli
from scripts.write_settings_table import REFERENCE, reference, with_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_settings_table_is_the_one_that_the_settings_make() -> None:
    """`make readme` writes it."""
    assert with_table(README) == README


def test_the_reference_of_settings_is_the_one_that_the_settings_make() -> None:
    """`make readme` writes it."""
    assert REFERENCE.read_text() == reference()


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))

    named = set(re.findall(r"^make ([a-z]+)", README, re.MULTILINE)) | set(re.findall(r"`make ([a-z]+)", README))

    assert named
    assert named <= targets


def test_every_notifier_command_it_names_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    commands = set(re.findall(r"^ +([a-z]+)  ", capsys.readouterr().out, re.MULTILINE))

    named = set(re.findall(r"(?:`|\$\(|=true |\n)notifier (?!is )([a-z]+)", README))

    assert {"serve", "token", "send", "listen", "check"} <= named
    assert named <= commands


def test_lock_files_hold_hashes_and_no_index() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()

        assert "--hash=sha256:" in text
        assert not re.search(r"https?://|index-url|find-links|file:", text)


def test_every_link_into_the_repository_leads_somewhere() -> None:
    targets = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]

    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
