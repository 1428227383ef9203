"""What an open session says and hears, frame by frame."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.replica import Replica
from tests.service.client import complaints, eventually, session, sessions_of
from tests.service.conftest import on_both_paths
from tests.tokens import bearer

pytestmark = on_both_paths

FRAME_LIMIT_BYTES = 16 * 1024
POSITION = re.compile(r"[A-Za-z0-9._-]{1,64}")
TOPIC_RULES = [
    {"match": {"any": True}, "allow": ["public.#", "user.{sub}.#"]},
    {"match": {"role": "admin"}, "allow": ["admin.*"]},
    {"match": {"scope": "feed:read"}, "allow": ["feed.*"]},
]


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory, module: str) -> Iterator[Replica]:
    """A replica with topic rules, whose heart beats every second."""
    log_path = tmp_path_factory.mktemp("ruled") / "replica.log"
    settings = {"SESSIONS__HEARTBEAT_SECONDS": "1", "ACCESS__TOPIC_RULES": json.dumps(TOPIC_RULES)}
    replica = Replica(log_path, {f"NOTIFIER_{name}": value for name, value in settings.items()}, module=module)
    yield replica
    replica.stop()
    assert complaints(log_path) == []


# -- welcome ---------------------------------------------------------------------------------------------------------


async def test_the_welcome_says_all_that_a_client_needs(replica: Replica) -> None:
    async with session(replica.ws_url, "new|person", tenant="acme", topics=["news.eu"]) as client:
        welcome = client.welcome

    assert welcome.keys() == {
        *("type", "protocol", "session", "tenant", "user", "position", "resume", "topics", "denied"),
        *("heartbeat_seconds", "expires_at", "server_time", "features"),
    }
    assert welcome["protocol"] == "notifier.v1"
    assert re.fullmatch(r"[0-9a-f]{32}", welcome["session"])
    assert (welcome["tenant"], welcome["user"]) == ("acme", "new|person")
    assert POSITION.fullmatch(welcome["position"])
    assert welcome["resume"] == {"status": "new"}
    assert (welcome["topics"], welcome["features"]) == ([], [])
    assert welcome["denied"] == [{"topic": "news.eu", "code": "topic_forbidden"}]
    assert welcome["heartbeat_seconds"] == 25
    assert abs(instant(welcome["server_time"]) - datetime.now(UTC)) < timedelta(seconds=30)
    assert timedelta(minutes=58) < instant(welcome["expires_at"]) - instant(welcome["server_time"]) < timedelta(hours=1)


async def test_two_sessions_have_different_ids(replica: Replica) -> None:
    async with session(replica.ws_url) as one, session(replica.ws_url) as other:
        assert one.welcome["session"] != other.welcome["session"]


async def test_topics_are_granted_by_patterns_of_the_token_and_by_rules(ruled: Replica) -> None:
    wanted = ["orders.eu", "orders.eu.x", "public.a.b", "user.bob.x", "user.eve.x", "admin.a", "feed.a", "bad..topic"]

    async with session(
        ruled.ws_url, "bob", topics=wanted, roles=["admin"], scopes=["feed:read"], extra={"topics": ["orders.*"]}
    ) as client:
        welcome = client.welcome

    assert welcome["topics"] == ["admin.a", "feed.a", "orders.eu", "public.a.b", "user.bob.x"]
    assert welcome["denied"] == [
        {"topic": "orders.eu.x", "code": "topic_forbidden"},
        {"topic": "user.eve.x", "code": "topic_forbidden"},
        {"topic": "bad..topic", "code": "topic_invalid"},
    ]


async def test_a_session_has_at_most_a_hundred_topics(replica: Replica) -> None:
    names = [f"many.{number}" for number in range(101)]

    async with session(replica.ws_url, extra={"topics": ["many.*"]}) as client:
        await client.say(type="subscribe", topics=names)
        subscribed = await client.frame("subscribed")
        await client.say(type="unsubscribe", topics=names[:1])
        await client.frame("unsubscribed")
        await client.say(type="subscribe", topics=names[-1:])
        in_its_place = await client.frame("subscribed")

    assert subscribed["topics"] == sorted(names[:100])
    assert subscribed["denied"] == [{"topic": "many.100", "code": "too_many_topics"}]
    assert in_its_place["topics"] == ["many.100"]


# -- frames of the client --------------------------------------------------------------------------------------------


async def test_subscribing_and_unsubscribing_counts_at_once(replica: Replica, backend: httpx.AsyncClient) -> None:
    async with session(replica.ws_url, extra={"topics": ["sub.*"]}) as client:
        await client.say(type="subscribe", topics=["sub.a", "sub.b", "other"], ref="s")
        subscribed = await client.frame("subscribed")
        await backend.post("/notify", json={"to": {"topics": ["sub.a"]}, "type": "t", "title": "heard"})
        heard = await client.notification()
        await client.say(type="unsubscribe", topics=["sub.a", "never"], ref=7)
        unsubscribed = await client.frame("unsubscribed")
        await backend.post("/notify", json={"to": {"topics": ["sub.a"]}, "type": "t", "title": "unheard"})
        await backend.post("/notify", json={"to": {"topics": ["sub.b"]}, "type": "t", "title": "kept"})
        kept = await client.notification()

    assert (subscribed["ref"], subscribed["topics"]) == ("s", ["sub.a", "sub.b"])
    assert subscribed["denied"] == [{"topic": "other", "code": "topic_forbidden"}]
    assert POSITION.fullmatch(subscribed["position"])
    assert (unsubscribed["ref"], unsubscribed["topics"]) == (7, ["sub.a"])
    assert POSITION.fullmatch(unsubscribed["position"])
    assert (heard["title"], heard["topics"], kept["title"]) == ("heard", ["sub.a"], "kept")


async def test_subscribing_with_a_position_replays_that_topic_alone(
    replica: Replica, backend: httpx.AsyncClient
) -> None:
    async with session(replica.ws_url, "back", extra={"topics": ["past.*"]}) as client:
        before = client.welcome["position"]
        for audience in ({"topics": ["past.a"]}, {"topics": ["past.b"]}, {"users": ["back"]}, {"topics": ["past.a"]}):
            await backend.post("/notify", json={"to": audience, "type": "t", "data": audience})
        live = await client.notification()
        await client.say(type="subscribe", topics=["past.a"], position=before, ref="p")
        subscribed = await client.frame("subscribed")
        replayed = [await client.notification(), await client.notification()]
        rest = await client.drained()

    assert live["data"] == {"users": ["back"]}
    assert subscribed["resume"] == {"status": "resumed", "replayed": 2}
    assert [each["data"] for each in replayed] == [{"topics": ["past.a"]}] * 2
    assert rest == []


async def test_subscribing_with_a_bad_position_says_reset_and_goes_on_live(
    replica: Replica, backend: httpx.AsyncClient
) -> None:
    async with session(replica.ws_url, extra={"topics": ["fresh"]}) as client:
        await client.say(type="subscribe", topics=["fresh"], position="nonsense")
        subscribed = await client.frame("subscribed")
        await backend.post("/notify", json={"to": {"topics": ["fresh"]}, "type": "t", "title": "live"})

        assert (subscribed["resume"]["status"], subscribed["resume"]["reason"]) == ("reset", "position_invalid")
        assert (await client.notification())["title"] == "live"


@pytest.mark.parametrize("ref", ["r", "", 0, -5, "x" * 128, "\u2028\u00e9", "\ud800", "\udfff\ud800"])
async def test_a_ping_is_answered_with_its_ref_and_a_position(replica: Replica, ref: object) -> None:
    async with session(replica.ws_url) as client:
        await client.say(type="ping", ref=ref)
        pong = await client.frame("pong")

    assert pong == {"type": "pong", "ref": ref, "position": pong["position"]}
    assert POSITION.fullmatch(pong["position"])


@pytest.mark.parametrize("ref", [[], {}, ["x"], 1.5, "x" * 129, 10**200])
async def test_a_ref_of_an_odd_kind_is_an_error_that_does_not_repeat_it(replica: Replica, ref: object) -> None:
    async with session(replica.ws_url) as client:
        await client.say(type="ping", ref=ref)
        error = await client.frame("error")
        await client.say(type="ping", ref="still here")

        assert error == {"type": "error", "code": "frame_invalid", "detail": error["detail"]}
        assert (await client.frame("pong"))["ref"] == "still here"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"type": "dance"}, "frame_type_unknown"),
        ({"type": 7}, "frame_type_unknown"),
        ({}, "frame_type_unknown"),
        ({"type": "ack"}, "frame_type_unknown"),
        ({"type": "auth", "token": "x"}, "already_authenticated"),
        ({"type": "subscribe"}, "frame_invalid"),
        ({"type": "subscribe", "topics": "news"}, "frame_invalid"),
        ({"type": "subscribe", "topics": [1]}, "frame_invalid"),
        ({"type": "subscribe", "topics": [], "position": 5}, "frame_invalid"),
        ({"type": "unsubscribe", "topics": {"a": 1}}, "frame_invalid"),
        ({"type": "refresh"}, "frame_invalid"),
        ({"type": "refresh", "token": None}, "frame_invalid"),
    ],
)
async def test_a_frame_that_makes_no_sense_is_an_error_and_the_session_stays(
    replica: Replica, frame: dict[str, Any], code: str
) -> None:
    """Checklist 3.1.8."""
    async with session(replica.ws_url) as client:
        await client.say(**frame, ref="r")
        error = await client.frame("error")

        assert (error["ref"], error["code"]) == ("r", code)
        assert await client.drained() == []


async def test_topics_that_are_no_names_are_denied_whatever_they_hold(replica: Replica) -> None:
    strange = ["", "a..b", "*", "#", "$sys", "a b", "\ud800", "x" * 257, "\u0000"]

    async with session(replica.ws_url, extra={"topics": ["#"]}) as client:
        await client.say(type="subscribe", topics=strange)
        subscribed = await client.frame("subscribed")

    assert subscribed["topics"] == []
    assert subscribed["denied"] == [{"topic": topic, "code": "topic_invalid"} for topic in strange]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"{}", (4400, "binary_frame")),
        ("[1]", (4400, "not_an_object")),
        ('"ping"', (4400, "not_an_object")),
        ("null", (4400, "not_an_object")),
        ("{", (4400, "not_json")),
        ("", (4400, "not_json")),
        ("[" * 5_000, (4400, "not_json")),
        ('{"ref":' + "9" * 5_000 + "}", (4400, "not_strict_json")),
        ('{"type":"ping","type":"auth"}', (4400, "not_strict_json")),
        ('{"type":"ping","ref":NaN}', (4400, "not_strict_json")),
        ('{"type":"ping","x":' + "[" * 8 + "]" * 8 + "}", (4400, "not_strict_json")),
        ("{" + ",".join(f'"{number}":0' for number in range(33)) + "}", (4400, "too_many_members")),
    ],
)
async def test_what_is_no_json_object_in_text_ends_the_session(
    replica: Replica, message: str | bytes, expected: tuple[int, str]
) -> None:
    """Checklist 3.1.8."""
    async with session(replica.ws_url, "rude") as client:
        await client.connection.send(message)

        assert await client.rest() == ([], *expected)


async def test_text_that_is_no_utf8_ends_the_session(replica: Replica) -> None:
    async with session(replica.ws_url, "rude") as client:
        await client.connection.send(b"\xff\xfe", text=True)

        assert (await client.closed())[0] == 1007


async def test_a_frame_of_sixteen_kib_is_read_and_one_byte_more_ends_the_session(replica: Replica) -> None:
    """Checklist 3.1.8."""
    empty = json.dumps({"type": "ping", "ref": "full", "pad": ""})
    full = json.dumps({"type": "ping", "ref": "full", "pad": "x" * (FRAME_LIMIT_BYTES - len(empty))})

    async with session(replica.ws_url, "big") as client:
        await client.connection.send(full)
        pong = await client.frame("pong")
        await client.connection.send(full + " ")
        code, _ = await client.closed()

    assert len(full) == FRAME_LIMIT_BYTES
    assert (pong["ref"], code) == ("full", 1009)


async def test_a_message_in_many_fragments_is_held_to_the_same_limit(replica: Replica) -> None:
    async with session(replica.ws_url, "big") as client:
        await client.connection.send(["x" * 1_024] * 17)

        assert (await client.closed())[0] == 1009


async def test_too_many_frames_end_the_session(replica: Replica) -> None:
    """Checklist 3.1.7."""
    async with session(replica.ws_url, "chatty") as client:
        for number in range(300):
            await client.say(type="ping", ref=number)
        frames, code, reason = await client.rest()

    assert (code, reason) == (4002, "too_many_messages")
    assert [frame["ref"] for frame in frames] == list(range(len(frames)))
    assert 100 <= len(frames) < 300


async def test_a_session_that_ended_is_gone_from_the_hub(replica: Replica) -> None:
    async with session(replica.ws_url, "leaver") as polite, session(replica.ws_url, "leaver") as rude:
        assert len(await sessions_of(replica.operations_url, "leaver")) == 2
        await polite.connection.close()
        await rude.abort()

        await eventually(lambda: has_none(replica, "leaver"))


# -- heartbeat -------------------------------------------------------------------------------------------------------


async def test_a_heartbeat_brings_the_position_behind_what_was_for_others(ruled: Replica) -> None:
    async with session(ruled.ws_url, "idle") as client, httpx.AsyncClient(headers=bearer(), verify=False) as sender:
        await client.frame("heartbeat")
        await sender.post(f"{ruled.url}/notify", json={"to": {"users": ["other"]}, "type": "t", "title": "x"})
        heartbeat = await client.frame("heartbeat")

    assert heartbeat == {"type": "heartbeat", "position": heartbeat["position"]}
    assert POSITION.fullmatch(heartbeat["position"])
    assert heartbeat["position"] != client.welcome["position"]


async def test_who_answers_no_protocol_ping_is_closed_after_two_heartbeats(ruled: Replica) -> None:
    """And who answers them stays, though it says nothing else. Checklist 3.1.12."""
    async with session(ruled.ws_url, "mute") as mute, session(ruled.ws_url, "alive") as alive:
        mute.connection.transport.pause_reading()
        began = asyncio.get_running_loop().time()
        await eventually(lambda: has_none(ruled, "mute"))
        seconds = asyncio.get_running_loop().time() - began
        mute.connection.transport.resume_reading()

        assert seconds > 1
        assert await mute.closed() == (1011, "keepalive ping timeout")
        assert await alive.drained() == []


async def has_none(replica: Replica, user: str) -> bool:
    return await sessions_of(replica.operations_url, user) == []


def instant(text: str) -> datetime:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    return datetime.fromisoformat(text)


async def test_the_replica_of_this_module_has_nothing_to_complain_of(replica: Replica) -> None:
    """The last test here: what clients do wrong is no error of ours."""
    assert complaints(replica.log_path) == []
