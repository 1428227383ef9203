"""Honest resume: a client that comes back gets every missed notification in order, or the word reset."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.replica import Replica
from tests.service.client import Client, complaints, session
from tests.service.conftest import StartReplica, on_both_paths
from tests.tokens import bearer

pytestmark = on_both_paths

RECONNECTS = 1_000
RECONNECTING_USERS = 10


@pytest.fixture(autouse=True)
def calm(tmp_path: Path) -> Iterator[None]:
    """No replica of a test's own may have logged an error by its end."""
    yield
    assert [complaint for log in tmp_path.glob("*.log") for complaint in complaints(log)] == []


@pytest.fixture(params=["one with the embedded journal", "three on RabbitMQ"])
def some_replicas(request: pytest.FixtureRequest, start_replica: StartReplica) -> list[Replica]:
    """Replicas that are one service: a client may go from any to any."""
    if request.param.startswith("one"):
        return [start_replica()]
    url, prefix = request.getfixturevalue("amqp_url"), request.getfixturevalue("prefix")
    return [start_replica(JOURNAL__URL=url, BROKER__PREFIX=prefix) for _ in range(3)]


async def test_reconnecting_in_a_stream_of_notifications_neither_misses_nor_repeats_one(
    some_replicas: list[Replica],
) -> None:
    """T-15: a thousand times from registration over replay to live, each on another replica where there are more."""
    users = [f"restless-{number}" for number in range(RECONNECTING_USERS)]
    async with (
        httpx.AsyncClient(base_url=some_replicas[0].url, headers=bearer(), verify=False) as backend,
        notified(backend, users) as sent,
    ):
        journeys = await asyncio.gather(
            *(
                reconnecting(some_replicas, user, RECONNECTS // RECONNECTING_USERS, pause=number)
                for number, user in enumerate(users)
            )
        )
    rests = await asyncio.gather(
        *(read_up_to(some_replicas[-1], user, journey, sent[-1]) for user, journey in zip(users, journeys, strict=True))
    )

    assert sent[-1] > RECONNECTS // RECONNECTING_USERS
    for journey, rest in zip(journeys, rests, strict=True):
        numbers = journey.numbers + rest
        assert numbers == list(range(numbers[0], sent[-1] + 1))


async def test_an_idle_session_resumes_though_its_window_has_passed_twice(start_replica: StartReplica) -> None:
    """Heartbeats carry the position, also past what was for others."""
    short = start_replica(WINDOW__MAX_AGE_SECONDS="2", SESSIONS__HEARTBEAT_SECONDS="0.25")
    loop = asyncio.get_running_loop()

    async with httpx.AsyncClient(base_url=short.url, headers=bearer(), verify=False) as sender:
        async with session(short.ws_url, "idle") as client:
            ends_at = loop.time() + 4.5
            position = client.welcome["position"]
            while loop.time() < ends_at:
                await sender.post("/notify", json={"to": {"users": ["other"]}, "type": "t", "title": "noise"})
                position = (await client.frame("heartbeat"))["position"]
        missed = await sender.post("/notify", json={"to": {"users": ["idle"]}, "type": "t", "title": "missed"})
        async with session(short.ws_url, "idle", position=position) as client:
            resume, notification = client.welcome["resume"], await client.notification()
        async with session(short.ws_url, "idle", position=client.welcome["position"].split(".")[0] + ".0.0") as old:
            too_old = old.welcome["resume"]

    assert resume == {"status": "resumed", "replayed": 1}
    assert notification["id"] == missed.json()["id"]
    assert (too_old["status"], too_old["reason"]) == ("reset", "window_passed")
    assert re.fullmatch(r"\d{4}-.*Z", too_old["available_since"])


async def test_earliest_replays_what_the_window_holds_for_this_identity(
    replica: Replica, backend: httpx.AsyncClient
) -> None:
    for audience in (
        {"users": ["early"]},
        {"users": ["others"]},
        {"roles": ["birds"]},
        {"topics": ["worms"]},
        {"users": ["early"]},
    ):
        await backend.post("/notify", json={"to": audience, "type": "t", "data": audience})

    async with session(
        replica.ws_url, "early", position="earliest", roles=["birds"], topics=["worms"], extra={"topics": ["worms"]}
    ) as client:
        replayed = [await client.notification() for _ in range(4)]

        assert client.welcome["resume"] == {"status": "resumed", "replayed": 4}
        assert [each["data"] for each in replayed] == [
            {"users": ["early"]},
            {"roles": ["birds"]},
            {"topics": ["worms"]},
            {"users": ["early"]},
        ]
        assert await client.drained() == []


@pytest.mark.parametrize(
    ("presented", "reason"),
    [
        ("", "position_invalid"),
        ("nonsense", "position_invalid"),
        ("{epoch}.1", "position_invalid"),
        ("{epoch}.-1.0", "position_invalid"),
        ("{epoch}.99999999999999999999.0", "position_invalid"),
        ("{epoch}.1.0\u0000", "position_invalid"),
        ("00000000.1.0", "epoch_changed"),
        ("{epoch}.999999999.0", "position_ahead"),
        ("{epoch}.9999999999999999999.999999999", "position_ahead"),
    ],
)
async def test_a_position_that_cannot_be_honoured_is_a_reset_with_its_reason(
    replica: Replica, backend: httpx.AsyncClient, presented: str, reason: str
) -> None:
    """T-11. The session goes on from the tail, live."""
    async with session(replica.ws_url, "lost") as first:
        tail = first.welcome["position"]

    async with session(replica.ws_url, "lost", position=presented.format(epoch=tail.split(".")[0])) as client:
        await backend.post("/notify", json={"to": {"users": ["lost"]}, "type": "t", "title": "live"})
        resume = client.welcome["resume"]

        assert (resume["status"], resume["reason"]) == ("reset", reason)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", resume["available_since"])
        assert (await client.notification())["title"] == "live"


async def test_the_position_of_a_resumed_welcome_is_the_one_presented(
    replica: Replica, backend: httpx.AsyncClient
) -> None:
    async with session(replica.ws_url, "exact") as first:
        presented = first.welcome["position"]
    await backend.post("/notify", json={"to": {"users": ["exact"]}, "type": "t", "title": "missed"})

    async with session(replica.ws_url, "exact", position=presented) as client:
        assert client.welcome["position"] == presented


async def test_thousands_of_missed_notifications_pass_through_a_small_buffer_in_order(
    replica: Replica, backend: httpx.AsyncClient
) -> None:
    async with session(replica.ws_url, "far-behind") as client:
        position = client.welcome["position"]
    for start in range(0, 5_000, 1_000):
        batch = [numbered("far-behind", start + number, body="x" * 100) for number in range(1_000)]
        answer = await backend.post("/notify/batch", json=batch)
        assert answer.status_code == 202

    async with session(replica.ws_url, "far-behind", position=position, receive_buffer_bytes=4_096) as client:
        numbers = [(await client.notification())["data"]["n"] for _ in range(5_000)]

        assert client.welcome["resume"] == {"status": "resumed", "replayed": 5_000}
        assert numbers == list(range(5_000))
        assert await client.drained() == []


class Journey:
    """What one user read over many sessions, and where it stands."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.position: str | None = None

    async def read(self, client: Client) -> None:
        frame = await client.frame("notification")
        self.numbers.append(frame["notification"]["data"]["n"])
        self.position = frame["position"]


async def reconnecting(replicas: list[Replica], user: str, times: int, *, pause: int) -> Journey:
    journey = Journey()
    for number in range(times):
        replica = replicas[(number + pause) % len(replicas)]
        async with session(replica.ws_url, user, position=journey.position) as client:
            if journey.position is not None:
                assert client.welcome["resume"]["status"] == "resumed"
            for _ in range((number + pause) % 7 + 1):
                await journey.read(client)
            await client.abort()
    return journey


async def read_up_to(replica: Replica, user: str, journey: Journey, last: int) -> list[int]:
    rest = Journey()
    async with session(replica.ws_url, user, position=journey.position) as client:
        while (rest.numbers or journey.numbers)[-1] < last:
            await rest.read(client)
        assert await client.drained() == []
    return rest.numbers


@asynccontextmanager
async def notified(backend: httpx.AsyncClient, users: list[str]) -> AsyncIterator[list[int]]:
    """Notify each user over and over, with numbers that count up; yields the list of those sent."""
    sent: list[int] = []
    has_stopped = asyncio.Event()

    async def run() -> None:
        while not has_stopped.is_set():
            number = len(sent)
            answer = await backend.post("/notify/batch", json=[numbered(user, number) for user in users])
            assert answer.status_code == 202
            sent.append(number)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run())
        try:
            yield sent
        finally:
            has_stopped.set()


def numbered(user: str, number: int, **fields: object) -> dict[str, object]:
    return {"to": {"users": [user]}, "type": "count", "data": {"n": number}, **fields}


async def test_the_replica_of_this_module_has_nothing_to_complain_of(replica: Replica) -> None:
    """The last test here."""
    assert complaints(replica.log_path) == []
