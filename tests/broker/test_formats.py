"""What `notifier topology` prints, as far as no broker is needed to judge it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from notifier.broker.formats import Plan, as_definitions, as_operator_objects
from notifier.broker.permissions import exactly, publisher_permission, publisher_topics, service_permission
from notifier.broker.topology import Names, Topology, control_topology, journal_topology, request_topology
from notifier.cli import main

PAGE = (Path(__file__).parent.parent.parent / "docs/rabbitmq.md").read_text()
NAMES = Names("Shop_eu")


def topology() -> Topology:
    journal = journal_topology(NAMES, max_age_seconds=21_600, max_bytes=2 * 1024**3)
    return journal + request_topology(NAMES, is_ordered=True)


def plan(*, declares: bool = False) -> Plan:
    return Plan(
        topology(),
        "push",
        [
            service_permission(topology(), user="notifier", declares=declares, answers=True),
            publisher_permission(NAMES, user="shop"),
        ],
        [publisher_topics(NAMES, user="shop", tenants=["shop", "till"], broadcasts=True)],
    )


def test_a_pattern_matches_its_names_alone() -> None:
    """RabbitMQ looks for a pattern anywhere in a name, and a dot is any character."""
    pattern = exactly(["n.journal", "n.dlx"])

    assert [name for name in ("n.journal", "n.dlx") if re.search(pattern, name)] == ["n.journal", "n.dlx"]
    assert not [name for name in ("n.journal.v1", "an.dlx", "n-dlx", "n.dlx.", "") if re.search(pattern, name)]


def test_a_publisher_may_use_the_keys_of_its_tenants_alone() -> None:
    send = publisher_topics(NAMES, user="shop", tenants=["shop"], broadcasts=False)
    both = publisher_topics(NAMES, user="shop", tenants=["shop", "till"], broadcasts=True)

    assert (send.write, both.write) == (r"^(shop)\.send$", r"^(shop|till)\.(send|broadcast)$")
    assert not re.search(both.write, "workshop.send")


def test_operator_objects_are_yaml_of_the_operator_kinds() -> None:
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(as_operator_objects(plan(), cluster="rabbit")))

    kinds = [document["kind"] for document in documents]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "Exchange": 3,
        "Queue": 3,
        "Binding": 3,
        "Permission": 2,
        "TopicPermission": 1,
    }
    for document in documents:
        assert document["apiVersion"] == "rabbitmq.com/v1beta1"
        assert re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", document["metadata"]["name"])
        assert document["spec"]["vhost"] == "push"
        assert document["spec"]["rabbitmqClusterReference"] == {"name": "rabbit"}
    assert len({(document["kind"], document["metadata"]["name"]) for document in documents}) == len(documents)


def test_operator_objects_and_definitions_say_the_same() -> None:
    definitions = json.loads(as_definitions(plan()))
    specs: dict[str, list[dict[str, Any]]] = {}
    for document in yaml.safe_load_all(as_operator_objects(plan(), cluster="rabbit")):
        specs.setdefault(document["kind"], []).append(document["spec"])

    assert [(each["name"], each["arguments"]) for each in definitions["queues"]] == [
        (each["name"], each["arguments"]) for each in specs["Queue"]
    ]
    assert [(each["source"], each["destination"], each["routing_key"]) for each in definitions["bindings"]] == [
        (each["source"], each["destination"], each["routingKey"]) for each in specs["Binding"]
    ]
    assert [{**each["permissions"], "user": each["user"], "vhost": each["vhost"]} for each in specs["Permission"]] == (
        definitions["permissions"]
    )
    granted = [
        {**each["permissions"], "user": each["user"], "vhost": each["vhost"]} for each in specs["TopicPermission"]
    ]
    assert granted == definitions["topic_permissions"]


@pytest.mark.parametrize(
    ("settings", "arguments", "says"),
    [
        ({}, [], "the settings name no broker"),
        (
            {"NOTIFIER_JOURNAL__URL": "amqp://a/", "NOTIFIER_QUEUE__URL": "amqp://b/"},
            [],
            "different brokers: take one with --part",
        ),
        (
            {"NOTIFIER_JOURNAL__URL": "amqp://a/", "NOTIFIER_QUEUE__URL": "off"},
            ["--publisher", "shop", "--tenant", "shop"],
            "--publisher needs the queue of requests",
        ),
        ({"NOTIFIER_QUEUE__URL": "amqp://a/"}, ["--publisher", "shop"], "at least one --tenant"),
        ({"NOTIFIER_QUEUE__URL": "amqps://u:hidden@a/?no_verify_ssl=1"}, [], "no_verify_ssl would let anybody"),
    ],
)
def test_what_cannot_be_printed_is_refused(
    settings: dict[str, str],
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {"NOTIFIER_INSECURE": "true", **settings}.items():
        monkeypatch.setenv(name, value)

    code = main(["topology", *arguments])

    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert says in printed.err
    assert "hidden" not in printed.err


@pytest.mark.parametrize(
    ("part", "exchanges", "vhost"),
    [("journal", ["notifier.journal", "notifier.control"], "/"), ("queue", ["notifier.ingest", "notifier.dlx"], "a/b")],
)
def test_one_of_two_brokers_is_printed(
    part: str,
    exchanges: list[str],
    vhost: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NOTIFIER_INSECURE", "true")
    monkeypatch.setenv("NOTIFIER_JOURNAL__URL", "amqp://journal:hidden@one")
    monkeypatch.setenv("NOTIFIER_QUEUE__URL", "amqp://queue:hidden@two/a%2Fb")

    assert main(["topology", "--part", part]) == 0

    text = capsys.readouterr().out
    printed = json.loads(text)
    assert [exchange["name"] for exchange in printed["exchanges"]] == exchanges
    assert [(each["user"], each["vhost"]) for each in printed["permissions"]] == [(part, vhost)]
    assert "hidden" not in text


def test_page_names_every_argument_with_its_value() -> None:
    names = Names()
    journal = journal_topology(names, max_age_seconds=21_600, max_bytes=2 * 1024**3)
    control = control_topology(names, max_age_seconds=90_000)
    for queue in (journal + control + request_topology(names, is_ordered=True)).queues:
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{queue.name}`")]
        for name, value in queue.arguments.items():
            assert f"`{name}={str(value).lower() if isinstance(value, bool) else value}`" in row


def test_page_names_the_permissions() -> None:
    names = Names()
    journal = journal_topology(names, max_age_seconds=21_600, max_bytes=2 * 1024**3)
    needed = journal + control_topology(names, max_age_seconds=90_000) + request_topology(names, is_ordered=True)
    used = service_permission(needed, user="notifier", declares=False, answers=False)
    publisher = publisher_permission(names, user="shop")

    for pattern in (used.write, used.read, publisher.write):
        assert f"`{pattern}`".replace("|", r"\|") in PAGE
