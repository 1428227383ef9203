"""`notifier prove`, and the proof behind it, against real replicas: what it lets pass, and what it must not."""

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from notifier.clients.prove.proof import ProofFailed
from tests.rabbitmq import RabbitMQ
from tests.replica import Replica
from tests.service.client import complaints, eventually
from tests.service.conftest import StartReplica
from tests.service.proof import proof
from tests.service.test_cli import notifier, run
from tests.tcp_proxy import TcpProxy
from tests.tokens import bearer, token

FIGURES = (
    "sessions",
    "sent",
    "retried",
    "received",
    "lost",
    "unexpected",
    "out of order",
    "repeated",
    "resets",
    "p50",
    "p99",
)
QUICK = {"sessions": 20, "rate": 100.0, "seconds": 2.0, "broadcast_share": 0.05}
SECRET = "a secret of our own, of more than 32 bytes"


@pytest.fixture
def amqp_replicas(tmp_path: Path, amqp_url: str, prefix: str) -> Iterator[list[Replica]]:
    """Three replicas that share a journal and a request queue."""
    settings = {"NOTIFIER_JOURNAL__URL": amqp_url, "NOTIFIER_BROKER__PREFIX": prefix}
    with ThreadPoolExecutor() as threads:
        logs = [tmp_path / f"shared-{number}.log" for number in range(3)]
        replicas = list(threads.map(lambda log: Replica(log, settings), logs))
    yield replicas
    for replica in replicas:
        replica.stop()


# -- the command -------------------------------------------------------------------------------------------------------


async def test_prove_finds_nothing_wrong_with_one_replica(replica: Replica) -> None:
    arguments = ("--sessions", "30", "--rate", "100", "--seconds", "2", "--broadcast-share", "0.05")

    code, out, err = await run("prove", "--url", replica.url, *arguments)

    assert code == 0, out + err
    lines = {line[:13].rstrip(): line[13:] for line in out.splitlines()}
    assert tuple(lines) == FIGURES
    assert [lines[name] for name in ("lost", "unexpected", "out of order", "repeated")] == ["0"] * 4
    assert lines["sent"] == "200: 200 accepted, 0 refused, 0 unknown"


async def test_prove_prints_json_for_machines(replica: Replica) -> None:
    arguments = ("--sessions", "10", "--users", "5", "--rate", "100", "--seconds", "0.5", "--json")

    code, out, err = await run("prove", "--url", replica.url, *arguments)
    verdict = json.loads(out)

    assert code == 0, out + err
    assert (verdict["clean"], verdict["sessions"], verdict["accepted"]) == (True, 10, 50)
    assert verdict["lost"] == {"count": 0, "first": []}
    assert verdict["latency_ms"]["p50"] > 0


async def test_prove_finds_what_two_replicas_that_do_not_meet_lose(start_replica: StartReplica) -> None:
    """Each has a journal of its own, so half of everything reaches nobody on the other one."""
    one, other = start_replica(), start_replica()
    arguments = ("--sessions", "10", "--rate", "50", "--seconds", "1", "--settle-seconds", "0.5")

    code, out, _ = await run("prove", "--url", one.url, "--url", other.url, *arguments)
    lines = out.splitlines()

    assert code == 1
    assert int(next(line for line in lines if line.startswith("lost ")).split()[1]) > 10
    assert 1 <= sum(line.startswith("lost: n=") for line in lines) <= 5
    assert any(line.endswith(f"at {one.url}") for line in lines)


