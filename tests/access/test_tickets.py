"""Tickets: what one says, who may read it, how long, and how often."""

import base64
import json
from dataclasses import replace
from typing import Final

import pytest

from notifier.access.tickets import TICKET_SECONDS, Tickets
from notifier.core.errors import TooLarge, Unauthenticated
from notifier.core.identity import Identity, Tenant
from tests.core.fakes import HandClock

OLD, NEW = b"o" * 32, b"n" * 32
ALICE: Final = Identity(
    tenant=Tenant("default"),
    user="auth0|älice",
    issuer="https://issuer.example",
    roles=frozenset({"b", "a"}),
    topic_patterns=(("orders", "#"), ("news",)),
    scopes=frozenset({"notify:send"}),
    tenants=frozenset({"other"}),
    expires_at=4_000.5,
    token_id="jti",
)


def refusal(tickets: Tickets, ticket: str) -> str:
    with pytest.raises(Unauthenticated) as refused:
        tickets.read(ticket)
    return refused.value.code


def test_a_ticket_is_the_identity_without_what_it_may_send() -> None:
    tickets = Tickets([NEW])

    read = tickets.read(tickets.mint(ALICE))

    assert read == replace(ALICE, scopes=frozenset(), tenants=frozenset())


def test_the_first_secret_signs_and_all_verify() -> None:
    """So secrets are rotated in two steps: the new one behind, then before the old one."""
    before, between, after = Tickets([OLD]), Tickets([OLD, NEW]), Tickets([NEW, OLD])

    assert between.read(before.mint(ALICE)).user == ALICE.user
    assert before.read(between.mint(ALICE)).user == ALICE.user
    assert between.read(after.mint(ALICE)).user == ALICE.user
    assert refusal(before, after.mint(ALICE)) == "ticket_invalid"


def test_a_ticket_is_good_for_half_a_minute() -> None:
    """Checklist 3.1.4."""
    clock = HandClock()
    tickets = Tickets([NEW], clock=clock)
    ticket = tickets.mint(ALICE)

    clock.now += TICKET_SECONDS - 0.1
    tickets.read(ticket)
    clock.now += 0.1

    assert refusal(tickets, ticket) == "ticket_expired"


def test_a_ticket_opens_one_session_of_a_replica() -> None:
    """Checklist 3.1.4."""
    here, elsewhere = Tickets([NEW]), Tickets([NEW])
    ticket = here.mint(ALICE)
    here.read(ticket)

    here.redeem(ticket)

    assert refusal(here, ticket) == "ticket_used"
    with pytest.raises(Unauthenticated):
        here.redeem(ticket)
    assert elsewhere.read(ticket).user == ALICE.user


def test_two_tickets_of_one_moment_are_two() -> None:
    tickets = Tickets([NEW], clock=HandClock())
    first, second = tickets.mint(ALICE), tickets.mint(ALICE)

    tickets.redeem(first)

    assert tickets.read(second).user == ALICE.user


def test_used_tickets_are_forgotten_when_they_have_expired() -> None:
    clock = HandClock()
    tickets = Tickets([NEW], clock=clock)
    for _ in range(100):
        tickets.redeem(tickets.mint(ALICE))
        clock.now += 1

    assert len(tickets._used) == len(tickets._used_until) <= TICKET_SECONDS + 2


def test_a_ticket_that_was_changed_is_refused() -> None:
    tickets = Tickets([NEW])
    version, payload, signature = tickets.mint(ALICE).split(".")
    fields = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps(fields | {"user": "eve"}).encode()).decode().rstrip("=")

    for ticket in (
        f"{version}.{forged}.{signature}",
        f"v2.{payload}.{signature}",
        f"{version}.{payload}.{signature}=",
        f"{version}.{payload}=.{signature}",
        f"{version}.{payload}",
        f"{payload}.{signature}",
        f"{version}.{payload}.é",
        f"{version}.{payload}.{signature}" + "x" * 7_000,
        ".." * 3,
        "",
    ):
        assert refusal(tickets, ticket) == "ticket_invalid"


def test_an_identity_too_large_for_a_url_gets_no_ticket() -> None:
    many = replace(ALICE, roles=frozenset(f"role-{number}" for number in range(1_000)))

    with pytest.raises(TooLarge):
        Tickets([NEW]).mint(many)


@pytest.mark.parametrize("secrets", [[], [b"short"], [NEW, b"short"]])
def test_short_secrets_are_refused(secrets: list[bytes]) -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Tickets(secrets)
