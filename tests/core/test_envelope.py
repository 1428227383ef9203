"""Positions: opaque outside, ordered inside."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifier.core.envelope import Position

positions = st.builds(
    Position,
    st.from_regex(r"[A-Za-z0-9_-]{1,24}", fullmatch=True),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**20 - 1),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(positions)
def test_a_position_is_read_back_from_its_text_which_clients_can_carry_in_a_query(position: Position) -> None:
    assert Position.parse(str(position)) == position
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", str(position))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(positions)
def test_a_position_is_made_again_from_its_ordinal(position: Position) -> None:
    assert Position.of(position.epoch, position.ordinal) == position


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(positions, positions)
def test_ordinals_order_as_the_journal_does(one: Position, other: Position) -> None:
    other = Position(one.epoch, other.offset, other.index)

    assert (one < other) == (one.ordinal < other.ordinal)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "e",
        "e.1",
        "e.1.",
        "e.-1.0",
        "e.1.0.0",
        ".1.0",
        "e.1.0\n",
        " e.1.0",
        "é.1.0",
        "e.\u0661.0",
        "e.1.x",
        "e" * 25 + ".1.0",
    ],
)
def test_other_text_is_no_position(text: str) -> None:
    assert Position.parse(text) is None


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=80))
def test_no_text_breaks_the_reading_of_a_position(text: str) -> None:
    position = Position.parse(text)

    assert position is None or len(text) <= 64
