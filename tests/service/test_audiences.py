"""Who receives what: random audiences over many sessions, against a model written down from the contract."""

from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

from tests.ingress.builders import notification
from tests.replica import Replica
from tests.service.client import Client, session
from tests.tokens import bearer

TENANTS = ("red", "green", "blue")
USERS = [f"user-{number}" for number in range(10)]  # The same names in each tenant, so that a mix-up would show.
ROLES = ["admin", "intern", "driver", "auditor"]
TOPICS = [f"model.{name}" for name in ("a", "b", "a.x", "a.y", "c")]
AUDIENCES = 200


@dataclass(frozen=True)
class Person:
    """One session of the model."""

    tenant: str
    user: str
    roles: frozenset[str]
    topics: frozenset[str]


def people(random: Random) -> list[Person]:
    """30 users with one session each, and a second session with topics of its own for every third."""
    made: list[Person] = []
    for tenant in TENANTS:
        for number, user in enumerate(USERS):
            roles = frozenset(random.sample(ROLES, random.randint(0, 2)))
            sessions = 2 if number % 3 == 0 else 1
            subscribed = [frozenset(random.sample(TOPICS, random.randint(0, 3))) for _ in range(sessions)]
            made += [Person(tenant, user, roles, topics) for topics in subscribed]
    return made


def audience(random: Random) -> dict[str, Any]:
    """A random `to` that names somebody."""
    to: dict[str, Any] = {}
    while not to:
        if random.random() < 0.5:
            to["users"] = random.sample(USERS, random.randint(1, 4))
        if random.random() < 0.4:
            to["topics"] = random.sample(TOPICS, random.randint(1, 2))
        if random.random() < 0.3:
            to["roles"] = random.sample(ROLES, random.randint(1, 2))
        if random.random() < 0.1:
            to["everyone"] = True
    if random.random() < 0.4:
        to["exclude"] = {"users": random.sample(USERS, random.randint(0, 3))}
        if random.random() < 0.5:
            to["exclude"]["roles"] = random.sample(ROLES, 1)
    return to | {"tenant": random.choice(TENANTS)}


def is_meant(person: Person, to: dict[str, Any]) -> bool:
    """The contract: the union of what `to` names in its tenant, less `exclude`."""
    if person.tenant != to["tenant"]:
        return False
    excluded = to.get("exclude", {})
    if person.user in excluded.get("users", []) or person.roles.intersection(excluded.get("roles", [])):
        return False
    return (
        to.get("everyone", False)
        or person.user in to.get("users", [])
        or not person.topics.isdisjoint(to.get("topics", []))
        or not person.roles.isdisjoint(to.get("roles", []))
    )


def open_session(replica: Replica, person: Person, **options: Any) -> Any:
    return session(
        replica.ws_url,
        person.user,
        tenant=person.tenant,
        roles=sorted(person.roles),
        topics=sorted(person.topics),
        extra={"topics": ["model.#"]},
        **options,
    )


async def titles_up_to_end(client: Client) -> list[str]:
    titles: list[str] = []
    while (title := (await client.notification())["title"]) != "end":
        titles.append(title)
    return titles


async def send_all(sender: httpx.AsyncClient, audiences: list[dict[str, Any]], random: Random) -> None:
    """By single requests and by batches, in order."""
    requests = [notification(to=to, title=str(number)) for number, to in enumerate(audiences)]
    requests += [notification(to={"everyone": True, "tenant": tenant}, title="end") for tenant in TENANTS]
    while requests:
        size = random.choice([1, 1, 1, 10, 30])
        share, requests = requests[:size], requests[size:]
        path, body = ("/notify", share[0]) if size == 1 else ("/notify/batch", share)
        answer = await sender.post(path, json=body)
        assert answer.status_code == 202, answer.text


async def test_each_session_receives_exactly_what_is_meant_for_it_in_order_live_and_on_replay(
    start_replica: Any,
) -> None:
    random = Random(20_261_121)
    # The broadcasts among the audiences are over what one caller may send in a second.
    replica = start_replica(LIMITS__BROADCAST="10000/second")
    everybody, audiences = people(random), [audience(random) for _ in range(AUDIENCES)]
    expected = [[str(number) for number, to in enumerate(audiences) if is_meant(person, to)] for person in everybody]
    sender = bearer(scopes=["notify:send", "notify:broadcast", "notify:any-tenant"])

    opened = [open_session(replica, person) for person in everybody]
    clients: list[Client] = [await each.__aenter__() for each in opened]
    try:
        async with httpx.AsyncClient(base_url=replica.url, headers=sender) as backend:
            await send_all(backend, audiences, random)
        received = [await titles_up_to_end(client) for client in clients]
    finally:
        for each in opened:
            await each.__aexit__(None, None, None)
    replayed: list[list[str]] = []
    for person in everybody:
        async with open_session(replica, person, position="earliest") as client:
            replayed.append(await titles_up_to_end(client))

    assert received == expected
    assert replayed == expected
    # The model itself must not be empty: most people get something, and nobody gets everything.
    assert all(0 < len(titles) < AUDIENCES / 2 for titles in expected)
