"""The revocations that hold: against a model, at their bound, past their time, and as control records."""

from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.access.revocations import By, Revocation, Revocations
from notifier.core.identity import Identity, Tenant
from tests.core.builders import ACME, OTHER
from tests.core.fakes import HandClock

LIFE: Final = 100.0
NOW: Final = 1_000.0


def revocation(
    by: By, name: str = "", *, tenant: Tenant = ACME, issued_before: float = NOW, session: str | None = None
) -> Revocation:
    return Revocation("r", tenant, by, name, issued_before, max(NOW, issued_before) + LIFE, session)


def bearer(user: str = "u0", *, token_id: str = "t0", issued_at: float = NOW, tenant: Tenant = ACME) -> Identity:
    no_names: frozenset[str] = frozenset()
    return Identity(tenant, user, "i", no_names, (), no_names, no_names, issued_at + LIFE, token_id, issued_at)


@dataclass
class Model:
    """Every revocation that was ever added, asked one by one."""

    added: list[Revocation] = field(default_factory=list)

    def covers(self, identity: Identity) -> bool:
        return any(self._is_about(each, identity) for each in self.added if each.tenant == identity.tenant)

    def _is_about(self, each: Revocation, identity: Identity) -> bool:
        match each.by:
            case "token":
                return each.name == identity.token_id
            case "user":
                return each.name == identity.user and identity.issued_at < each.issued_before
            case "everyone":
                return identity.issued_at < each.issued_before
            case _:
                return False


_TENANTS = st.sampled_from([ACME, OTHER])
_MOMENTS = st.integers(0, 12).map(lambda step: NOW - 60 + 10 * step)
_REVOCATIONS = st.one_of(
    st.builds(revocation, st.just("token"), st.sampled_from(["t0", "t1"]), tenant=_TENANTS),
    st.builds(revocation, st.just("user"), st.sampled_from(["u0", "u1"]), tenant=_TENANTS, issued_before=_MOMENTS),
    st.builds(revocation, st.just("everyone"), tenant=_TENANTS, issued_before=_MOMENTS),
    st.builds(revocation, st.just("session"), st.just("s0"), tenant=_TENANTS),
)
_BEARERS = st.builds(
    bearer,
    st.sampled_from(["u0", "u1", "u2"]),
    token_id=st.sampled_from(["t0", "t1", "t2"]),
    tenant=_TENANTS,
    issued_at=st.integers(0, 6).map(lambda step: NOW - 60 + 10 * step),  # Before the first revocation.
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(_REVOCATIONS, st.integers(0, 30)), max_size=12), st.lists(_BEARERS, min_size=1, max_size=6))
def test_it_covers_what_a_model_covers_while_a_token_can_live(
    added: list[tuple[Revocation, int]], bearers: list[Identity]
) -> None:
    """Whatever is forgotten meanwhile: each token that has not expired is judged alike."""
    clock, model = HandClock(), Model()
    clock.now = NOW
    revocations = Revocations(clock=clock)
    for wanted, seconds in added:
        each = wanted._replace(expires_at=max(clock.now, wanted.issued_before) + LIFE)
        revocations.add(each)
        model.added.append(each)
        clock.now += seconds
        revocations.drop_expired()
        alive = [identity for identity in bearers if clock.now < identity.expires_at]
        assert [revocations.covers(one) for one in alive] == [model.covers(one) for one in alive]


@settings(max_examples=50, deadline=None)
@given(st.lists(_REVOCATIONS, max_size=8), st.randoms(use_true_random=False))
def test_order_and_repeats_make_no_difference(added: list[Revocation], random: st.DataObject) -> None:
    clock = HandClock()
    clock.now = NOW
    one, other = Revocations(clock=clock), Revocations(clock=clock)
    for each in added:
        one.add(each)
    for each in sorted(added * 2, key=lambda _: random.random()):  # type: ignore[attr-defined]
        other.add(each)

    assert len(one) == len(other)
    assert one._by_tenant == other._by_tenant


def test_all_is_forgotten_when_no_token_is_left() -> None:
    clock = HandClock()
    clock.now = NOW
    revocations = Revocations(clock=clock)
    for each in (revocation("token", "t", session="s"), revocation("user", "u"), revocation("everyone", tenant=OTHER)):
        revocations.add(each)
    held = len(revocations)
    clock.now += LIFE
    revocations.drop_expired()

    assert (held, len(revocations), revocations._by_tenant) == (4, 0, {})
    assert not revocations.add(revocation("token", "t"))


def test_what_says_nothing_new_is_told_from_what_does() -> None:
    """A record comes back to the replica that told it, and counts once."""
    clock = HandClock()
    clock.now = NOW
    revocations = Revocations(clock=clock)
    steps = [
        revocation("token", "t"),
        revocation("token", "t", session="s"),
        revocation("user", "u"),
        revocation("user", "u", issued_before=NOW + 1),
        revocation("everyone", issued_before=NOW + 2),
    ]

    assert [revocations.add(each) for each in steps] == [True] * 5
    assert [revocations.add(each) for each in steps] == [False] * 5


def test_at_the_bound_no_tenant_takes_the_room_of_others_and_none_is_forgotten() -> None:
    clock = HandClock()
    clock.now = NOW
    revocations = Revocations(capacity=4, clock=clock)
    for name in ("a", "b"):
        revocations.add(revocation("user", name))

    assert not revocations.has_room_for(revocation("user", "c"))
    assert revocations.has_room_for(revocation("user", "a"))
    assert revocations.has_room_for(revocation("everyone"))
    assert revocations.has_room_for(revocation("user", "c", tenant=OTHER))
    # What another replica has let in is held all the same.
    revocations.add(revocation("user", "c"))
    assert revocations.covers(bearer("c", issued_at=NOW - 1))
    # Everyone makes room: it says all that the users said.
    revocations.add(revocation("everyone"))
    assert len(revocations) == 1
    assert revocations.has_room_for(revocation("user", "c"))


@pytest.mark.parametrize("by", ["session", "token", "user", "everyone"])
def test_a_revocation_is_read_as_it_was_written_and_what_is_newer_is_left_out(by: By) -> None:
    written = revocation(by, "" if by == "everyone" else "name", session="s")

    assert Revocation.read(written._asdict() | {"reason": "of a later version"}) == written


@pytest.mark.parametrize(
    "changed",
    [
        {"id": 1},
        {"tenant": None},
        {"by": "device"},
        {"name": ["a"]},
        {"name": "a" * 257},
        {"issued_before": "now"},
        {"issued_before": True},
        {"expires_at": float("inf")},
        {"expires_at": float("nan")},
        {"expires_at": -1},
        {"session": 7},
    ],
)
def test_a_revocation_that_is_none_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a field of the revocation"):
        Revocation.read(revocation("user", "u")._asdict() | changed)
