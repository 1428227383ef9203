"""The Python client against a running service, through networks and authorisation servers that fail."""

import asyncio
import threading
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import aio_pika
import httpx
import pytest

from notifier.clients import (
    ClientCredentials,
    Forbidden,
    Invalid,
    KeyReused,
    Listener,
    Notification,
    Notifier,
    NotSent,
    RateLimited,
    Refused,
    Sent,
    SyncNotifier,
    Unauthenticated,
    Unconfirmed,
    everyone,
    listen,
    roles,
    topics,
    users,
)
from notifier.clients.credentials import Token
from notifier.clients.event_stream import event_stream
from notifier.clients.listen import Transport
from notifier.clients.queue import QueueNotifier
from notifier.clients.sessions import Refused as SessionRefused
from notifier.clients.socket import socket
from tests.rabbitmq import RabbitMQ
from tests.replica import Replica
from tests.service.client import session
from tests.service.conftest import StartReplica
from tests.tcp_proxy import TcpProxy
from tests.tokens import token

SCOPES = ["notify:send", "notify:broadcast"]


def sending_token(**claims: object) -> str:
    return token("backend", **{"scopes": SCOPES, **claims})


@pytest.fixture
async def notifier(replica: Replica) -> AsyncIterator[Notifier]:
    async with Notifier(replica.url, token=sending_token()) as notifier:
        yield notifier


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return f"python-{abs(hash(request.node.name))}"


@pytest.fixture
async def proxy(replica: Replica) -> AsyncIterator[TcpProxy]:
    """A network between the client and the replica, that may fail."""
    async with TcpProxy("127.0.0.1", replica.port) as proxy:
        yield proxy


async def outcome(notifier: Notifier) -> type[Sent | NotSent]:
    try:
        return type(await notifier.send(to=users("x"), type="t", title="t"))
    except NotSent as error:
        return type(error)


class TestSending:
    async def test_what_is_sent_arrives_as_it_was_said(self, replica: Replica, notifier: Notifier) -> None:
        async with session(replica.ws_url, "client-alice") as alice:
            sent = await notifier.send(
                to=users("client-alice"),
                type="order.shipped",
                title="Order shipped",
                body="On its way ✓",
                link="/orders/1",
                data={"order": 1},
                ttl_seconds=60,
                collapse_key="order-1",
            )
            arrived = await alice.notification()

        assert sent == Sent(arrived["id"])
        assert {name: arrived[name] for name in ("type", "title", "body", "link", "data", "collapse_key")} == {
            "type": "order.shipped",
            "title": "Order shipped",
            "body": "On its way ✓",
            "link": "/orders/1",
            "data": {"order": 1},
            "collapse_key": "order-1",
        }

    async def test_audiences_add_up_and_leave_out(self, replica: Replica, notifier: Notifier) -> None:
        to = (users("sum-a", "sum-b") | roles("sum-crew") | topics("sum.topic")).excluding(users=["sum-b"])
        async with (
            session(replica.ws_url, "sum-a") as a,
            session(replica.ws_url, "sum-b", roles=["sum-crew"]) as b,
            session(replica.ws_url, "sum-c", roles=["sum-crew"]) as c,
        ):
            await notifier.send(to=to, type="sum", title="for some")

            assert (await a.notification())["title"] == (await c.notification())["title"] == "for some"
            assert await b.drained() == []

    async def test_everyone_of_a_tenant_is_meant_by_everyone(self, replica: Replica) -> None:
        notifier = Notifier(replica.url, token=sending_token(tenants=["client-tenant"]))
        async with notifier, session(replica.ws_url, "somebody", tenant="client-tenant") as client:
            await notifier.send(to=everyone().of("client-tenant"), type="all", title="hear")

            assert (await client.notification())["title"] == "hear"

    async def test_a_batch_tells_of_each_what_became_of_it(self, notifier: Notifier) -> None:
        results = await notifier.send_batch(
            [
                Notification(to=users("client-batch"), type="good", title="1"),
                Notification(to=users("client-batch"), type="not good", title="2"),
                Notification(to=users("client-batch"), type="good", title="3", idempotency_key="client-batch-3"),
            ]
        )

        first, second, third = results
        assert isinstance(first, Sent)
        assert isinstance(third, Sent)
        assert isinstance(second, Invalid)
        assert [violation.pointer for violation in second.violations] == ["/type"]

    async def test_a_key_that_was_used_gives_the_same_notification(self, notifier: Notifier) -> None:
        said = Notification(to=users("client-key"), type="once", title="once", idempotency_key="client-key")
        first = await notifier.send(**said)

        assert await notifier.send(**said) == Sent(first.id, is_repeat=True)
        with pytest.raises(KeyReused) as reused:
            await notifier.send(**(said | {"title": "another"}))
        assert reused.value.code == "idempotency_key_reused"

    def test_without_asyncio_it_is_the_same(self, replica: Replica) -> None:
        with SyncNotifier(replica.url, token=sending_token()) as notifier:
            sent = notifier.send(to=users("client-sync"), type="sync", title="hi", idempotency_key="client-sync")
            again = notifier.send(to=users("client-sync"), type="sync", title="hi", idempotency_key="client-sync")
            batch = notifier.send_batch([Notification(to=users("client-sync"), type="sync", title="batch")])
            with pytest.raises(Invalid):
                notifier.send(to=users("client-sync"), type="sync")

        assert again == Sent(sent.id, is_repeat=True)
        assert [type(result) for result in batch] == [Sent]


