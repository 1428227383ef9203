"""A topology and its permissions, written for those who create them: definitions, a script, or Kubernetes objects."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from notifier.broker.permissions import Permission, TopicPermission
from notifier.broker.topology import Binding, Exchange, Queue, Topology

API_VERSION: Final = "rabbitmq.com/v1beta1"
_NO_OBJECT_NAME: Final = re.compile(r"[^a-z0-9.-]+")


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be on a broker. Virtual host and users are there already; nothing here has a password."""

    topology: Topology
    virtual_host: str
    permissions: Sequence[Permission]
    topic_permissions: Sequence[TopicPermission]


def as_definitions(plan: Plan) -> str:
    """JSON for `rabbitmqctl import_definitions`, or for the management interface."""
    host = {"vhost": plan.virtual_host}
    grants = {
        "permissions": [host | asdict(permission) for permission in plan.permissions],
        "topic_permissions": [host | asdict(permission) for permission in plan.topic_permissions],
    }
    return json.dumps(_objects(plan) | grants, indent=2)


def as_script(plan: Plan) -> str:
    """A shell script. rabbitmqctl declares nothing by itself, but imports; RABBITMQCTL may say how it is reached."""
    at = ("-p", plan.virtual_host)
    return "\n".join(
        [
            "#!/bin/sh",
            "# Run it where rabbitmqctl reaches the node. The virtual host and the users must be there already.",
            "set -eu",
            "${RABBITMQCTL:-rabbitmqctl} import_definitions <<'DEFINITIONS'",
            json.dumps(_objects(plan), indent=2),
            "DEFINITIONS",
            *(
                _command("set_permissions", *at, each.user, each.configure, each.write, each.read)
                for each in plan.permissions
            ),
            *(
                _command("set_topic_permissions", *at, each.user, each.exchange, each.write, each.read)
                for each in plan.topic_permissions
            ),
        ]
    )


def as_operator_objects(plan: Plan, *, cluster: str) -> str:
    """Objects of the RabbitMQ messaging topology operator: a stream of JSON documents, which is YAML too."""
    topology = plan.topology
    return "\n".join(
        _document(kind, name, {"vhost": plan.virtual_host} | spec | {"rabbitmqClusterReference": {"name": cluster}})
        for kind, name, spec in (
            *(("Exchange", each.name, _operator_exchange(each)) for each in topology.exchanges),
            *(("Queue", each.name, _operator_queue(each)) for each in topology.queues),
            *(("Binding", each.queue, _operator_binding(each)) for each in topology.bindings),
            *(("Permission", *_operator_grant(each, topology)) for each in plan.permissions),
            *(("TopicPermission", *_operator_grant(each, topology)) for each in plan.topic_permissions),
        )
    )


def _objects(plan: Plan) -> dict[str, Any]:
    host, topology = {"vhost": plan.virtual_host}, plan.topology
    common = {"durable": True, "auto_delete": False}
    return {
        "exchanges": [
            {"name": exchange.name} | host | common | {"type": "topic", "internal": False, "arguments": {}}
            for exchange in topology.exchanges
        ],
        "queues": [
            {"name": queue.name} | host | common | {"arguments": dict(queue.arguments)} for queue in topology.queues
        ],
        "bindings": [
            {"source": binding.exchange}
            | host
            | {"destination": binding.queue, "destination_type": "queue"}
            | {"routing_key": binding.routing_key, "arguments": {}}
            for binding in topology.bindings
        ],
    }


def _operator_exchange(exchange: Exchange) -> dict[str, Any]:
    return {"name": exchange.name, "type": "topic", "durable": True}


def _operator_queue(queue: Queue) -> dict[str, Any]:
    arguments = dict(queue.arguments)
    return {"name": queue.name, "type": arguments["x-queue-type"], "durable": True, "arguments": arguments}


def _operator_binding(binding: Binding) -> dict[str, Any]:
    ends = {"source": binding.exchange, "destination": binding.queue, "destinationType": "queue"}
    return ends | {"routingKey": binding.routing_key}


def _operator_grant(permission: Permission | TopicPermission, topology: Topology) -> tuple[str, dict[str, Any]]:
    """Its name, which has that of an exchange in it since installations may share a user; and what is granted."""
    granted = asdict(permission)
    user = granted.pop("user")
    return f"{topology.exchanges[0].name}.{user}", {"user": user, "permissions": granted}


def _document(kind: str, name: str, spec: dict[str, Any]) -> str:
    document = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": _object_name(name)}, "spec": spec}
    return f"---\n{json.dumps(document, indent=2)}"


def _object_name(name: str) -> str:
    """A name that Kubernetes takes: small letters, digits, dots and hyphens, with a letter or digit at both ends."""
    return _NO_OBJECT_NAME.sub("-", name.lower()).strip("-.")


def _command(*words: str) -> str:
    return f"${{RABBITMQCTL:-rabbitmqctl}} {shlex.join(words)}"
