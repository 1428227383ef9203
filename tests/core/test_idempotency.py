"""Keys that were seen: a second use inside the span is a repeat, by the order and the times of the journal alone."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifier.core.envelope import Envelope
from notifier.core.idempotency import FirstUse, SeenKeys
from tests.core.builders import envelope


def keyed(key: int | None, at_ms: int = 0, *, content: bytes = b"c", name: str | None = None) -> Envelope:
    digest = None if key is None else key.to_bytes(16)
    return envelope(name=name, accepted_at_ms=at_ms, key_digest=digest, content_digest=content)


def test_the_first_use_is_nobodys_repeat() -> None:
    assert SeenKeys().first_use(keyed(1)) is None


def test_the_second_use_names_the_first_with_its_content() -> None:
    seen = SeenKeys()
    seen.first_use(keyed(1, 5, content=b"first", name="winner"))

    assert seen.first_use(keyed(1, 9, content=b"second")) == FirstUse("winner", 5, b"first")


def test_a_third_use_names_the_first_too() -> None:
    seen = SeenKeys(span_seconds=10)
    for at_ms in (0, 9_000):
        seen.first_use(keyed(1, at_ms, name=f"at {at_ms}"))

    assert seen.first_use(keyed(1, 10_000)) == FirstUse("at 0", 0, b"c")


def test_after_the_span_a_key_is_free_again_and_has_a_new_owner() -> None:
    seen = SeenKeys(span_seconds=10)
    seen.first_use(keyed(1, 0))

    assert seen.first_use(keyed(1, 10_001, name="second owner")) is None
    assert seen.first_use(keyed(1, 20_001)) == FirstUse("second owner", 10_001, b"c")


def test_a_use_by_a_clock_that_is_behind_is_a_repeat() -> None:
    seen = SeenKeys(span_seconds=10)
    seen.first_use(keyed(1, 8_000, name="winner"))

    assert seen.first_use(keyed(1, 1_000)) == FirstUse("winner", 8_000, b"c")


def test_what_has_no_key_is_never_a_repeat_and_takes_no_room() -> None:
    seen = SeenKeys()

    assert [seen.first_use(keyed(None)) for _ in range(3)] == [None] * 3
    assert len(seen) == 0


def test_over_the_capacity_the_oldest_use_is_forgotten() -> None:
    seen = SeenKeys(capacity=3)
    for key in (1, 2, 3, 4):
        seen.first_use(keyed(key))

    assert len(seen) == 3
    assert seen.first_use(keyed(2)) is not None
    assert seen.first_use(keyed(1)) is None


def test_a_key_with_a_new_owner_is_as_young_as_its_owner() -> None:
    seen = SeenKeys(span_seconds=10, capacity=2)
    for key, at_ms in ((1, 0), (2, 1_000), (1, 11_000), (3, 11_000)):
        seen.first_use(keyed(key, at_ms, name=f"{key} at {at_ms}"))

    assert seen.first_use(keyed(1, 12_000)) == FirstUse("1 at 11000", 11_000, b"c")


def test_what_can_match_no_more_is_let_go_of() -> None:
    seen = SeenKeys(span_seconds=10)
    for second in range(1_000):
        seen.first_use(keyed(second, second * 1_000))

    assert len(seen) <= 22


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1_500)), max_size=60))
def test_the_decision_is_that_of_a_list_of_all_first_uses(uses: list[tuple[int, int]]) -> None:
    seen = SeenKeys(span_seconds=10)
    owners: dict[int, Envelope] = {}
    now_ms = 0
    for key, pause_ms in uses:
        now_ms += pause_ms
        item = keyed(key, now_ms)
        owner = owners.get(key)
        is_repeat = owner is not None and now_ms - owner.accepted_at_ms <= 10_000

        first = seen.first_use(item)

        assert (None if first is None else first.id) == (owner.id if owner and is_repeat else None)
        if not is_repeat:
            owners[key] = item