class TestRefusals:
    async def test_broken_rules_are_named(self, notifier: Notifier) -> None:
        with pytest.raises(Invalid) as refused:
            await notifier.send(to=users(), type="NOT GOOD", data={"deep": [[[[[[[[]]]]]]]]})

        assert refused.value.status == 422
        assert refused.value.request_id is not None
        assert "/data" in {violation.pointer[:5] for violation in refused.value.violations}

    async def test_a_token_that_is_not_good_here(self, replica: Replica) -> None:
        async with Notifier(replica.url, token="no.good.token") as notifier:
            with pytest.raises(Unauthenticated):
                await notifier.send(to=users("x"), type="t", title="t")

    async def test_a_token_that_does_not_allow_it(self, replica: Replica) -> None:
        async with Notifier(replica.url, token=sending_token(scopes=["notify:send"])) as notifier:
            with pytest.raises(Forbidden):
                await notifier.send(to=everyone(), type="t", title="t")

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
    async def test_what_json_cannot_say_is_told_before_anything_is_sent(
        self, notifier: Notifier, value: object
    ) -> None:
        with pytest.raises((ValueError, TypeError)):
            await notifier.send(to=users("x"), type="t", data={"value": value})

    @pytest.mark.parametrize("to", ["alice", ["alice"], {"users": ["alice"]}, None])
    async def test_what_is_no_audience_is_told_with_one_that_is(self, notifier: Notifier, to: Any) -> None:
        with pytest.raises(TypeError, match=r"users\(.alice.\)"):
            await notifier.send(to=to, type="t", title="t")

    async def test_an_address_that_is_none(self) -> None:
        async with Notifier("push.example.com", token="t") as notifier:
            with pytest.raises(Invalid, match=r"push\.example\.com"):
                await notifier.send(to=users("x"), type="t", title="t")


class TestFailures:
    async def test_it_waits_for_a_service_that_is_away(self, proxy: TcpProxy) -> None:
        attempts: asyncio.Queue[str] = asyncio.Queue()

        def current() -> str:
            attempts.put_nowait("attempt")
            return sending_token()

        proxy.cut()
        async with Notifier(f"http://127.0.0.1:{proxy.port}", token=current) as notifier:
            sending = asyncio.create_task(notifier.send(to=users("away"), type="t", title="t"))
            await attempts.get()
            await attempts.get()  # The first has failed.
            proxy.restore()

            assert (await sending).id

    async def test_a_lost_answer_never_means_two_notifications(self, replica: Replica, proxy: TcpProxy) -> None:
        client = httpx.AsyncClient(timeout=0.5)
        notifier = Notifier(f"http://127.0.0.1:{proxy.port}", token=sending_token(), client=client)
        async with notifier, session(replica.ws_url, "client-lost") as alice:
            await notifier.send(to=users("client-lost"), type="first", title="opens the connection")
            proxy.swallow("to_client")
            sent = await notifier.send(to=users("client-lost"), type="second", title="once")
            arrived = [frame["notification"] for frame in await alice.drained()]

        assert sent.is_repeat
        assert [(each["type"], each["id"]) for each in arrived[1:]] == [("second", sent.id)]

    async def test_without_patience_it_says_so_at_once_and_with_the_key(self, proxy: TcpProxy) -> None:
        proxy.cut()
        url = f"http://127.0.0.1:{proxy.port}"
        async with Notifier(url, token=sending_token(), patience_seconds=0) as notifier:
            with pytest.raises(Unconfirmed) as failed:
                await notifier.send(to=users("x"), type="t", title="t", idempotency_key="mine")

        assert (failed.value.code, failed.value.idempotency_key) == ("no_answer", "mine")

    async def test_a_limit_is_waited_for(self, start_replica: StartReplica) -> None:
        replica = start_replica(LIMITS__SEND="1/second")
        async with (
            Notifier(replica.url, token=sending_token(), patience_seconds=0) as hasty,
            Notifier(replica.url, token=sending_token()) as patient,
        ):
            outcomes = [await outcome(hasty) for _ in range(9)]  # A second may end in between.
            assert RateLimited in outcomes

            assert isinstance(await patient.send(to=users("x"), type="t", title="t"), Sent)


