"""JSON as the doors take it: what the standard parser is lenient with is named by its pointer, the rest unchanged."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifier.core.errors import BadRequest, InvalidNotification
from notifier.core.strict_json import escape, flaws, parse


def found(raw: str | bytes) -> list[tuple[str, str]]:
    """The pointer and code of each flaw, wherever it is found: by the parser or after it."""
    try:
        value = parse(raw if isinstance(raw, bytes) else raw.encode())
    except InvalidNotification as error:
        return [(violation.pointer, violation.code) for violation in error.violations]
    return [(violation.pointer, violation.code) for violation in flaws(value)]


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: depth(value) <= 8)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(json_values, st.booleans())
def test_honest_json_passes_unchanged(value: Any, is_ascii: bool) -> None:
    parsed = parse(json.dumps(value, ensure_ascii=is_ascii).encode())

    assert parsed == value
    assert flaws(parsed) == []


@pytest.mark.parametrize("raw", ["", "{", "{'a':1}", "[1,]", '{"a":1}x', "\ufeff{}", '{"a"}', "01", '"\x01"', "tru"])
def test_what_is_no_json_is_a_bad_request(raw: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(raw.encode())
    assert refused.value.code == "not_json"


@pytest.mark.parametrize("raw", [b"\xff", b'{"a":"\xc3"}', b'"\xed\xa0\x80"', '{"a":1}'.encode("utf-16")])
def test_bytes_that_are_not_utf_8_are_a_bad_request(raw: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(raw)
    assert refused.value.code == "not_json"


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        ('{"a":1,"a":1}', ""),
        ('{"a":{"b":1,"b":2}}', "/a"),
        ('[{"a":1},{"b":{"c":1,"c":1}}]', "/1/b"),
        ('{"a":1,"\\u0061":2}', ""),
    ],
)
def test_a_duplicate_name_is_named_by_its_object(raw: str, pointer: str) -> None:
    assert found(raw) == [(pointer, "duplicate_name")]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" + "0" * 400 + ".0"])
def test_a_number_that_is_not_finite_is_named(number: str) -> None:
    assert found(f'{{"data":[0,{number}]}}') == [("/data/1", "number_not_finite")]


@pytest.mark.parametrize("digits", [5_000, 60_000])
def test_an_integer_of_thousands_of_digits_is_named_and_the_rest_is_not_lost(digits: int) -> None:
    raw = f'[{{"a":1}},{{"b":{"9" * digits}}},{{"c":NaN}}]'

    assert found(raw) == [("/1/b", "number_too_long"), ("/2/c", "number_not_finite")]


@pytest.mark.parametrize("number", [2**53 + 1, -(2**64), 10**300, 10**4_000])
def test_big_integers_pass_unchanged(number: int) -> None:
    assert parse(json.dumps({"n": number}).encode()) == {"n": number}
    assert found(json.dumps({"n": number})) == []


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_depth_8_passes_and_depth_9_is_named(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    step = "/0" if opening == "[" else "/a"

    assert found(opening * 8 + "1" + closing * 8) == []
    assert found(opening * 9 + "1" + closing * 9) == [(step * 8, "too_deep")]


@pytest.mark.parametrize("levels", [1_000, 60_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_any_greater_depth_is_refused_as_depth(levels: int, opening: str, closing: str) -> None:
    assert {code for _, code in found(opening * levels + "1" + closing * levels)} == {"too_deep"}


@pytest.mark.parametrize("levels", [1_000, 60_000])
def test_depth_that_never_closes_is_refused(levels: int) -> None:
    """Checklist 3.3.22."""
    with pytest.raises((BadRequest, InvalidNotification)):
        parse(b"[" * levels)


@pytest.mark.parametrize("half", ["\\ud800", "\\udfff", "x\\udc00\\ud800"])
def test_half_a_surrogate_pair_in_text_is_named(half: str) -> None:
    assert found(f'{{"a":["{half}"]}}') == [("/a/0", "lone_surrogate")]


def test_half_a_surrogate_pair_in_a_name_is_named_by_its_object() -> None:
    assert found('{"a":{"\\ud800":1}}') == [("/a", "lone_surrogate")]


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert parse(b'"\\ud83c\\udf89"') == "\U0001f389"
    assert found('"\\ud83c\\udf89"') == []


def test_pointers_escape_tilde_and_slash() -> None:
    assert found('{"a/b":{"m~n":{"~1":[NaN]}}}') == [("/a~1b/m~0n/~01/0", "number_not_finite")]
    assert escape("~/~") == "~0~1~0"


def test_every_flaw_of_a_value_is_named() -> None:
    raw = '[NaN,{"a":1,"a":2},"\\ud800",1e999]'

    assert [pointer for pointer, _ in found(raw)] == ["/0", "/1", "/2", "/3"]


def test_a_caller_that_allows_less_depth_is_heard() -> None:
    assert [violation.pointer for violation in flaws(parse(b'{"a":{"b":[1]}}'), depth=2)] == ["/a/b"]
