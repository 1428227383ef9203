"""What the settings say of RabbitMQ, made ready for the service, and for the commands that look at the broker."""

import platform
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from notifier.broker.connection import Broker
from notifier.broker.rotation import RotatingUrl
from notifier.broker.topology import Names, Topology, control_topology, journal_topology, prepare, request_topology
from notifier.core.pipeline import Pipeline
from notifier.ingress.amqp import BeginTrace, QueueDoor
from notifier.ingress.held import SpendTenant
from notifier.journal.control import RabbitControl
from notifier.journal.rabbitmq import RabbitJournal
from notifier.settings import Settings
from notifier.telemetry.metrics import Reading

CONTROL_SLACK_SECONDS = 3_600  # More than the longest life of a token: a revocation may be about tokens to come.
READ_BACK_SLACK_SECONDS = 60  # Ticks come every few seconds, and the first one read says the epoch.


def build_journal(settings: Settings) -> RabbitJournal:
    """The journal on the broker that the settings name."""
    names = Names(settings.broker.prefix)
    remembered_seconds = max(settings.window.max_age_seconds, settings.idempotency.span_seconds)
    return RabbitJournal(
        broker(RotatingUrl(settings.journal_url_now, name="NOTIFIER_JOURNAL__URL")),
        exchange=names.journal,
        stream=names.stream,
        prepare=partial(prepare, topology=_journal_topology(settings), declares=settings.broker.declare),
        read_back_seconds=remembered_seconds + READ_BACK_SLACK_SECONDS,
        publish_timeout_seconds=settings.journal.publish_timeout_seconds,
    )


def build_control(settings: Settings) -> RabbitControl:
    """The control stream, on the broker of the journal."""
    names = Names(settings.broker.prefix)
    return RabbitControl(
        broker(RotatingUrl(settings.journal_url_now, name="NOTIFIER_JOURNAL__URL")),
        exchange=names.control,
        stream=names.control_stream,
        prepare=partial(prepare, topology=_control_topology(settings), declares=settings.broker.declare),
        read_back_seconds=_control_seconds(settings),
        publish_timeout_seconds=settings.journal.publish_timeout_seconds,
    )


def build_queue_door(
    settings: Settings,
    pipeline: Pipeline,
    check_journal: Callable[[], Awaitable[None]],
    *,
    spend_tenant: SpendTenant,
    begin_trace: BeginTrace | None = None,
) -> QueueDoor:
    """The door for requests from the queue that the settings name; they must name one."""
    names = Names(settings.broker.prefix)
    topology = request_topology(names, is_ordered=settings.queue.ordered)
    return QueueDoor(
        broker(RotatingUrl(settings.queue_url_now, name="NOTIFIER_QUEUE__URL")),
        pipeline,
        queue=names.requests,
        dead_letters=names.dead_letters,
        prepare=partial(prepare, topology=topology, declares=settings.broker.declare),
        check_journal=check_journal,
        spend_tenant=spend_tenant,
        prefetch=settings.queue.prefetch,
        held=settings.queue.held,
        require_message_id=settings.queue.require_message_id,
        begin_trace=begin_trace,
    )


def queue_readings(door: QueueDoor) -> Mapping[str, Reading]:
    """The numbers that the queue door keeps anyway."""
    return {
        "notifier_queue_consuming": lambda: door.is_consuming,
        "notifier_queue_accepted_total": lambda: door.accepted,
        "notifier_queue_held": lambda: len(door.held),
        "notifier_queue_dead_lettered_total": door.refused.total,
        "notifier_queue_connections_lost_total": lambda: door.losses.count,
    }


def journal_readings(journal: RabbitJournal) -> Mapping[str, Reading]:
    """The numbers that the journal keeps anyway."""
    return {
        "notifier_journal_writable": lambda: journal.is_writable,
        "notifier_journal_following": lambda: journal.is_following,
        "notifier_journal_blocked": lambda: journal.is_blocked,
        "notifier_journal_deaf": journal.is_deaf,
        "notifier_journal_silent_seconds": lambda: journal.silent_seconds,
        "notifier_journal_epoch_changes_total": lambda: journal.epoch_changes,
        "notifier_journal_connections_lost_total": lambda: journal.connections_lost,
        "notifier_journal_skipped_records_total": lambda: journal.broken_records + journal.skipped_messages,
        "notifier_journal_skipped_items_total": lambda: journal.skipped_items,
    }


def control_readings(control: RabbitControl) -> Mapping[str, Reading]:
    """The numbers that the control stream keeps anyway."""
    return {
        "notifier_control_following": lambda: control.is_following,
        "notifier_control_connections_lost_total": lambda: control.connections_lost,
        "notifier_control_skipped_messages_total": lambda: control.skipped_messages,
    }


def broker(url: str | Callable[[], str]) -> Broker:
    """A broker, on which this replica is known by the name of its machine or pod; the URL as `Broker` takes it."""
    return Broker(url, name=f"notifier/{platform.node()}")


def topologies(settings: Settings) -> list[tuple[str, Topology]]:
    """What is needed, and on which broker, by its URL: one entry for each broker."""
    needed: dict[str, Topology] = {}
    if settings.journal.is_shared:
        needed[settings.journal.url.get_secret_value()] = _journal_topology(settings) + _control_topology(settings)
    if settings.queue_url is not None:
        requests = request_topology(Names(settings.broker.prefix), is_ordered=settings.queue.ordered)
        present = needed.get(settings.queue_url)
        needed[settings.queue_url] = present + requests if present else requests
    return list(needed.items())


def _journal_topology(settings: Settings) -> Topology:
    return journal_topology(
        Names(settings.broker.prefix),
        max_age_seconds=settings.journal.retention_seconds,
        max_bytes=settings.journal.retention_bytes,
    )


def _control_topology(settings: Settings) -> Topology:
    return control_topology(Names(settings.broker.prefix), max_age_seconds=_control_seconds(settings))


def _control_seconds(settings: Settings) -> int:
    """How long a control record counts: as long as a token that it is about may."""
    return settings.access.token_max_lifetime_seconds + CONTROL_SLACK_SECONDS
