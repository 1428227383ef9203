"""Topic names, patterns, and what a bearer is granted."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.access.topics import TopicRule, allowed_patterns, fill_in, grant, is_topic, matches, parse_pattern
from notifier.core.identity import Identity, Tenant

ELEVEN = ".".join("abcdefghijk")


def bearer(*patterns: str) -> Identity:
    return Identity(
        tenant=Tenant("default"),
        user="alice",
        issuer="https://issuer.example",
        roles=frozenset(),
        topic_patterns=tuple(map(parse_pattern, patterns)),
        scopes=frozenset(),
        tenants=frozenset(),
        expires_at=0,
    )


@pytest.mark.parametrize("name", ["a", "orders.eu", "A-b_9.C", ".".join("abcdefghij"), "a" * 256])
def test_topic_is_words_between_dots(name: str) -> None:
    assert is_topic(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.", ".a", "a..b", "a b", "a/b", "a.*", "#", "{sub}", "ä", "a\n", "$sys", "$a.b", "a" * 257, ELEVEN],
)
def test_other_text_is_no_topic(name: str) -> None:
    assert not is_topic(name)


@pytest.mark.parametrize("text", ["", ".", "a..b", "a*", "*a.b", "##", "user-{sub}", "{SUB}", "$sys.#", "a" * 257])
def test_malformed_pattern_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="topic pattern"):
        parse_pattern(text)


def test_pattern_with_eleven_segments_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 10"):
        parse_pattern(".".join("#" * 11))


def test_same_pattern_is_one_object() -> None:
    """Thousands of sessions carry the same few patterns."""
    assert parse_pattern("orders.*.shared") is parse_pattern("orders." + "*.shared")


@pytest.mark.parametrize(
    ("pattern", "topic", "fits"),
    [
        ("orders", "orders", True),
        ("orders", "Orders", False),
        ("orders", "orders.eu", False),
        ("orders.*", "orders.eu", True),
        ("orders.*", "orders", False),
        ("orders.*", "orders.eu.de", False),
        ("*", "orders", True),
        ("*.*", "orders", False),
        ("#", "orders", True),
        ("#", "a.b.c.d", True),
        ("orders.#", "orders", True),
        ("orders.#", "orders.eu.de", True),
        ("orders.#", "order", False),
        ("#.de", "de", True),
        ("#.de", "orders.eu.de", True),
        ("#.de", "orders.de.eu", False),
        ("a.#.z", "a.z", True),
        ("a.#.z", "a.b.z.c.z", True),
        ("a.#.z", "a.b.z.c", False),
        ("#.a.#.b.#", "x.a.y.a.b", True),
        ("#.a.#.b.#", "x.b.y.a", False),
        ("*.#.*", "a", False),
        ("*.#.*", "a.b", True),
        ("#.*", "a", True),
        ("#.#", "a", True),
    ],
)
def test_star_is_one_segment_and_hash_is_any_number(pattern: str, topic: str, fits: bool) -> None:
    assert matches(parse_pattern(pattern), topic) == fits


@settings(database=None, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=8),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=8),
)
def test_matching_agrees_with_a_regular_expression(pattern: list[str], segments: list[str]) -> None:
    expression = "".join({"*": r"[ab]\.", "#": r"(?:[ab]\.)*"}.get(part, rf"{part}\.") for part in pattern)
    expected = re.fullmatch(expression, ".".join(segments) + ".") is not None

    assert matches(tuple(pattern), ".".join(segments)) == expected


def test_many_hashes_do_not_blow_up() -> None:
    pattern = ("#", "a") * 40 + ("b",)
    topic = ".".join("a" * 400)
    started = time.perf_counter()
    fits = matches(pattern, topic)
    took = time.perf_counter() - started

    assert not fits
    assert took < 1


def test_sub_becomes_the_user_id() -> None:
    assert fill_in(parse_pattern("user.{sub}.#"), "alice") == ("user", "alice", "#")


@pytest.mark.parametrize("user", ["*", "#", "a.b", "a.#", "{sub}", "auth0|5f", "a@b.example", ""])
def test_user_id_that_is_no_word_drops_the_pattern(user: str) -> None:
    """A user called `#` must not read everybody's topics."""
    assert fill_in(parse_pattern("user.{sub}.#"), user) is None


def test_rules_apply_by_role_by_scope_and_to_any() -> None:
    rules = (
        TopicRule("role", "admin", ("audit.#",)),
        TopicRule("role", "intern", ("coffee",)),
        TopicRule("scope", "orders", ("orders.*",)),
        TopicRule("any", "", ("news", "user.{sub}.#")),
    )
    patterns = allowed_patterns(
        rules, [("own",), ("news",)], user="alice", roles={"admin"}, scopes={"orders", "intern"}
    )

    assert patterns == (("own",), ("news",), ("audit", "#"), ("orders", "*"), ("user", "alice", "#"))


def test_rule_with_a_malformed_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="topic pattern"):
        TopicRule("any", "", ("orders..eu",))


def test_topics_are_granted_or_denied_with_a_code() -> None:
    granted, denied = grant(bearer("orders.*", "news"), ["orders.eu", "$sys", "audit.log", "news", "orders.eu"])

    assert granted == ("orders.eu", "news")
    assert denied == (("$sys", "topic_invalid"), ("audit.log", "topic_forbidden"))


def test_bearer_without_patterns_is_granted_nothing() -> None:
    assert grant(bearer(), ["a"]) == ((), (("a", "topic_forbidden"),))


def test_topics_beyond_the_limit_are_denied() -> None:
    granted, denied = grant(bearer("#"), ["a", "b", "c"], already=frozenset({"x"}), limit=2)

    assert granted == ("a",)
    assert denied == (("b", "too_many_topics"), ("c", "too_many_topics"))


def test_topic_the_session_has_is_granted_again() -> None:
    granted, denied = grant(bearer("#"), ["x", "y"], already=frozenset({"x", "y"}), limit=2)

    assert (granted, denied) == (("x", "y"), ())


def test_names_beyond_the_limit_are_not_judged() -> None:
    """Thousands of names in one frame cost no more than `limit` of them."""
    names = [f"t{number}" for number in range(300)]
    _, denied = grant(bearer("other"), names, limit=100)

    assert [code for _, code in denied] == ["topic_forbidden"] * 100 + ["too_many_topics"] * 200
