"""What the chart renders: valid for each supported Kubernetes, the same each time, and what the service needs."""

import json
from collections.abc import Mapping

import pytest
import yaml  # type: ignore[import-untyped]  # it has no types

from notifier.server import GRACE_SECONDS
from tests.helm.chart import CASES, CHART, Helm, Object, case, changed, of_kind

Rendered = dict[str, list[Object]]


def container_of(objects: list[Object]) -> Object:
    container: Object = of_kind(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return container


@pytest.mark.parametrize("name", CASES)
def test_lint_finds_nothing(helm: Helm, name: str) -> None:
    helm.lint(case(name))


def test_two_renderings_are_the_same(helm: Helm, texts: Mapping[str, str]) -> None:
    assert helm.text(case("operator")) == texts["operator"]
    assert helm.text(case("development")) == texts["development"]


def test_an_upgrade_renders_what_the_installation_did(helm: Helm, texts: Mapping[str, str]) -> None:
    assert helm.text(case("external"), "--is-upgrade") == texts["external"]


def test_selectors_find_the_pods_that_they_are_for(rendered: Rendered) -> None:
    for objects in rendered.values():
        deployment = of_kind(objects, "Deployment")
        labels = deployment["spec"]["template"]["metadata"]["labels"].items()
        chosen = [deployment["spec"]["selector"]["matchLabels"]]
        chosen += [
            each["spec"]["selector"]
            for each in objects
            if each["kind"] == "Service" and not each["metadata"]["name"].endswith(("-rabbitmq", "-redis"))
        ]
        chosen += [
            each["spec"]["selector"]["matchLabels"]
            for each in objects
            if each["kind"] in ("PodDisruptionBudget", "PodMonitor")
        ]
        chosen += [
            each["labelSelector"]["matchLabels"]
            for each in deployment["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        ]
        assert all(selector.items() <= labels for selector in chosen)
        for monitor in (each for each in objects if each["kind"] == "ServiceMonitor"):
            wanted = monitor["spec"]["selector"]["matchLabels"].items()
            found = [
                each["metadata"]["name"]
                for each in objects
                if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()
            ]
            assert found == [f"{deployment['metadata']['name']}-operations"]


def test_names_fit_however_long_the_release_is(helm: Helm) -> None:
    values = changed(
        case("operator"),
        {"fullnameOverride": "n" * 80, "smoke": {"tokenSecret": {"name": "x"}, "job": {"enabled": True}}},
    )

    assert max(len(each["metadata"]["name"]) for each in helm.objects(values)) <= 63


@pytest.mark.parametrize(
    ("drain", "seconds"),
    [({}, 25), ({"delaySeconds": 0, "windowSeconds": 0}, 0), ({"delaySeconds": 2.5, "windowSeconds": 60}, 63)],
)
def test_the_grace_period_outlasts_the_drain(helm: Helm, drain: dict[str, float], seconds: int) -> None:
    spec = of_kind(helm.objects(changed(case("minimal"), {"drain": drain})), "Deployment")["spec"]

    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == seconds + GRACE_SECONDS + 5


def test_a_rollout_may_take_as_long_as_all_drains(rendered: Rendered) -> None:
    spec = of_kind(rendered["operator"], "Deployment")["spec"]

    assert spec["progressDeadlineSeconds"] >= 3 * spec["template"]["spec"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", CASES)
def test_an_embedded_journal_never_meets_another(rendered: Rendered, name: str) -> None:
    spec = of_kind(rendered[name], "Deployment")["spec"]
    is_shared = name in ("operator", "external", "keda")

    assert spec["strategy"]["type"] == ("RollingUpdate" if is_shared else "Recreate")
    assert spec.get("replicas") == {"operator": 3, "external": None, "keda": None}.get(name, 1)
    if is_shared:
        assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_liveness_asks_nothing_of_the_broker(rendered: Rendered) -> None:
    container = container_of(rendered["external"])

    assert container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert all(container[f"{probe}Probe"]["timeoutSeconds"] > 1 for probe in ("liveness", "startup", "readiness"))


def test_clients_alone_come_in_unless_told_otherwise(rendered: Rendered) -> None:
    """Neither sending nor anything that is added to the public port later."""
    (rule, other) = of_kind(rendered["external"], "Ingress")["spec"]["rules"]

    assert {(path["path"], path["pathType"]) for path in rule["http"]["paths"]} == {
        ("/ws", "Exact"),
        ("/events", "Exact"),
        ("/ticket", "Exact"),
        ("/client", "Prefix"),
    }
    assert rule["http"] == other["http"]


def test_sending_is_let_in_by_a_switch(rendered: Rendered) -> None:
    (rule,) = of_kind(rendered["operator"], "HTTPRoute")["spec"]["rules"]

    assert {(match["path"]["type"], match["path"]["value"]) for match in rule["matches"]} == {
        ("Exact", "/ws"),
        ("Exact", "/ticket"),
        ("PathPrefix", "/assets"),
        ("PathPrefix", "/notify"),
    }
    assert rule["timeouts"] == {"request": "0s"}


@pytest.mark.parametrize(("name", "kind"), [("external", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")])
def test_scaling_down_is_slow(rendered: Rendered, name: str, kind: str) -> None:
    spec = of_kind(rendered[name], kind)["spec"]
    behavior = (
        spec["behavior"] if kind != "ScaledObject" else spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    )

    (policy,) = behavior["scaleDown"]["policies"]
    assert (policy["type"], policy["value"]) == ("Pods", 1)
    assert policy["periodSeconds"] >= 300
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 600


def test_a_budget_is_there_where_there_are_replicas(rendered: Rendered) -> None:
    assert {
        name for name, objects in rendered.items() if any(each["kind"] == "PodDisruptionBudget" for each in objects)
    } == {
        "operator",
        "external",
    }


def test_a_large_number_is_written_out(rendered: Rendered) -> None:
    """YAML reads it as a float, and Go writes 4.294967296e+09, which is no size of a stream."""
    environment = of_kind(rendered["operator"], "ConfigMap", "push-notifier")["data"]

    assert environment["NOTIFIER_JOURNAL__RETENTION_BYTES"] == "4294967296"
    assert environment["NOTIFIER_JOURNAL__PUBLISH_TIMEOUT_SECONDS"] == "2.5"
    assert json.loads(environment["NOTIFIER_ACCESS__TOPIC_RULES"]) == [
        {"match": {"any": True}, "allow": ["user.{sub}.#"]}
    ]


def test_a_changed_setting_starts_the_pods_anew_and_a_new_chart_does_not(helm: Helm, rendered: Rendered) -> None:
    before = of_kind(rendered["minimal"], "Deployment")["spec"]["template"]
    values = changed(case("minimal"), {"settings": {"telemetry": {"log_level": "debug"}}})
    after = of_kind(helm.objects(values), "Deployment")["spec"]["template"]

    assert after["metadata"]["annotations"] != before["metadata"]["annotations"]
    assert not {"helm.sh/chart", "app.kubernetes.io/version"} & before["metadata"]["labels"].keys()


def test_the_policy_names_every_way_in_and_out(rendered: Rendered) -> None:
    """Checklist 3.4.32."""
    policy = of_kind(rendered["operator"], "NetworkPolicy")["spec"]

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert all(rule["from"] and rule["ports"] for rule in policy["ingress"])
    assert all(rule["to"] and rule["ports"] for rule in policy["egress"])
    assert {"app.kubernetes.io/name": "push-notifier-rabbitmq"} in [
        peer.get("podSelector", {}).get("matchLabels") for rule in policy["egress"] for peer in rule["to"]
    ]


def test_the_operators_secret_is_taken_as_it_is(rendered: Rendered) -> None:
    cluster = of_kind(rendered["operator"], "RabbitmqCluster")["metadata"]["name"]
    volumes = of_kind(rendered["operator"], "Deployment")["spec"]["template"]["spec"]["volumes"]

    (secret,) = (volume["secret"] for volume in volumes if volume["name"] == "rabbitmq")
    assert secret == {"secretName": f"{cluster}-default-user", "items": [{"key": "connection_string", "path": "url"}]}


def test_alerts_and_dashboard_arrive_as_they_are(rendered: Rendered) -> None:
    """Their double braces are Prometheus' and Grafana's."""
    rule = of_kind(rendered["operator"], "PrometheusRule")
    board = of_kind(rendered["operator"], "ConfigMap", "-dashboard")

    assert rule["spec"]["groups"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    assert board["data"]["notifier.json"] == (CHART / "files" / "dashboard.json").read_text()
