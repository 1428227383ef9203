"""Two replicas and one Redis: what is counted together, and what happens while Redis is away: T-41, T-43."""

from collections.abc import Iterator, Sequence

import httpx
import pytest

from tests.ingress.builders import notification
from tests.redis import RedisServer
from tests.replica import Replica
from tests.service.client import PROTOCOL, bare, complaints, eventually, refusal, session, sessions_of
from tests.service.conftest import StartReplica
from tests.telemetry.scrape import scrape
from tests.tokens import bearer, token

# The machine of the tests is busy, so an answer is awaited for longer; and nobody waits half a minute for the next try.
SETTINGS = {"COUNTS__PATIENCE_SECONDS": "2", "COUNTS__AWAY_SECONDS": "0.5", "LIMITS__SEND": "3/day"}


async def reached(replicas: Sequence[Replica]) -> None:
    """Return when all of them count together."""

    async def all_do() -> bool:
        return all([(await scrape(replica)).value("notifier_shared_counts_reached") for replica in replicas])

    await eventually(all_do)


@pytest.fixture(scope="module")
def pair(own_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Replica, Replica]]:
    """Two replicas, with a journal each, that let a user have two sessions and send three notifications a day."""
    given = {**SETTINGS, "COUNTS__URL": own_redis.url, "SESSIONS__MAX_PER_USER": "2"}
    settings = {f"NOTIFIER_{name}": value for name, value in given.items()}
    directory = tmp_path_factory.mktemp("pair")
    one, two = (Replica(directory / f"replica-{number}.log", settings) for number in range(2))
    yield one, two
    for replica in (one, two):
        replica.stop()
        assert complaints(replica.log_path) == []


async def send(replica: Replica, user: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=replica.url, verify=False) as backend:
        return await backend.post("/notify", json=notification(), headers=bearer(user))


def offering(user: str) -> list[str]:
    return [PROTOCOL, f"bearer.{token(user)}"]


async def test_a_caller_has_one_allowance_and_a_user_one_number_of_sessions(pair: tuple[Replica, Replica]) -> None:
    """Whatever replica they come to; and where they stand is told as all replicas have it. Checklist 2.5."""
    one, two = pair
    await reached(pair)
    answers = [await send(replica, "caller") for replica in (one, two, one, two)]

    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    assert [answer.headers["ratelimit"][:10] for answer in answers] == [f'"send";r={left}' for left in (2, 1, 0, 0)]
    assert int(answers[3].headers["retry-after"]) >= 1

    async with session(one.ws_url, "member"):
        async with session(two.ws_url, "member"):
            for replica in pair:
                status, problem, headers = await refusal(replica.ws_url, subprotocols=offering("member"))
                assert (status, problem["code"]) == (429, "too_many_sessions")
                assert 2 <= int(headers["retry-after"]) <= 11
            async with bare(one.ws_url, subprotocols=offering("member"), headers=[("Origin", one.url)]) as browser:
                assert await browser.closed() == (4004, "too_many_sessions")

        async def is_let_in() -> bool:
            try:
                async with session(one.ws_url, "member"):
                    return True
            except Exception:  # noqa: BLE001 - refused, over HTTP
                return False

        await eventually(is_let_in, within_seconds=1)  # T-41: freed within a second after a close.


async def test_a_redis_that_dies_freezes_and_returns_is_no_error_and_no_end_of_limits(
    own_redis: RedisServer, pair: tuple[Replica, Replica]
) -> None:
    """T-43: each replica counts for itself meanwhile: an answer, the right one, and soon. Checklist 2.4."""
    for number, (away, back) in enumerate([(own_redis.kill, own_redis.start), (own_redis.suspend, own_redis.resume)]):
        away()
        for replica in pair:
            answers = [await send(replica, f"caller-{number}") for _ in range(4)]
            assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
            async with session(replica.ws_url, f"m-{number}"), session(replica.ws_url, f"m-{number}"):
                status, _, _ = await refusal(replica.ws_url, subprotocols=offering(f"m-{number}"))
                assert status == 429
        back()
        await reached(pair)
        assert [(await send(replica, f"late-{number}")).status_code for replica in (*pair, *pair)] == [202] * 3 + [429]


async def test_sessions_of_a_replica_that_drains_do_not_count(pair: tuple[Replica, Replica]) -> None:
    """They are told to come back, and would find their place taken by themselves otherwise. The last with this pair."""
    one, two = pair
    await reached(pair)
    async with session(one.ws_url, "drained") as first, session(one.ws_url, "drained") as second:
        one.stop()
        assert [(await client.rest())[1] for client in (first, second)] == [4001, 4001]

        async with session(two.ws_url, "drained"), session(two.ws_url, "drained"):
            pass


async def test_the_oldest_session_gives_way_on_another_replica(redis: RedisServer, start_replica: StartReplica) -> None:
    """4409: it is not to come back by itself, or two devices would throw each other out for ever."""
    settings = {"COUNTS__URL": redis.url, "SESSIONS__MAX_PER_USER": "1", "SESSIONS__AT_LIMIT": "evict_oldest"}
    one, two = (start_replica(**SETTINGS, **settings) for _ in range(2))
    await reached([one, two])

    async with session(one.ws_url, "mover") as old, session(two.ws_url, "mover") as new:
        assert await old.closed() == (4409, "superseded")
        assert await new.drained() == []
        assert await sessions_of(one.operations_url, "mover") == []
        assert (await scrape(one)).value("notifier_sessions_evicted_total", limit="shared") == 1
        assert (await scrape(two)).value("notifier_sessions_closed_total", reason="superseded") == 0


async def test_a_replica_starts_without_its_redis_and_takes_it_up_later(
    redis: RedisServer, start_replica: StartReplica
) -> None:
    redis.kill()
    replica = start_replica(**SETTINGS, COUNTS__URL=redis.url)
    assert [(await send(replica, "early")).status_code for _ in range(4)] == [202, 202, 202, 429]
    assert (await scrape(replica)).value("notifier_shared_counts_reached") == 0

    redis.start()
    await reached([replica])

    assert (await send(replica, "late")).status_code == 202