async def test_prove_survives_the_kill_of_one_of_three_replicas(
    amqp_replicas: list[Replica], amqp_url: str, prefix: str
) -> None:
    urls = [argument for replica in amqp_replicas for argument in ("--url", replica.url)]
    load = ("--sessions", "30", "--rate", "60", "--seconds", "5", "--amqp", amqp_url, "--prefix", prefix, "--json")

    async with notifier("prove", *urls, *load) as command:
        await command.says("30 sessions are open")
        await _has_sessions_that_received(amqp_replicas[1])
        amqp_replicas[1].stop(signal.SIGKILL)
        code, out, err = await command.end()
    verdict = json.loads(out)

    assert code == 0, out + err
    assert (verdict["accepted"], verdict["closes"]) == (300, {"1006": 10})
    assert verdict["resets"] == 0
    for survivor in (amqp_replicas[0], amqp_replicas[2]):
        assert complaints(survivor.log_path) == []


async def test_prove_with_a_key_or_a_command_for_tokens(start_replica: StartReplica, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(SECRET)
    issuer = {"issuer": "ours", "audiences": ["push"], "algorithms": ["HS256"], "keys": [{"secret": SECRET}]}
    replica = start_replica(INSECURE="false", ACCESS__ISSUERS=json.dumps([issuer]))
    given = f"--issuer ours --audience push --key-file {key_file}"
    command = (
        f"{sys.executable} -m notifier token {given} --user {{user}} --topic prove.# "
        "--scope notify:send --scope notify:broadcast"
    )
    load = ("--url", replica.url, "--sessions", "2", "--rate", "30", "--seconds", "0.5")

    with_key = await run("prove", *load, *given.split())
    with_command = await run("prove", *load, "--token-command", command)
    without = await run("prove", *load)

    assert (with_key[0], with_command[0]) == (0, 0), with_key[2] + with_command[2]
    assert without[0] == 1
    assert "sessions are refused" in without[2]
    assert "401" in without[2]


async def test_prove_with_one_token_for_all(replica: Replica) -> None:
    given = token("everybody", topics=["news"], scopes=["notify:send", "notify:broadcast"])
    load = ("--url", replica.url, "--sessions", "5", "--rate", "50", "--seconds", "1", "--topic", "news")

    code, out, err = await run("prove", *load, "--token", given, "--json")
    verdict = json.loads(out)

    assert code == 0, out + err
    assert verdict["receipts"] == 5 * verdict["accepted"]


async def test_prove_says_what_the_tokens_do_not_allow(replica: Replica) -> None:
    load = ("--url", replica.url, "--sessions", "2", "--rate", "20", "--seconds", "0.5")

    no_topic = await run("prove", *load, "--token", token("ann"))
    no_scope = await run("prove", *load, "--topic-share", "0", "--token", token("ann"))

    assert (no_topic[0], no_scope[0]) == (1, 1)
    assert "ann may not subscribe" in no_topic[2]
    assert "Nothing was accepted" in no_scope[1]
    assert "insufficient_scope" in no_scope[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "ws://127.0.0.1:8000"),
        ("--url", "nonsense"),
        ("--amqp", "http://127.0.0.1"),
        ("--sessions", "0"),
        ("--rate", "-1"),
        ("--seconds", "nan"),
        ("--topic-share", "0.6", "--broadcast-share", "0.6"),
        ("--broadcast-share", "2"),
        ("--token", "a", "--key-file", "b"),
        ("--key-file", "/nowhere"),
        ("--algorithm", "RS256"),
        ("--token-command", "'"),
    ],
)
async def test_prove_refuses_wrong_use(arguments: tuple[str, ...]) -> None:
    code, out, err = await run("prove", *arguments)

    assert (code, out) == (2, "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--token-command", f"{sys.executable} -c raise(SystemExit(3))"), "the token command failed"),
        (("--url", "http://127.0.0.1:1", "--token", "a"), "ConnectionRefusedError"),
    ],
)
async def test_prove_that_cannot_begin_says_why(arguments: tuple[str, ...], words: str) -> None:
    code, out, err = await run("prove", "--sessions", "2", *arguments)

    assert (code, out) == (1, "")
    assert words in err
    assert "Traceback" not in err


# -- the proof under way -----------------------------------------------------------------------------------------------


