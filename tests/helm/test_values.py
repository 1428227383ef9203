"""The chart's values: each is documented, in the schema, and changes what is rendered; what cannot work is refused."""

import copy
import json
import tomllib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # it has no types

from scripts.write_chart_table import README, SCHEMA, VALUES, Value, at, documented, with_settings, with_table
from tests.helm.chart import CASES, CHART, ROOT, Helm, Refused, case, changed

DOCUMENTED = list(documented(VALUES.read_text()))
SHARED = {"rabbitmq": {"mode": "external", "existingSecret": "rabbit"}}


def leaves(values: dict[str, Any], above: str = "") -> list[str]:
    """The paths of all values that hold no others."""
    paths: list[str] = []
    for name, value in values.items():
        path = f"{above}{name}"
        paths += leaves(value, f"{path}.") if isinstance(value, dict) and value else [path]
    return paths


def test_what_is_generated_is_what_the_values_and_the_settings_make() -> None:
    """`make chart` writes both."""
    assert with_table(README.read_text()) == README.read_text()
    assert with_settings(SCHEMA.read_text()) == SCHEMA.read_text()


def test_the_app_version_is_that_of_the_package() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == package["project"]["version"]


def test_every_value_is_documented() -> None:
    paths = {value.path for value in DOCUMENTED}

    for leaf in leaves(yaml.safe_load(VALUES.read_text())):
        steps = leaf.split(".")
        assert paths & {".".join(steps[:count]) for count in range(1, len(steps) + 1)}, leaf


def test_no_object_of_the_schema_takes_an_unknown_name() -> None:
    def open_ones(schema: Any, path: str) -> list[str]:
        if "properties" not in schema:
            return []
        found = [] if schema["additionalProperties"] is False else [path]
        return found + [
            each for name, inner in schema["properties"].items() for each in open_ones(inner, f"{path}.{name}")
        ]

    schema = json.loads(SCHEMA.read_text())

    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert open_ones(schema, "") == []


def test_every_value_is_set_by_a_case_and_changes_what_is_rendered(helm: Helm, texts: dict[str, str]) -> None:
    """Without it, a case renders otherwise, or not at all: so no value is decoration."""

    def means_something(value: Value) -> bool:
        return any(_without(helm, name, value) != texts[name] for name in CASES if _sets(name, value))

    with ThreadPoolExecutor(max_workers=2) as pool:
        outcomes = list(pool.map(means_something, DOCUMENTED))

    assert [value.path for value, changes in zip(DOCUMENTED, outcomes, strict=True) if not changes] == []


def _sets(name: str, value: Value) -> bool:
    try:
        return at(case(name), value.path.split(".")) != value.default
    except (KeyError, TypeError):
        return False


def _without(helm: Helm, name: str, value: Value) -> str:
    values = copy.deepcopy(case(name))
    *above, last = value.path.split(".")
    inner: Any = at(values, above)
    del inner[last]
    try:
        return helm.text(values)
    except Refused as refusal:
        return str(refusal)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replicas": 2}, "replicas"),
        ({"image": {"tags": "1"}}, "tags"),
        ({"replicaCount": 0}, "replicaCount"),
        ({"replicaCount": "two"}, "replicaCount"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"rabbitmq": {"mode": "kafka"}}, "mode"),
        ({"settings": {"sessions": {"max_totals": 1}}}, "max_totals"),
        ({"settings": {"journal": {"publish_timeout_seconds": 4}}}, "publish_timeout_seconds"),
        ({"settings": {"journal": {"url": "amqp://me:secret@host"}}}, "url"),
        ({"settings": {"http": {"port": 80}}}, "port"),
        ({"expose": {"paths": ["ws"]}}, "paths"),
        ({"redis": {"mode": "cluster"}}, "mode"),
        ({"settings": {"counts": {"url": "redis://:secret@host"}}}, "url"),
    ],
)
def test_the_schema_refuses_a_wrong_or_unknown_value_by_its_name(
    helm: Helm, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused) as refusal:
        helm.text(changed(case("minimal"), changes))

    assert "values don't meet the specifications of the schema" in str(refusal.value)
    assert words in str(refusal.value)


