"""What compose.yaml asks of the service is what the service takes, though there may be no engine here to run it."""

import json
import os
import re
import string
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from notifier.access.development import mint
from notifier.cli import main
from notifier.server import FROZEN_SECONDS, GRACE_SECONDS
from notifier.settings import known_names, read_settings
from tests.replica import Replica

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
REPLICAS = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "notifier"}
SECRET = "a secret of a test that is thirty-two bytes long"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NOTIFIER_") and not name.startswith("NOTIFIER_TEST_")]:
        monkeypatch.delenv(name)


def environment(tmp_path: Path) -> dict[str, str]:
    """That of a replica, with the variables and the secret that the file says to make."""
    secret = tmp_path / "token_secret"
    secret.write_text(SECRET)
    given: dict[str, str] = next(iter(REPLICAS.values()))["environment"]
    variables = dict.fromkeys(re.findall(r"\$\{(\w+)", json.dumps(given)), "secret")
    plain = {name: re.sub(r"\$\{(\w+):\?[^}]*\}", r"${\1}", value) for name, value in given.items()}
    filled = {name: string.Template(value).substitute(variables) for name, value in plain.items()}
    return {name: value.replace("/run/secrets/token_secret", str(secret)) for name, value in filled.items()}


def test_two_replicas_share_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)

    settings = read_settings()

    assert len(REPLICAS) == 2
    assert environment(tmp_path).keys() <= known_names().keys()
    assert settings.journal.is_shared
    assert settings.access.issuers[0].keys[0].material() == SECRET.encode()


def test_the_time_to_stop_is_longer_than_the_drain() -> None:
    http = read_settings({"NOTIFIER_INSECURE": "true"}).http
    drain_seconds = http.drain_delay_seconds + http.drain_window_seconds + FROZEN_SECONDS + 2 * GRACE_SECONDS

    for service in REPLICAS.values():
        assert int(service["stop_grace_period"].removesuffix("s")) > drain_seconds


def test_the_probe_is_a_command_of_the_service(capsys: pytest.CaptureFixture[str]) -> None:
    for service in REPLICAS.values():
        kind, program, *arguments = service["healthcheck"]["test"]

        assert (kind, program) == ("CMD", "notifier")
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--help"])
        assert ended.value.code == 0


def test_a_replica_is_confined_and_its_operations_port_stays_inside() -> None:
    for service in REPLICAS.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert [re.fullmatch(r"127\.0\.0\.1:\d+:8000", port) is not None for port in service["ports"]] == [True]


def test_a_replica_starts_with_it(amqp_url: str, prefix: str, tmp_path: Path) -> None:
    """On a broker of the tests, under names of their own."""
    changed = {"NOTIFIER_JOURNAL__URL": amqp_url, "NOTIFIER_BROKER__PREFIX": prefix, "NOTIFIER_INSECURE": "false"}
    replica = Replica(tmp_path / "replica.log", environment(tmp_path) | changed)
    try:
        token = mint(
            issuer="compose", audience="notifier", key=SECRET, algorithm="HS256", user="a", scopes=["notify:send"]
        )

        assert main(["send", "--url", replica.url, "--token", token, "--user", "alice", "--title", "Hello"]) == 0
    finally:
        assert replica.stop() == 0