async def test_a_proof_sees_the_kill_of_a_replica_and_everybody_back(
    amqp_replicas: list[Replica], amqp_url: str, prefix: str
) -> None:
    async with proof(*amqp_replicas, amqp_url=amqp_url, prefix=prefix, **QUICK) as under_way:
        await under_way.sent(50)
        assert len(under_way.untouched) == 20
        amqp_replicas[0].stop(signal.SIGKILL)
        seconds = await under_way.all_live(within_seconds=30)
        await under_way.settle()
        verdict = under_way.verdict()

    assert verdict.is_clean, verdict
    assert verdict.accepted == 200
    assert verdict.foreign == 0
    assert under_way.closed_codes == Counter({1006: 7})
    assert len(under_way.untouched) == 13
    assert {absence.url for absence in under_way.absences} == {amqp_replicas[0].url}
    assert {absence.status for absence in under_way.absences} == {"resumed"}
    assert 0 < max(absence.seconds or 0 for absence in under_way.absences) <= seconds + 1
    assert under_way.latency(under_way.untouched).p50 > 0


async def test_a_proof_follows_sessions_that_are_sent_away(replica: Replica) -> None:
    async with proof(replica, **QUICK) as under_way, httpx.AsyncClient(base_url=replica.operations_url) as operator:
        await under_way.sent(50)
        await operator.post("/rebalance?fraction=1")
        await eventually(lambda: _holds(len(under_way.absences) == 20))
        await under_way.all_live()
        await under_way.settle()
        verdict = under_way.verdict()

    assert verdict.is_clean, verdict
    assert under_way.closed_codes == Counter({4001: 20})
    assert {absence.status for absence in under_way.absences} == {"resumed"}


async def test_a_proof_goes_on_with_fresh_tokens(replica: Replica) -> None:
    async with proof(
        replica, **QUICK, session_token=lambda user: token(user, topics=["#"], lifetime_seconds=2)
    ) as under_way:
        await eventually(lambda: _holds(len(under_way.absences) >= 20))
        await under_way.settle()
        verdict = under_way.verdict()

    assert verdict.is_clean, verdict
    assert set(under_way.closed_codes) == {4401}


async def test_a_proof_counts_what_others_send_apart(replica: Replica) -> None:
    async with (
        proof(replica, **QUICK) as under_way,
        httpx.AsyncClient(base_url=replica.url, headers=bearer()) as backend,
    ):
        body = {"to": {"everyone": True}, "type": "news", "title": "not ours"}
        assert (await backend.post("/notify", json=body)).status_code == 202
        await under_way.settle()
        verdict = under_way.verdict()

    assert verdict.is_clean, verdict
    assert verdict.foreign == 20


async def test_a_proof_pauses_and_stops(replica: Replica) -> None:
    async with proof(replica, **{**QUICK, "seconds": 3_600.0}) as under_way:
        await under_way.sent(20)
        under_way.pause()
        await eventually(lambda: _holds(under_way.load.settled == under_way.load.begun))
        paused_at = under_way.load.begun
        assert await under_way.all_live() < 10
        assert under_way.load.begun <= paused_at + 1  # The one that was about to begin.
        under_way.resume()
        await under_way.sent(paused_at + 20)
        under_way.stop()
        await under_way.settle()
        verdict = under_way.verdict()

    assert verdict.is_clean, verdict
    assert paused_at + 20 <= verdict.accepted < paused_at + 200


async def test_a_proof_of_sessions_without_a_url_says_who_is_away(start_replica: StartReplica) -> None:
    """And goes on once there is a url again; the new replica has another journal, which is a reset for everybody."""
    first = start_replica()
    async with proof(first, **{**QUICK, "seconds": 3_600.0}, retry_seconds=0.5) as under_way:
        await under_way.sent(20)
        under_way.pause()
        under_way.remove_url(first.url)
        first.stop(signal.SIGKILL)
        with pytest.raises(ProofFailed, match=r"0 of 20 sessions are live .*there is no url"):
            await under_way.all_live(within_seconds=2)
        under_way.add_url((await asyncio.to_thread(start_replica)).url)
        await under_way.all_live()
        under_way.resume()
        await under_way.sent(under_way.load.settled + 20)
        under_way.stop()
        await under_way.settle()
        verdict = under_way.verdict()

    assert verdict.is_clean, verdict
    assert verdict.resets == 20
    assert {absence.status for absence in under_way.absences} == {"reset"}


