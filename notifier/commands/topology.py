"""`notifier topology`: prints what the settings need on a broker, for those who create it there."""

import argparse
import re
from typing import TYPE_CHECKING, Final

from notifier.commands.failure import fail

if TYPE_CHECKING:
    from notifier.broker.formats import Plan
    from notifier.settings import Settings

FORMATS: Final = ("definitions", "rabbitmqctl", "operator")
EPILOG: Final = """\
The virtual host and the users must be there first: rabbitmqctl add_vhost NAME, rabbitmqctl add_user NAME.
NOTIFIER_BROKER__DECLARE says which permissions the user of notifier gets: to create all of it, or to use it.

  notifier topology --format definitions > notifier.json && rabbitmqctl import_definitions notifier.json
  notifier topology --format rabbitmqctl | sh
  notifier topology --format operator --cluster rabbit | kubectl apply -f -
"""


class _CannotPrint(Exception):
    """What was asked for does not go with the settings."""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "topology",
        help="print exchanges, queues, bindings and permissions on RabbitMQ",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=_topology)
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help=f"default {FORMATS[0]}")
    parser.add_argument("--user", help="the user of notifier; default: that of the URL in the settings")
    parser.add_argument("--answers", action="store_true", help="let it answer messages that have a reply_to")
    parser.add_argument("--publisher", metavar="USER", help="a user of a backend that sends requests")
    parser.add_argument("--tenant", action="append", default=[], type=_tenant, help="for which it may send; repeat it")
    parser.add_argument("--broadcast", action="store_true", help="and to everyone of these tenants")
    parser.add_argument("--part", choices=("journal", "queue"), help="where these are on different brokers")
    parser.add_argument("--cluster", default="rabbitmq", help="the RabbitmqCluster of the operator; default rabbitmq")


def _topology(options: argparse.Namespace) -> int:
    from notifier.broker.formats import as_definitions, as_operator_objects, as_script
    from notifier.settings import SettingsError, read_settings

    try:
        plan = _plan(options, read_settings())
    except SettingsError as error:
        return fail(*error.problems, code=2)
    except _CannotPrint as error:
        return fail(str(error), code=2)
    match options.format:
        case "definitions":
            print(as_definitions(plan))
        case "rabbitmqctl":
            print(as_script(plan))
        case _:
            print(as_operator_objects(plan, cluster=options.cluster))
    return 0


def _plan(options: argparse.Namespace, settings: "Settings") -> "Plan":
    from yarl import URL

    from notifier.broker.formats import Plan
    from notifier.broker.permissions import publisher_permission, publisher_topics, service_permission
    from notifier.broker.topology import Names
    from notifier.engine import topologies

    names = Names(settings.broker.prefix)
    wanted = {"journal": names.stream, "queue": names.requests}.get(options.part)
    needed = [
        (URL(url), topology)
        for url, topology in topologies(settings)
        if wanted is None or wanted in {queue.name for queue in topology.queues}
    ]
    if not needed:
        raise _CannotPrint("the settings name no broker for it: NOTIFIER_JOURNAL__URL, NOTIFIER_QUEUE__URL")
    if len(needed) > 1:
        raise _CannotPrint("the journal and the queue are on different brokers: take one with --part")
    (url, topology), *_ = needed
    user = options.user or url.user or "guest"
    permissions = [service_permission(topology, user=user, declares=settings.broker.declare, answers=options.answers)]
    topics = []
    if options.publisher is not None:
        if names.ingest not in {exchange.name for exchange in topology.exchanges}:
            raise _CannotPrint("--publisher needs the queue of requests, and the settings have none on this broker")
        if not options.tenant:
            raise _CannotPrint("--publisher needs at least one --tenant")
        permissions.append(publisher_permission(names, user=options.publisher))
        topics.append(
            publisher_topics(names, user=options.publisher, tenants=options.tenant, broadcasts=options.broadcast)
        )
    # As aiormq reads it, where the service connects.
    virtual_host = url.path[1:].replace("%2F", "/") or "/"
    return Plan(topology, virtual_host, permissions, topics)


def _tenant(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text, re.ASCII):
        raise argparse.ArgumentTypeError("a tenant is 1 to 64 letters, digits, _ and -")
    return text
