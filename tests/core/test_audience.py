"""Audiences: the union of what is included, less what is excluded, and what may be told about it."""

import pytest

from notifier.core.audience import EVERYONE, Address, Audience
from tests.core.builders import audience, role, topic, user

ALICE = frozenset([EVERYONE, user("alice"), role("admin"), topic("orders.eu")])


@pytest.mark.parametrize("address", [user("alice"), role("admin"), topic("orders.eu"), EVERYONE])
def test_any_one_address_reaches(address: Address) -> None:
    assert audience(user("nobody"), address).reaches(ALICE)


@pytest.mark.parametrize("address", [user("admin"), role("alice"), topic("orders"), topic("orders.eu.1"), user("")])
def test_an_address_of_another_kind_or_value_does_not_reach(address: Address) -> None:
    assert not audience(address).reaches(ALICE)


@pytest.mark.parametrize("excluded", [user("alice"), role("admin")])
def test_an_exclusion_wins_over_every_inclusion(excluded: Address) -> None:
    assert not audience(EVERYONE, user("alice"), topic("orders.eu"), exclude=[excluded]).reaches(ALICE)


def test_an_exclusion_of_others_changes_nothing() -> None:
    assert audience(EVERYONE, exclude=[user("bob"), role("intern")]).reaches(ALICE)


def test_an_empty_audience_reaches_nobody() -> None:
    assert not Audience(()).reaches(ALICE)


def test_everyone_is_known_among_others() -> None:
    assert audience(user("alice"), EVERYONE).everyone
    assert not audience(user("everyone"), role(""), Address("user", "")).everyone


def test_topics_are_told_where_the_audience_is_topics_alone() -> None:
    assert audience(topic("a"), topic("b.c")).topics == ("a", "b.c")


@pytest.mark.parametrize("other", [user("alice"), role("admin"), EVERYONE])
def test_topics_are_not_told_where_somebody_else_is_meant_too(other: Address) -> None:
    assert audience(topic("a"), other).topics == ()


def test_whom_an_audience_of_topics_excludes_is_no_reason_to_hide_the_topics() -> None:
    assert audience(topic("a"), exclude=[user("bob")]).topics == ("a",)
