"""What the chart renders against the real service: command, environment, mounted secrets, probes and smoke test."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import httpx
import pytest

from notifier.access.development import mint
from notifier.cli import main
from notifier.settings import known_names
from tests.helm.chart import Helm, Object, case, changed, of_kind
from tests.redis import PASSWORD, RedisServer
from tests.replica import Replica

SECRET = "a secret of the identity provider, of at least 32 bytes"
ISSUER: Object = {
    "issuer": "https://id.example.com",
    "audiences": ["notifier"],
    "algorithms": ["HS256"],
    "keys": [{"secret_file": "/etc/notifier/keys/hs"}],
}
QUICK = {"drain": {"delaySeconds": 0, "windowSeconds": 0}}
Secrets = Mapping[str, Mapping[str, str]]


class Kubelet:
    """Does to a container what the kubelet does, as far as one process can tell: files, environment, command."""

    def __init__(self, objects: list[Object], secrets: Secrets, folder: Path) -> None:
        self._secrets = secrets
        self.config = of_kind(objects, "ConfigMap", "push-notifier")["data"]
        self.pod = of_kind(objects, "Deployment")["spec"]["template"]["spec"]
        self.container = self.pod["containers"][0]
        self._folders = {
            mount["mountPath"]: self._mount(mount["name"], folder / mount["name"])
            for mount in self.container["volumeMounts"]
        }

    def _mount(self, name: str, folder: Path) -> Path:
        folder.mkdir()
        (volume,) = (each for each in self.pod["volumes"] if each["name"] == name)
        if "secret" in volume:
            secret = self._secrets[volume["secret"]["secretName"]]
            items = volume["secret"].get("items", [{"key": key, "path": key} for key in secret])
            for item in items:
                (folder / item["path"]).write_text(secret[item["key"]])
        return folder

    def environment(self) -> dict[str, str]:
        """With references to earlier variables put in, and on this machine's folders and free ports of loopback."""
        environment = dict(self.config)
        for each in self.container.get("env", []):
            if "value" in each:
                environment[each["name"]] = re.sub(r"\$\(([A-Z_]+)\)", lambda name: environment[name[1]], each["value"])
            else:
                reference = each["valueFrom"]["secretKeyRef"]
                environment[each["name"]] = self._secrets[reference["name"]][reference["key"]]
        for path, folder in self._folders.items():
            environment = {name: value.replace(path, str(folder)) for name, value in environment.items()}
        ports = {name: "0" for name in environment if name.endswith("__PORT")}
        hosts = {name: "127.0.0.1" for name in environment if name.startswith("NOTIFIER_") and name.endswith("__HOST")}
        return {**environment, **ports, **hosts}

    def probe(self, name: str, replica: Replica) -> int:
        """The status that a probe gets."""
        probe = self.container[f"{name}Probe"]["httpGet"]
        assert probe["port"] == "operations"
        return httpx.get(f"{replica.operations_url}{probe['path']}").status_code


Start = Callable[..., tuple[Kubelet, Replica]]


@pytest.fixture
def start(helm: Helm, tmp_path: Path) -> Iterator[Start]:
    """A function that renders values and runs the container of the pod; the replica is ready when it returns."""
    replicas: list[Replica] = []

    def start(
        values: Object, secrets: Secrets, there: Mapping[str, str] = MappingProxyType({})
    ) -> tuple[Kubelet, Replica]:
        kubelet = Kubelet(helm.objects(values), secrets, tmp_path)
        program, *arguments = kubelet.container["command"]
        command = [str(Path(sys.executable).parent / program), *arguments]
        environment = {"NOTIFIER_INSECURE": "false"} | kubelet.environment()
        for name, address in there.items():  # What the cluster's DNS would tell.
            environment = {key: value.replace(name, address) for key, value in environment.items()}
        replicas.append(Replica(tmp_path / "log", environment, command=command))
        return kubelet, replicas[-1]

    yield start
    for replica in replicas:
        replica.stop()


def token() -> str:
    return mint(
        issuer=ISSUER["issuer"],
        audience="notifier",
        key=SECRET,
        algorithm="HS256",
        user="smoke",
        scopes=["notify:send"],
    )


def smoke(helm: Helm, values: Object, replica: Replica, folder: Path) -> int:
    """The exit code of the command of `helm test`, with the address and the token of the test."""
    pod = of_kind(helm.objects(changed(values, {"smoke": {"tokenSecret": {"name": "smoke"}}})), "Pod")["spec"]
    program, *arguments = pod["containers"][0]["command"]
    assert program == "notifier"
    (folder / "smoke").write_text(token())
    places = {"http://push-notifier:80": replica.url, "/etc/notifier/smoke/token": str(folder / "smoke")}
    assert places.keys() <= set(arguments)
    return main([places.get(argument, argument) for argument in arguments])