class TestTokens:
    async def test_a_callable_is_asked_for_each_request(self, replica: Replica) -> None:
        asked = []

        async def current() -> str:
            asked.append(time.monotonic())
            return sending_token()

        async with Notifier(replica.url, token=current) as notifier:
            await notifier.send(to=users("x"), type="t", title="t")
            await notifier.send(to=users("x"), type="t", title="t")

        assert len(asked) == 2

    async def test_the_white_space_around_a_token_is_left_out(self, replica: Replica, user: str) -> None:
        for given in (f" {sending_token()}\r\n", lambda: f"{sending_token()}\n"):
            async with Notifier(replica.url, token=given) as notifier:
                await notifier.send(to=users("x"), type="t", title="t")
        frames = Heard(Listener(replica.url, f"{token(user)}\n"))
        await frames.until("welcome")
        await frames.close()

    @pytest.mark.parametrize("given", ["", "\n", "eyJ.one\neyJ.two", "eyJ two", "eyJ\u2019"])
    async def test_what_no_header_can_hold_is_no_token_and_is_not_shown(self, given: str) -> None:
        async def sent(token: Token) -> None:
            async with Notifier("http://127.0.0.1:1", token=token) as notifier:
                await notifier.send(to=users("x"), type="t", title="t")

        async def heard() -> None:
            async for _ in listen("http://127.0.0.1:1", token=given):
                pass

        for attempt in (sent(given), sent(lambda: given), heard()):
            with pytest.raises(Unauthenticated) as refused:
                await attempt
            assert refused.value.code == "token_malformed"
            assert "eyJ" not in str(refused.value)

    @pytest.mark.parametrize("given", [None, b"eyJ"])
    def test_what_is_no_text_is_no_token(self, given: Any) -> None:
        with SyncNotifier("http://127.0.0.1:1", token=given) as notifier, pytest.raises(TypeError, match="text"):
            notifier.send(to=users("x"), type="t", title="t")

    async def test_a_token_endpoint_that_is_away_is_the_one_that_is_named(self, replica: Replica) -> None:
        credentials = ClientCredentials("http://127.0.0.1:1/token", "id", "secret")
        told = r"http://127\.0\.0\.1:1/token gave no answer"
        async with Notifier(replica.url, token=credentials, patience_seconds=0) as notifier:
            with pytest.raises(Unconfirmed, match=told) as failed:
                await notifier.send(to=users("x"), type="t", title="t")
        with (
            SyncNotifier(replica.url, token=credentials, patience_seconds=0) as sync_notifier,
            pytest.raises(Unconfirmed, match=told),
        ):
            sync_notifier.send(to=users("x"), type="t", title="t")

        assert failed.value.code == "token_unavailable"

    async def test_client_credentials_are_form_encoded(self, replica: Replica) -> None:
        """RFC 6749, 2.3.1."""
        with authorisation_server([sending_token()]) as server:
            credentials = ClientCredentials(server.url, "a:b", "p%40+ \u00fc")
            async with Notifier(replica.url, token=credentials) as notifier:
                await notifier.send(to=users("x"), type="t", title="t")

        (basic,) = server.logins
        assert b64decode(basic.removeprefix("Basic ")) == b"a%3Ab:p%2540%2B+%C3%BC"

    async def test_client_credentials_ask_once_for_many_and_again_after_a_401(self, replica: Replica) -> None:
        with authorisation_server(["no.good.token", sending_token()]) as server:
            credentials = ClientCredentials(server.url, "id", "secret", scope="notify:send", audience="notifier")
            async with Notifier(replica.url, token=credentials) as notifier:
                await asyncio.gather(*(notifier.send(to=users("x"), type="t", title="t") for _ in range(20)))

        assert server.forms == 2 * [
            {"grant_type": ["client_credentials"], "scope": ["notify:send"], "audience": ["notifier"]}
        ]

    def test_client_credentials_without_asyncio(self, replica: Replica) -> None:
        with authorisation_server(["no.good.token", sending_token()]) as server:
            credentials = ClientCredentials(server.url, "id", "secret")
            with SyncNotifier(replica.url, token=credentials) as notifier:
                notifier.send(to=users("x"), type="t", title="t")
                notifier.send(to=users("x"), type="t", title="t")

        assert len(server.forms) == 2

    async def test_credentials_that_are_refused_are_no_reason_to_try_again(self, replica: Replica) -> None:
        with authorisation_server([]) as server:
            async with Notifier(replica.url, token=ClientCredentials(server.url, "id", "wrong")) as notifier:
                with pytest.raises(Unauthenticated) as refused:
                    await notifier.send(to=users("x"), type="t", title="t")

        assert refused.value.code == "token_refused"
        assert len(server.forms) == 1