SECRET_ISSUER = {
    "issuer": "x",
    "audiences": ["x"],
    "algorithms": ["HS256"],
    "keys": [{"secret": "not for a ConfigMap"}],
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"access": {"issuers": []}}, "nobody could enter: set access.issuers, or access.issuersSecret.name"),
        ({"access": {"issuersSecret": {"name": "x"}}}, "are two answers to one question"),
        ({"access": {"issuers": [SECRET_ISSUER]}}, "access.issuers holds a secret"),
        (SHARED | {"settings": {"access": {"tickets": "on"}}}, "settings.access.tickets is on"),
        ({"replicaCount": 2}, "replicaCount over 1 needs a journal that replicas share"),
        (changed(SHARED, {"replicaCount": 2, "rabbitmq": {"journal": False}}), "replicaCount over 1 needs a journal"),
        ({"autoscaling": {"enabled": True}}, "autoscaling and keda need a journal that replicas share"),
        ({"keda": {"enabled": True, "serverAddress": "x"}}, "autoscaling and keda need a journal that replicas share"),
        (
            SHARED | {"keda": {"enabled": True, "serverAddress": "x"}, "autoscaling": {"enabled": True}},
            "autoscaling and keda would both set the replicas",
        ),
        (SHARED | {"keda": {"enabled": True}}, "keda needs keda.serverAddress"),
        ({"autoscaling": {"minReplicas": 11}}, "autoscaling.minReplicas is over autoscaling.maxReplicas"),
        (changed(SHARED, {"rabbitmq": {"journal": False, "queue": False}}), "nothing is left to do for it"),
        ({"rabbitmq": {"mode": "external"}}, "rabbitmq.mode external needs rabbitmq.existingSecret"),
        ({"rabbitmq": {"mode": "development"}}, "rabbitmq.mode development needs rabbitmq.existingSecret"),
        ({"redis": {"mode": "external"}}, "redis.mode external needs redis.existingSecret"),
        ({"redis": {"mode": "development"}}, "redis.mode development needs redis.existingSecret"),
        ({"ingress": {"enabled": True}}, "ingress needs at least one name in ingress.hosts"),
        ({"httpRoute": {"enabled": True}}, "httpRoute needs at least one gateway"),
        ({"networkPolicy": {"enabled": True}}, "networkPolicy would keep everybody out"),
        (SHARED | {"networkPolicy": {"enabled": True, "publicFrom": [{}]}}, "networkPolicy would keep notifier from"),
        (
            {
                "networkPolicy": {"enabled": True, "publicFrom": [{}]},
                "redis": {"mode": "external", "existingSecret": "redis"},
            },
            "networkPolicy would keep notifier from its Redis",
        ),
        (
            {
                "networkPolicy": {"enabled": True, "publicFrom": [{}]},
                "access": {"issuers": [{"issuer": "https://id.example.com", "audiences": ["x"], "preset": "okta"}]},
            },
            "networkPolicy would keep notifier from the keys of https://id.example.com",
        ),
        (
            {"monitoring": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
            "would count everything twice",
        ),
        ({"smoke": {"job": {"enabled": True}}}, "smoke.job needs a token"),
        ({"extraEnv": [{"name": "NOTIFIER_HTTP__PORT", "value": "1"}]}, "extraEnv sets NOTIFIER_HTTP__PORT"),
        (
            SHARED | {"extraEnv": [{"name": "NOTIFIER_JOURNAL__URL", "value": "x"}]},
            "extraEnv sets NOTIFIER_JOURNAL__URL",
        ),
    ],
)
def test_a_combination_that_cannot_work_is_refused_with_a_sentence(
    helm: Helm, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused, match="notifier cannot work with these values:") as refusal:
        helm.text(changed(case("minimal"), changes))

    assert words in str(refusal.value)
    assert "secret: not" not in str(refusal.value)


def test_every_mistake_is_told_at_once(helm: Helm) -> None:
    with pytest.raises(Refused) as refusal:
        helm.text({"replicaCount": 2, "ingress": {"enabled": True}})

    assert str(refusal.value).count("\n  * ") == 3