def test_the_container_serves_answers_its_probes_and_passes_the_helm_test(
    start: Start, helm: Helm, tmp_path: Path
) -> None:
    values = changed(case("minimal"), {"access": {"issuers": [ISSUER]}, **QUICK})

    kubelet, replica = start(values, {"push-keys": {"hs": SECRET}})

    assert [kubelet.probe(name, replica) for name in ("startup", "liveness", "readiness")] == [200, 200, 200]
    assert {port["name"]: port["containerPort"] for port in kubelet.container["ports"]} == {
        "http": int(kubelet.config["NOTIFIER_HTTP__PORT"]),
        "operations": int(kubelet.config["NOTIFIER_OPERATIONS__PORT"]),
    }
    assert smoke(helm, values, replica, tmp_path) == 0
    assert replica.stop(within_seconds=kubelet.pod["terminationGracePeriodSeconds"]) == 0


@pytest.mark.parametrize("compose", [False, True])
def test_the_container_finds_its_broker_and_issuers_in_secrets(
    compose: bool, start: Start, helm: Helm, tmp_path: Path, amqp_url: str, prefix: str
) -> None:
    """By the secret of the RabbitMQ operator: the whole URL as a file, or its parts put together by the kubelet.

    Checklist 3.4.30.
    """
    address = urlsplit(amqp_url)
    secret = {
        "connection_string": amqp_url,
        "host": str(address.hostname),
        "port": str(address.port or 5672),
        "username": str(address.username),
        "password": str(address.password),
    }
    parts = {"enabled": compose, "virtualHost": address.path.removeprefix("/") or "%2F"}
    values = {
        "access": {
            "issuersSecret": {"name": "access"},
            "keysSecret": {"name": "keys"},
            "ticketsSecret": {"name": "tickets"},
        },
        "rabbitmq": {"mode": "external", "existingSecret": "rabbit", "compose": parts},
        "settings": {"broker": {"prefix": prefix}},
        **QUICK,
    }
    key = tmp_path / "keys" / "hs"
    issuers = json.dumps([{**ISSUER, "keys": [{"secret_file": str(key)}]}])

    files = {"access": {"issuers.json": issuers}, "keys": {"hs": SECRET}, "tickets": {"secrets": f"{'t' * 32}\n"}}
    _, replica = start(values, {"rabbit": secret, **files})
    ticket = httpx.post(f"{replica.url}/ticket", headers={"Authorization": f"Bearer {token()}"})

    checks = httpx.get(f"{replica.operations_url}/readyz").json()["checks"]
    assert "journal" in checks
    assert ticket.status_code == 200
    assert smoke(helm, values, replica, tmp_path) == 0


@pytest.mark.parametrize("mode", ["external", "development"])
def test_the_container_finds_its_redis(mode: str, start: Start, redis: RedisServer) -> None:
    """By the URL in a file, or put together by the kubelet from the password."""
    values = changed(
        case("minimal"),
        {"access": {"issuers": [ISSUER]}, "redis": {"mode": mode, "existingSecret": "redis"}, **QUICK},
    )
    there = {"push-notifier-redis:6379": f"127.0.0.1:{redis.port}"}

    kubelet, replica = start(
        values, {"push-keys": {"hs": SECRET}, "redis": {"url": redis.url, "password": PASSWORD}}, there
    )

    deadline = time.monotonic() + 10
    while "notifier_shared_counts_reached 1.0" not in httpx.get(f"{replica.operations_url}/metrics").text:
        assert time.monotonic() < deadline, replica.log_path.read_text()
    assert ("NOTIFIER_COUNTS__URL" in kubelet.environment()) == (mode == "development")


def test_the_whole_environment_of_each_case_is_known_to_the_service(
    rendered: dict[str, list[Object]],
) -> None:
    """The service refuses an unknown name; so a chart that is ahead of it, or behind, is found here."""
    for objects in rendered.values():
        name = of_kind(objects, "Deployment")["metadata"]["name"]
        (environment,) = (
            each["data"] for each in objects if each["kind"] == "ConfigMap" and each["metadata"]["name"] == name
        )
        assert {name.removesuffix("_FILE") for name in environment} <= known_names().keys()
