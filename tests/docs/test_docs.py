"""What README.md and docs/ name exists: commands and their options, make targets, settings, metrics, pages, sections.

A command that a reader is meant to run stands in a `console` block behind `$ `.
"""

import argparse
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

import pytest

from notifier import cli
from notifier.settings import known_names
from notifier.telemetry.catalogue import FAMILIES
from tests.benchmarks.__main__ import _benchmarks
from tests.docs.pages import ROOT, commands, pages

BENCHMARKS: Final = _benchmarks([1], 1)
_NAME: Final = r"[a-z][a-z-]*"
_SERIES: Final = re.compile(r"_(bucket|sum|count|created)$")
_SEPARATORS: Final = ("|", "||", "&&", "&", ";", ">", ">>", "<", "until", "do", "{")


def calls(program: str, command: str) -> Iterator[list[str]]:
    """The arguments with which a line calls the program; nothing of quoted words is looked into."""
    begins = True
    arguments: list[str] | None = None  # None outside of a call.
    for word in [*shlex.split(command, comments=True), ";"]:
        if (begins and word == program) or word.endswith(f"$({program}"):
            arguments = []
        elif word in _SEPARATORS and arguments is not None:
            yield arguments
            arguments = None
        elif arguments is not None:
            arguments.append(word)
        begins = word in _SEPARATORS or (begins and "=" in word)


@cache
def subcommands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def complaint(arguments: list[str], parser: argparse.ArgumentParser) -> str | None:
    """What of a call of `notifier` does not exist."""
    while subcommands(parser):
        name, *arguments = arguments or [""]
        if name not in subcommands(parser):
            return f"there is no {parser.prog} {name}"
        parser = subcommands(parser)[name]
    options = [each.partition("=")[0] for each in arguments if re.match(r"--[a-z]", each)]
    unknown = [option for option in options if option not in parser._option_string_actions]
    return f"{parser.prog} has no {', '.join(unknown)}" if unknown else None


@pytest.mark.parametrize("page", pages())
def test_commands_exist_with_their_options(page: str) -> None:
    found = [
        complaint(arguments, cli._parser()) for command in commands(page) for arguments in calls("notifier", command)
    ]

    assert [each for each in found if each] == []


@pytest.mark.parametrize("page", pages())
def test_make_targets_and_benchmarks_exist(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(rf"^({_NAME}):", makefile, re.MULTILINE))
    text = (ROOT / page).read_text()

    named = set(re.findall(rf"(?:`|^|\$ )make ({_NAME})", text, re.MULTILINE))
    measured = set(re.findall(rf"--only ({_NAME})", text))

    assert named - targets == set()
    assert measured - BENCHMARKS.keys() == set()


@pytest.mark.parametrize("page", pages())
def test_settings_exist(page: str) -> None:
    named = set(re.findall(r"\bNOTIFIER_(?!TEST_)[A-Z0-9_]*[A-Z0-9]\b", (ROOT / page).read_text()))

    assert {name for name in named if name.removesuffix("_FILE") not in known_names()} == set()


@pytest.mark.parametrize("page", pages())
def test_metrics_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    known = FAMILIES.keys()

    named = {_SERIES.sub("", name) for name in re.findall(r"(?<![\w/.-])notifier_[a-z_]*[a-z]\b(?![/.(])", text)}

    assert named - known == set()


@pytest.mark.parametrize("page", pages())
def test_links_lead_to_pages_and_sections(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, section = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if "://" not in link and not (target.exists() and (not section or section in sections(target.read_text()))):
            broken.append(link)

    assert broken == []


def sections(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_checks_find_what_does_not_exist() -> None:
    """A check that finds nothing anywhere would pass as well."""
    parser = cli._parser()

    assert list(calls("notifier", 'curl -H "x" | notifier send --user a --title "a | b" && true')) == [
        ["send", "--user", "a", "--title", "a | b"]
    ]
    assert complaint(["send", "--colour", "red"], parser) == "notifier send has no --colour"
    assert complaint(["dlq", "empty"], parser) == "there is no notifier dlq empty"
    assert complaint(["dlq", "list", "--limit", "3"], parser) is None
    assert "moving-to-rabbitmq-4" in sections("# A\n## Moving to RabbitMQ 4\n")
    assert any(list(commands(page)) for page in pages())
