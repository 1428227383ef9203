"""Fixtures for tests against RabbitMQ and Redis, names that keep tests apart; and a look at all logs at the end."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.leaks import leaks
from tests.rabbitmq import NO_SERVER, RabbitMQ, find_server
from tests.redis import NO_REDIS, RedisServer, find_redis


@contextmanager
def private_node() -> Iterator[RabbitMQ]:
    """A running node. Skips where there is no RabbitMQ; with CI=true that is a failure."""
    if os.environ.get("NOTIFIER_TEST_AMQP_URL"):
        pytest.skip("the broker of NOTIFIER_TEST_AMQP_URL is not ours to stop, to block or to look into")
    server = find_server()
    if server is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(NO_SERVER)
    with RabbitMQ(server) as node:
        yield node


@pytest.fixture(scope="session", autouse=True)
def logs_without_secrets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Looks at the end at what all replicas have logged; set up first, so that they have stopped by then."""
    yield
    assert [f"{leak.file}:{leak.line}: {leak.kind}" for leak in leaks(tmp_path_factory.getbasetemp())] == []


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """One private node for all tests that neither stop nor block it."""
    with private_node() as node:
        yield node


@pytest.fixture(scope="session")
def amqp_url(request: pytest.FixtureRequest) -> str:
    """The broker of NOTIFIER_TEST_AMQP_URL, else the shared private node."""
    given = os.environ.get("NOTIFIER_TEST_AMQP_URL")
    if given:
        return given
    node: RabbitMQ = request.getfixturevalue("rabbitmq")
    return node.url()


@pytest.fixture(scope="module")
def own_node() -> Iterator[RabbitMQ]:
    """A private node for the tests of one module that stop or block one; they take it as `own_rabbitmq`."""
    with private_node() as node:
        yield node


@pytest.fixture
def own_rabbitmq(own_node: RabbitMQ) -> RabbitMQ:
    """The module's own node, running and unblocked, whatever the test before did to it."""
    own_node.heal()
    return own_node


@pytest.fixture(scope="module")
def own_redis() -> Iterator[RedisServer]:
    """A Redis for the tests of one module, which may stop it. Skips where there is none; a failure with CI=true."""
    server = find_redis()
    if server is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(NO_REDIS)
    with RedisServer(server) as running:
        yield running


@pytest.fixture
def redis(own_redis: RedisServer) -> RedisServer:
    """The module's own Redis, running, whatever the test before did to it."""
    own_redis.heal()
    return own_redis


@pytest.fixture
def prefix() -> str:
    """A topology prefix of the test's own, so that tests on one broker do not meet. What they declare stays there."""
    return f"t{secrets.token_hex(4)}"