async def test_a_cut_session_comes_back_by_itself(replica: Replica) -> None:
    async with proof(replica, **QUICK) as under_way:
        await under_way.sent(20)
        for receiver in under_way.receivers:
            receiver.cut()
        await under_way.all_live()
        await under_way.settle()
        verdict = under_way.verdict()

    assert verdict.is_clean, verdict
    assert under_way.closed_codes == Counter({1006: 20})


async def test_a_failure_inside_a_proof_is_raised_as_it_is(replica: Replica) -> None:
    with pytest.raises(KeyError):
        async with proof(replica, **QUICK):
            raise KeyError


async def test_a_failure_of_a_proof_is_not_kept_quiet(replica: Replica) -> None:
    """A sender without a token cannot go on, and whoever waits hears of it."""

    def no_token(user: str) -> str:
        raise ValueError(f"no token for {user}")

    with pytest.raises(ExceptionGroup) as raised:
        async with proof(replica, **QUICK, sender_token=no_token) as under_way:
            await under_way.settle()

    assert raised.group_contains(ValueError, match="no token for prove-")


async def test_a_queue_that_is_not_there_is_tried_again_until_it_is_given_up(
    replica: Replica, amqp_url: str, prefix: str
) -> None:
    options = {**QUICK, "seconds": 0.2, "amqp_share": 1.0, "retry_seconds": 1.0}
    async with proof(replica, amqp_url=amqp_url, prefix=prefix, **options) as under_way:
        await under_way.settle()
        verdict = under_way.verdict()

    assert (verdict.accepted, verdict.unknown) == (0, 20)
    assert not verdict.is_clean
    assert set(verdict.retries) <= {"ChannelNotFoundEntity", "ChannelInvalidStateError", "ConnectionClosed"}


async def test_a_wire_to_the_queue_that_breaks_and_falls_silent_loses_nothing(
    start_replica: StartReplica, rabbitmq: RabbitMQ, prefix: str
) -> None:
    """Confirms are lost on their way: what was published is published again, and delivered once."""
    replica = start_replica(JOURNAL__URL=rabbitmq.url(), BROKER__PREFIX=prefix)
    options = {**QUICK, "seconds": 4.0, "amqp_share": 1.0, "prefix": prefix}
    async with (
        TcpProxy("127.0.0.1", rabbitmq.port) as wire,
        proof(replica, amqp_url=wire.url(rabbitmq.url()), **options) as under_way,
    ):
        await under_way.sent(50)
        wire.reset_connections()
        await under_way.sent(150)
        wire.swallow("to_client")
        await eventually(lambda: _holds(under_way.load.begun - under_way.load.settled > 10))
        wire.reset_connections()
        await under_way.settle()
        verdict = under_way.verdict()

    assert verdict.is_clean, verdict
    assert (verdict.accepted, verdict.unknown) == (400, 0)
    assert sum(verdict.retries.values()) > 0


async def _holds(value: bool) -> bool:
    return value


async def _has_sessions_that_received(replica: Replica) -> None:
    """Return once the replica has delivered something."""

    async def has_delivered() -> bool:
        async with httpx.AsyncClient(base_url=replica.operations_url) as operator:
            metrics = (await operator.get("/metrics")).text
        line = next(line for line in metrics.splitlines() if line.startswith("notifier_deliveries_total "))
        return float(line.split()[1]) > 20

    await eventually(has_delivered, within_seconds=30)