class TestQueue:
    async def test_what_is_published_arrives_once_however_often(
        self, rabbitmq: RabbitMQ, prefix: str, start_replica: StartReplica
    ) -> None:
        replica = start_replica(QUEUE__URL=rabbitmq.url(), BROKER__PREFIX=prefix)
        async with (
            QueueNotifier(rabbitmq.url(), prefix=prefix) as notifier,
            session(replica.ws_url, "queue-alice") as alice,
        ):
            said = Notification(to=users("queue-alice"), type="queued", title="hi", idempotency_key="queue-key")
            assert [await notifier.send(**said), await notifier.send(**said)] == ["queue-key", "queue-key"]
            await notifier.send(to=everyone(), type="queued.all", title="to all")
            arrived = [await alice.notification(), await alice.notification()]

        assert [notification["type"] for notification in arrived] == ["queued", "queued.all"]

    async def test_a_connection_that_is_lost_is_opened_again(
        self, rabbitmq: RabbitMQ, prefix: str, start_replica: StartReplica
    ) -> None:
        start_replica(QUEUE__URL=rabbitmq.url(), BROKER__PREFIX=prefix)
        async with (
            TcpProxy("127.0.0.1", rabbitmq.port) as proxy,
            QueueNotifier(proxy.url(rabbitmq.url()), prefix=prefix) as notifier,
        ):
            await notifier.send(to=users("x"), type="t", title="t")
            proxy.reset_connections()

            assert await notifier.send(to=users("x"), type="t", title="t", idempotency_key="again") == "again"

    async def test_a_broker_where_the_service_never_ran_is_told_at_once(self, rabbitmq: RabbitMQ, prefix: str) -> None:
        failed = await refusal(rabbitmq.url(), prefix)

        assert (type(failed), failed.code) == (Refused, "no_exchange")
        assert f"no exchange '{prefix}.ingest' in vhost '/'" in failed.detail
        assert "check --connect" in failed.detail

    async def test_an_exchange_that_leads_nowhere_is_told_at_once(self, rabbitmq: RabbitMQ, prefix: str) -> None:
        async with await aio_pika.connect(rabbitmq.url()) as connection:
            await (await connection.channel()).declare_exchange(f"{prefix}.ingest", "topic")
            failed = await refusal(rabbitmq.url(), prefix)

        assert (type(failed), failed.code) == (Refused, "unroutable")
        assert f"{prefix}.ingest" in failed.detail

    @pytest.mark.parametrize(
        ("user", "password", "vhost", "kind", "code"),
        [
            ("guest", "not-it", "/", Unauthenticated, "login_refused"),
            ("guest", "guest", "nowhere", Forbidden, "no_virtual_host"),
        ],
    )
    async def test_who_may_not_enter_is_told_at_once(
        self, rabbitmq: RabbitMQ, prefix: str, user: str, password: str, vhost: str, kind: type[NotSent], code: str
    ) -> None:
        failed = await refusal(rabbitmq.url(user, password, vhost), prefix)

        assert (type(failed), failed.code) == (kind, code)
        assert f"guest@127.0.0.1:{rabbitmq.port}" in failed.detail
        assert "not-it" not in failed.detail
        assert "guest:guest" not in failed.detail

    async def test_who_may_not_write_is_told_at_once(self, rabbitmq: RabbitMQ, prefix: str) -> None:
        async with await aio_pika.connect(rabbitmq.url()) as connection:
            await (await connection.channel()).declare_exchange(f"{prefix}.ingest", "topic")
            rabbitmq.add_user(prefix, "secret", configure="", write="", read="")
            failed = await refusal(rabbitmq.url(prefix, "secret"), prefix)

        assert (type(failed), failed.code) == (Forbidden, "access_refused")
        assert f"exchange '{prefix}.ingest' in vhost '/' refused for user '{prefix}'" in failed.detail

    async def test_a_topic_that_is_refused_is_told_to_its_sender_and_no_other(
        self, rabbitmq: RabbitMQ, prefix: str
    ) -> None:
        async with await aio_pika.connect(rabbitmq.url()) as connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange(f"{prefix}.ingest", "topic")
            await (await channel.declare_queue(exclusive=True)).bind(exchange, "#")
            rabbitmq.add_user(prefix, "secret", configure="", read="")
            rabbitmq.set_topic_permissions(prefix, f"{prefix}.ingest", write="^default[.]send$")
            async with QueueNotifier(rabbitmq.url(prefix, "secret"), prefix=prefix) as notifier:
                *sent, refused = await asyncio.gather(
                    *(notifier.send(to=users("x"), type="t", title="t", idempotency_key=f"{n}") for n in range(10)),
                    notifier.send(to=everyone(), type="t", title="t"),
                    return_exceptions=True,
                )

        assert sent == [f"{n}" for n in range(10)]
        assert isinstance(refused, Forbidden)
        assert "topic 'default.broadcast'" in refused.detail

    async def test_a_broker_that_is_away_is_named_without_its_password(self, rabbitmq: RabbitMQ, prefix: str) -> None:
        async with TcpProxy("127.0.0.1", rabbitmq.port) as proxy:
            proxy.cut()
            url = proxy.url(rabbitmq.url("shop", "secret"))
            async with QueueNotifier(url, prefix=prefix, patience_seconds=0) as notifier:
                with pytest.raises(Unconfirmed, match=f"shop@127.0.0.1:{proxy.port}/.* cannot be reached") as failed:
                    await notifier.send(to=users("x"), type="t", title="t")

        assert failed.value.code == "no_confirm"
        assert "secret" not in str(failed.value)

    @pytest.mark.parametrize("url", ["", "127.0.0.1", "http://127.0.0.1/"])
    def test_what_is_no_broker_is_told(self, url: str) -> None:
        with pytest.raises(ValueError, match="amqp://"):
            QueueNotifier(url)


