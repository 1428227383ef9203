"""Every object is what Kubernetes takes: by the schemas of each supported version, and by restricted Pod Security."""

from functools import lru_cache
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types
import pytest
from kubernetes_validate.utils import schema_contents  # type: ignore[import-untyped]  # it has no types
from referencing import Registry, Resource

from tests.helm.chart import VERSIONS, Object, changed, of_kind, pod_of

# Kinds of other projects, whose schemas are not Kubernetes' own: of these only what is tested below is known.
FOREIGN = {
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("rabbitmq.com/v1beta1", "RabbitmqCluster"),
}
OURS = {"notifier", "smoke", "rabbitmq", "redis"}
Rendered = dict[str, list[Object]]


@lru_cache
def definitions(version: str) -> Any:
    return Resource.from_contents(
        schema_contents(f"kubernetes-json-schema/v{version}.0-local-strict/_definitions.json", version)
    )


@lru_cache
def validator(version: str, api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    """The strict schema of a kind. Raises FileNotFoundError where this Kubernetes has no such kind."""
    group, _, number = api_version.rpartition("/")
    name = f"{kind.lower()}-{group.partition('.')[0]}-{number}" if group else f"{kind.lower()}-{number}"
    schema = schema_contents(f"kubernetes-json-schema/v{version}.0-local-strict/{name}.json", version)
    registry: Any = definitions(version) @ (Resource.from_contents(schema) @ Registry())
    return jsonschema.Draft202012Validator(schema, registry=registry)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(rendered: Rendered, version: str) -> None:
    foreign = set()
    for objects in rendered.values():
        for each in objects:
            kind = (each["apiVersion"], each["kind"])
            if kind in FOREIGN:
                foreign.add(kind)
                continue
            errors = [
                f"{each['kind']} {'.'.join(map(str, error.absolute_path))}: {error.message}"
                for error in validator(version, *kind).iter_errors(each)
            ]
            assert errors == []

    assert foreign == FOREIGN


def test_a_wrong_object_would_be_found(rendered: Rendered) -> None:
    """The schemas are strict: a misspelt field is an error."""
    deployment = of_kind(rendered["minimal"], "Deployment")
    wrong = changed(deployment, {"spec": {"replica": 1}})

    assert not validator(VERSIONS[-1], "apps/v1", "Deployment").is_valid(wrong)


def test_every_pod_meets_the_restricted_standard(rendered: Rendered) -> None:
    """Checklist 3.4.31."""
    pods = [pod["spec"] for objects in rendered.values() for each in objects if (pod := pod_of(each))]

    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"]["type"] in ("RuntimeDefault", "Localhost")
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert all(volume.keys() <= {"name", "secret", "emptyDir", "configMap"} for volume in pod.get("volumes", []))
        for container in (each for each in pod["containers"] if each["name"] in OURS):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
            assert container["name"] == "rabbitmq" or container["securityContext"]["readOnlyRootFilesystem"] is True


def test_no_user_id_is_set_for_the_service(rendered: Rendered) -> None:
    """OpenShift gives each namespace its own."""
    spec = of_kind(rendered["minimal"], "Deployment")["spec"]["template"]["spec"]

    assert not {"runAsUser", "runAsGroup", "fsGroup"} & (
        spec["securityContext"].keys() | spec["containers"][0]["securityContext"].keys()
    )
