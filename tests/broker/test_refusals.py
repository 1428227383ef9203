"""What brokers of several versions say when they refuse something, and the sentence that is made of it."""

import pytest
from aiormq.exceptions import (
    AMQPError,
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ConnectionInternalError,
)

from notifier.broker.refusals import Difference, explain

TOPICS_OF_SVC = "the topic permissions of the user svc on the exchange"
BIND = {"queue": "write", "exchange": "read"}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (  # 3.10
            "ACCESS_REFUSED - access to queue 'n.journal.v1' in vhost 'shop' refused for user 'svc'",
            "the user svc has no write permission on the queue n.journal.v1 in the virtual host shop",
        ),
        (  # 3.10
            "ACCESS_REFUSED - access to exchange 'n.journal' in vhost '/' refused for user 'svc'",
            "the user svc has no read permission on the exchange n.journal in the virtual host /",
        ),
        (  # 3.12 and newer say which permission it is, and of which backend, if it is not the internal one.
            "ACCESS_REFUSED - configure access to queue 'n.v1' in vhost '/' refused for user 'svc' by backend x",
            "the user svc has no configure permission on the queue n.v1 in the virtual host /",
        ),
        (  # 3.10
            "ACCESS_REFUSED - access to topic '#' in exchange topic 'n.journal' in vhost '/' refused for user 'svc'",
            f"{TOPICS_OF_SVC} n.journal in the virtual host / do not cover the routing key '#'",
        ),
        (  # 3.12 and newer
            "ACCESS_REFUSED - write access to topic 'b.send' in exchange topic 'n' in vhost '/' refused for user 'svc'",
            f"{TOPICS_OF_SVC} n in the virtual host / do not cover the routing key 'b.send'",
        ),
    ],
)
def test_a_missing_permission_is_named(said: str, reason: str) -> None:
    error = explain(ChannelAccessRefused(said), "it cannot be declared", BIND)

    assert str(error) == f"it cannot be declared: {reason}"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            ConnectionInternalError(
                "INTERNAL_ERROR - Cannot declare a queue 'queue 'n.v1' in vhost '/'' of type 'rabbit_stream_queue' on "
                "node 'a@b': the corresponding feature flag is disabled"
            ),
            "the broker's feature flag stream_queue is off: rabbitmqctl enable_feature_flag stream_queue",
        ),
        (
            ChannelPreconditionFailed(
                "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 'n.v1' in vhost '/': "
                "\"unsupported queue type 'stream'\""
            ),
            "this broker has no queues of the type stream",
        ),
        (
            ChannelPreconditionFailed(
                "PRECONDITION_FAILED - stream queue 'n' in vhost '/' does not have a running replica on the local node"
            ),
            "the node that we are connected to has no running replica of it: rabbitmq-streams add_replica",
        ),
        (
            ChannelNotFoundEntity("NOT_FOUND - queue 'n.v1' in vhost '/' process is stopped by supervisor"),
            "ChannelNotFoundEntity: NOT_FOUND - queue 'n.v1' in vhost '/' process is stopped by supervisor",
        ),
    ],
)
def test_another_refusal_is_put_plainly_or_passed_on(error: AMQPError, reason: str) -> None:
    assert str(explain(error, "it cannot be declared", {})) == f"it cannot be declared: {reason}"


def test_what_is_not_there_is_named_with_what_helps() -> None:
    missing = ChannelNotFoundEntity("NOT_FOUND - no exchange 'n.journal' in vhost '/'")

    assert str(explain(missing, "it cannot be checked", {}, remedy="create it")) == (
        "the exchange n.journal is not there, in the virtual host /: create it"
    )


@pytest.mark.parametrize(
    ("said", "difference"),
    [
        (
            "inequivalent arg 'x-max-age' for queue 'n' in vhost '/': received '60s' but current is '3600s'",
            "x-max-age is 3600s there, and should be 60s",
        ),
        (
            "inequivalent arg 'x-o' for ...: received the value 'a' of type 'longstr' but current is none",
            "x-o is not there, and should be a",
        ),
    ],
)
def test_a_difference_is_read(said: str, difference: str) -> None:
    assert str(Difference.read(ChannelPreconditionFailed(f"PRECONDITION_FAILED - {said}"))) == difference
    assert Difference.read(ChannelPreconditionFailed("PRECONDITION_FAILED - unknown delivery tag 1")) is None