async def refusal(url: str, prefix: str) -> NotSent:
    """What a sender with much patience hears at once."""
    async with asyncio.timeout(10), QueueNotifier(url, prefix=prefix, patience_seconds=600) as notifier:
        with pytest.raises(NotSent) as failed:
            await notifier.send(to=users("x"), type="t", title="t")
    return failed.value


class AuthorisationServer:
    """Gives one token after the other, and 400 when there is none left."""

    def __init__(self, tokens: list[str]) -> None:
        self.forms: list[dict[str, list[str]]] = []
        self.logins: list[str] = []
        self._tokens = iter(tokens)
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.http.server_port}/token"

    def _handler(self) -> Callable[..., BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                server.forms.append(parse_qs(body))
                server.logins.append(self.headers["Authorization"])
                token = next(server._tokens, None)
                answer = (
                    '{"error":"invalid_client"}' if token is None else f'{{"access_token":"{token}","expires_in":300}}'
                )
                self.send_response(400 if token is None else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextmanager
def authorisation_server(tokens: list[str]) -> Iterator[AuthorisationServer]:
    server = AuthorisationServer(tokens)
    thread = threading.Thread(target=server.http.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()


class TestListening:
    @pytest.fixture(params=[event_stream, socket], ids=["stream", "socket"])
    def transport(self, request: pytest.FixtureRequest) -> Transport:
        transport: Transport = request.param
        return transport

    async def test_what_is_sent_is_received_across_a_lost_connection(
        self, proxy: TcpProxy, notifier: Notifier, transport: Transport, user: str
    ) -> None:
        frames = Heard(Listener(f"http://127.0.0.1:{proxy.port}", token(user), transport=transport))
        await frames.until("welcome")
        await notifier.send(to=users(user), type="t", title="One")
        await frames.until("notification")
        proxy.cut()
        await frames.until("disconnected")
        await notifier.send(to=users(user), type="t", title="Two")
        proxy.restore()
        assert (await frames.until("welcome"))["resume"] == {"status": "resumed", "replayed": 1}
        await frames.until("notification")
        await frames.close()

        assert frames.titles == ["One", "Two"]

    async def test_notifications_alone_and_a_reset_are_told(
        self, replica: Replica, notifier: Notifier, transport: Transport, user: str
    ) -> None:
        resets: asyncio.Queue[str] = asyncio.Queue()
        listening = listen(
            replica.url,
            token=token(user),
            position="another.1.0",
            on_reset=lambda reset: resets.put_nowait(reset["reason"]),
            transport=transport,
        )
        first = asyncio.ensure_future(anext(listening))
        async with asyncio.timeout(10):
            assert await resets.get() == "epoch_changed"
            await notifier.send(to=users(user), type="t", title="One")
            assert (await first)["title"] == "One"
        await listening.aclose()

    async def test_a_token_is_renewed_before_its_end(self, replica: Replica, transport: Transport, user: str) -> None:
        minted: list[str] = []
        lifetime_seconds = 12  # Also of one for a second attempt, where the machine is too busy for the first.

        async def fresh() -> str:
            minted.append(token(user, lifetime_seconds=lifetime_seconds))
            return minted[-1]

        frames = Heard(Listener(replica.url, fresh, transport=transport))
        await frames.until("token_expiring")
        lifetime_seconds = 600
        kind = "refreshed" if transport is socket else "welcome"
        await frames.until(kind)
        await frames.close()

        assert len(minted) >= 2
        assert "4401" not in str(frames.heard)

    async def test_a_token_that_is_expired_is_asked_for_once_more(self, replica: Replica, transport: Transport) -> None:
        minted: list[str] = []

        def expired() -> str:
            minted.append(token("late", extra={"iat": 1_700_000_000, "exp": 1_700_003_600 + len(minted)}))
            return minted[-1]

        with pytest.raises(SessionRefused) as refused:
            async for _ in listen(replica.url, token=expired, transport=transport):
                pass

        assert (refused.value.code, len(minted)) == (4401, 2)

    async def test_what_is_no_address_is_told(self, transport: Transport) -> None:
        with pytest.raises(ValueError, match="push"):
            async for _ in listen("push.example.com", token="t", transport=transport):
                pass

    async def test_a_service_that_falls_silent_is_left(
        self, proxy: TcpProxy, start_replica: StartReplica, transport: Transport, user: str
    ) -> None:
        replica = start_replica(SESSIONS__HEARTBEAT_SECONDS="1")
        proxy.target = ("127.0.0.1", replica.port)
        frames = Heard(Listener(f"http://127.0.0.1:{proxy.port}", token(user), transport=transport))
        await frames.until("heartbeat")
        proxy.freeze()
        assert "nothing was heard" in (await frames.until("disconnected"))["reason"]
        proxy.restore()
        await frames.until("welcome")
        await frames.close()


class Heard:
    """Reads frames of a listener, one after the other."""

    def __init__(self, listener: Listener) -> None:
        self.heard: list[dict[str, Any]] = []
        self._frames = aiter(listener)

    async def until(self, kind: str) -> dict[str, Any]:
        """The next frame of this type."""
        async with asyncio.timeout(30):
            while True:
                self.heard.append(await anext(self._frames))
                if self.heard[-1]["type"] == kind:
                    return self.heard[-1]

    async def close(self) -> None:
        await self._frames.aclose()

    @property
    def titles(self) -> list[str]:
        return [frame["notification"]["title"] for frame in self.heard if frame["type"] == "notification"]
