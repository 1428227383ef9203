"""Settings as an operator meets them: what is refused, in which words, and what the command line makes of tokens."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from jose import jwt

from notifier.cli import main
from notifier.settings import Settings, SettingsError, describe_settings, read_settings
from tests.tokens import token

SECRET = "an operator's secret of at least 32 bytes"
KUBERNETES = {
    "NOTIFIER_PORT": "tcp://10.0.0.1:8000",
    "NOTIFIER_SERVICE_HOST": "10.0.0.1",
    "NOTIFIER_SERVICE_PORT": "8000",
    "NOTIFIER_SERVICE_PORT_HTTP": "8000",
    "NOTIFIER_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "NOTIFIER_PORT_8000_TCP_ADDR": "10.0.0.1",
    "NOTIFIER_PORT_8000_TCP_PORT": "8000",
    "NOTIFIER_PORT_8000_TCP_PROTO": "tcp",
    "NOTIFIER_OPERATIONS_SERVICE_HOST": "10.0.0.2",
    "NOTIFIER_OPERATIONS_PORT": "tcp://10.0.0.2:9000",
}
Run = Callable[..., tuple[int, str, str]]


def issuers(**changes: Any) -> str:
    one = {"issuer": "https://id.example", "keys": [{"secret": SECRET}], "algorithms": ["HS256"], "audiences": ["push"]}
    return json.dumps([one | changes])


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NOTIFIER_") or name == "WEB_CONCURRENCY"]:
        monkeypatch.delenv(name)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs one command in this process: exit code, output, errors."""

    def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def read(environment: Mapping[str, str]) -> Settings:
    return read_settings(environment)


def problems_of(environment: Mapping[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(environment)
    return caught.value.problems


# -- refusals --------------------------------------------------------------------------------------------------------


def test_serve_without_settings_refuses_in_one_sentence() -> None:
    """In a process of its own, as an operator sees it."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}

    ended = subprocess.run(
        [sys.executable, "-m", "notifier", "serve"], env=bare, capture_output=True, text=True, timeout=60, check=False
    )

    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert line.startswith("notifier: nobody could enter: set NOTIFIER_ACCESS__ISSUERS")
    assert "NOTIFIER_INSECURE=true" in line


def test_a_port_in_use_is_told_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = {**os.environ, "NOTIFIER_INSECURE": "true", "NOTIFIER_OPERATIONS__PORT": "0"}
        ended = subprocess.run(
            [sys.executable, "-m", "notifier", "serve", "--port", str(port)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in line


def test_what_kubernetes_injects_for_a_service_called_notifier_is_no_setting() -> None:
    settings = read({"NOTIFIER_INSECURE": "true", **KUBERNETES})

    assert (settings.http.port, settings.operations.port) == (8000, 9000)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("NOTIFIER_HTTP__PROT", "NOTIFIER_HTTP__PORT"),
        ("NOTIFIER_HTTP_PORT", "NOTIFIER_HTTP__PORT"),
        ("NOTIFIER_ACCESS__ISSUER", "NOTIFIER_ACCESS__ISSUERS"),
        ("NOTIFIER_INSECURE_MODE", "NOTIFIER_INSECURE"),
        ("NOTIFIER_LIMITS__SENDS", "NOTIFIER_LIMITS__SEND"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    assert problems_of({"NOTIFIER_INSECURE": "true", name: "1"}) == [
        f"{name} is not a setting; did you mean {nearest}?"
    ]


def test_a_bare_port_is_somebodys_mistake_and_not_kubernetes() -> None:
    (problem,) = problems_of({"NOTIFIER_INSECURE": "true", "NOTIFIER_PORT": "8000"})

    assert problem.startswith("NOTIFIER_PORT is not a setting; did you mean NOTIFIER_")


@pytest.mark.parametrize("count", ["", "0", "1"])
def test_one_worker_is_what_there_is(count: str) -> None:
    assert read({"NOTIFIER_INSECURE": "true", "WEB_CONCURRENCY": count}).insecure


def test_more_workers_are_refused() -> None:
    """Checklist 2.2."""
    (problem,) = problems_of({"NOTIFIER_INSECURE": "true", "WEB_CONCURRENCY": "4"})

    assert "one process is one replica" in problem


@pytest.mark.parametrize("name", ["NOTIFIER_HTTP__HOST", "NOTIFIER_OPERATIONS__HOST"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "push.example.com"])
def test_the_insecure_mode_stays_on_loopback(name: str, host: str) -> None:
    (problem,) = problems_of({"NOTIFIER_INSECURE": "true", name: host})

    assert "loopback" in problem


def test_the_insecure_mode_stays_on_loopback_by_arguments_too(run: Run) -> None:
    code, _, errors = run("serve", "--host", "0.0.0.0", NOTIFIER_INSECURE="true")

    assert code == 2
    assert "loopback" in errors


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"NOTIFIER_INSECURE": "true", "NOTIFIER_ACCESS__ISSUERS": issuers()}, "brings its own issuer"),
        ({"NOTIFIER_INSECURE": "true", "NOTIFIER_HTTP__REUSE_PORT": "true"}, "needs a shared journal"),
        ({"NOTIFIER_ACCESS__ISSUERS": issuers(), "NOTIFIER_HTTP__ALLOWED_ORIGINS": "*"}, "* needs NOTIFIER_INSECURE"),
    ],
)
def test_settings_that_cannot_work_together_are_refused(environment: dict[str, str], words: str) -> None:
    (problem,) = problems_of(environment)

    assert words in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NOTIFIER_HTTP__PORT", "65536"),
        ("NOTIFIER_HTTP__PORT", "http"),
        ("NOTIFIER_LIMITS__SEND", "many"),
        ("NOTIFIER_LIMITS__SEND", "0/second"),
        ("NOTIFIER_LIMITS__ADDRESS", "5/fortnight"),
        ("NOTIFIER_JOURNAL__PUBLISH_TIMEOUT_SECONDS", "4"),
        ("NOTIFIER_JOURNAL__URL", "kafka://"),
        ("NOTIFIER_ACCESS__ISSUERS", "[{]"),
        ("NOTIFIER_ACCESS__DEFAULT_TENANT", "a b"),
        ("NOTIFIER_TELEMETRY__LOG_LEVEL", "loud"),
        ("NOTIFIER_HTTP__ALLOWED_ORIGINS", "[1"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(name: str, value: str) -> None:
    (problem,) = problems_of({"NOTIFIER_INSECURE": "true", name: value})

    assert problem.startswith(f"{name}: ")


def test_every_mistake_is_told_at_once(run: Run) -> None:
    mistakes = {"NOTIFIER_HTTP__PORT": "x", "NOTIFIER_LIMITS__SEND": "many", "NOTIFIER_HTPP__HOST": "y"}

    code, _, errors = run("serve", WEB_CONCURRENCY="4", **mistakes)

    told = errors.splitlines()
    assert code == 2
    assert len(told) == 4
    assert all(any(name in line for line in told) for name in [*mistakes, "WEB_CONCURRENCY"])


def test_a_place_inside_json_is_named() -> None:
    (problem,) = problems_of({"NOTIFIER_ACCESS__ISSUERS": issuers(keys=[{"secret": SECRET, "public_key": "x"}])})

    assert problem.startswith("NOTIFIER_ACCESS__ISSUERS[0].keys[0]: give exactly one of secret")


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFIER_HTTP__PORT", "1")
    monkeypatch.setenv("NOTIFIER_INSECURE", "true")

    assert read({"NOTIFIER_HTTP__PORT": "2"}).http.port == 2


def test_an_empty_default_tenant_refuses_tokens_without_one() -> None:
    assert read({"NOTIFIER_INSECURE": "true", "NOTIFIER_ACCESS__DEFAULT_TENANT": ""}).access.default_tenant is None


def test_lists_are_written_with_commas_or_as_json() -> None:
    for value in ("https://a.example, https://b.example", '["https://a.example", "https://b.example"]'):
        settings = read({"NOTIFIER_INSECURE": "true", "NOTIFIER_HTTP__ALLOWED_ORIGINS": value})
        assert settings.http.allowed_origins == ["https://a.example", "https://b.example"]


# -- check -----------------------------------------------------------------------------------------------------------


def test_check_lists_every_setting_and_masks_secrets(run: Run) -> None:
    """Checklist 3.4.30."""
    code, output, _ = run("check", NOTIFIER_ACCESS__ISSUERS=issuers())

    assert code == 0
    assert "NOTIFIER_HTTP__PORT=8000" in output.splitlines()
    assert "https://id.example" in output
    assert SECRET not in output
    assert "*****" in output


@pytest.mark.parametrize(
    "changes",
    [
        {"keys": [{"secret": "short but secret"}]},
        {"keys": [{"secrets": SECRET}]},
        {"keys": [{"secret": SECRET, "kid": 7}]},
        {"keys": [{"public_key": SECRET}], "algorithms": ["RS256"]},
        {"algorithms": ["HS256", "RS256"]},
        {"algorithms": ["none"]},
    ],
)
def test_a_key_that_cannot_be_used_is_refused_without_showing_it(run: Run, changes: dict[str, Any]) -> None:
    code, output, errors = run("check", NOTIFIER_ACCESS__ISSUERS=issuers(**changes))

    assert code == 2
    assert errors.startswith("notifier: NOTIFIER_ACCESS__ISSUERS")
    assert SECRET not in output + errors
    assert "short but secret" not in output + errors


@pytest.fixture
def explain(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[int, str]]:
    """A function that gives a token to `notifier check --token -`."""

    def explain(given: str) -> tuple[int, str]:
        read_end, write_end = os.pipe()
        os.write(write_end, given.encode())
        os.close(write_end)
        with os.fdopen(read_end) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            code, output, _ = run("check", "--token", "-", NOTIFIER_INSECURE="true")
        return code, output

    return explain


Explain = Callable[[str], tuple[int, str]]


def test_check_explains_a_good_token(explain: Explain) -> None:
    code, output = explain(token("alice", roles=["admin"], scopes=["notify:send"], tenants=["other"]) + "\n")

    assert code == 0
    assert {"user: alice", "roles: admin", "scopes: notify:send", "may send into: other"} <= set(output.splitlines())


def test_check_says_why_a_token_is_refused(explain: Explain) -> None:
    good = token("alice")
    header, claims, signature = good.split(".")
    forged = ".".join([header, claims, signature[::-1]])
    foreign = jwt.encode({"iss": "https://other.example", "sub": "alice"}, SECRET)

    refusals = [explain(each) for each in (token(lifetime_seconds=-60), forged, foreign, "garbage", "")]

    assert [code for code, _ in refusals] == [1] * 5
    assert [output.partition(":")[0] for _, output in refusals] == [
        "refused (token_expired)",
        "refused (token_invalid)",
        "refused (token_invalid)",
        "refused (token_invalid)",
        "refused (token_missing)",
    ]
    assert "its exp is in the past" in refusals[0][1]
    assert "iss" in refusals[2][1]
    assert "garbage" not in refusals[3][1]


# -- token -----------------------------------------------------------------------------------------------------------


def test_token_writes_every_claim_that_is_asked_for(run: Run, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(f"{SECRET}\n")
    options = ["--user", "alice", "--tenant", "t1", "--role", "a", "--role", "b", "--topic", "orders.*"]
    options += ["--scope", "notify:send", "--scope", "notify:broadcast", "--into-tenant", "t2"]
    options += ["--lifetime-seconds", "60", "--claim", 'org={"id":7}', "--claim", 'name="x=y"']
    options += ["--issuer", "https://id.example", "--audience", "push", "--algorithm", "HS384"]

    code, output, _ = run("token", *options, "--key-file", str(key))

    claims = jwt.decode(output.strip(), SECRET, algorithms=["HS384"], audience="push", issuer="https://id.example")
    assert code == 0
    assert claims["exp"] - claims["iat"] == 60
    assert claims | {"iat": 0, "exp": 0, "jti": ""} == {
        "iss": "https://id.example",
        "aud": "push",
        "sub": "alice",
        "tenant": "t1",
        "roles": ["a", "b"],
        "topics": ["orders.*"],
        "scope": "notify:send notify:broadcast",
        "tenants": ["t2"],
        "org": {"id": 7},
        "name": "x=y",
        "iat": 0,
        "exp": 0,
        "jti": "",
    }


def test_a_token_of_the_command_is_accepted_by_its_configuration(run: Run, tmp_path: Path, explain: Explain) -> None:
    _, minted, _ = run("token", "--user", "bob", "--tenant", "t1", "--topic", "a.#")

    code, output = explain(minted)

    assert code == 0
    assert {"user: bob", "tenant: t1", "topics: a.#"} <= set(output.splitlines())


@pytest.mark.parametrize("options", [["--claim", "name"], ["--claim", "name=x"], ["--key-file", "/no/such/file"]])
def test_an_option_of_token_that_cannot_be_read_is_refused(run: Run, options: list[str]) -> None:
    code, output, errors = run("token", *options)

    assert (code, output) == (2, "")
    assert errors.startswith("notifier: ")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory://", "memory://"),
        ("amqp://host", "amqp://host"),
        ("amqps://me:s3cret@host:5671/v?cafile=/ca.pem", "amqps://me:***@host:5671/v?***"),
    ],
)
def test_the_password_of_a_broker_is_not_shown(url: str, shown: str) -> None:
    settings = read({"NOTIFIER_INSECURE": "true", "NOTIFIER_JOURNAL__URL": url})

    assert f"NOTIFIER_JOURNAL__URL={shown}" in describe_settings(settings)


@pytest.mark.parametrize(
    "url", ["http://host", "amqp://", "rabbit", "amqps://host?no_verify_ssl=1", "amqp://guest:guest@host"]
)
def test_what_is_no_safe_address_of_a_broker_is_refused_without_showing_it(url: str) -> None:
    """Checklist 3.4.30."""
    (problem,) = problems_of({"NOTIFIER_INSECURE": "true", "NOTIFIER_JOURNAL__URL": url})

    assert problem.startswith("NOTIFIER_JOURNAL__URL: ")
    assert "host?" not in problem


@pytest.mark.parametrize(
    ("journal", "queue", "taken_from"),
    [
        ("memory://", "", None),
        ("memory://", "amqp://q", "amqp://q"),
        ("amqp://j", "", "amqp://j"),
        ("amqp://j", "amqp://q", "amqp://q"),
        ("amqp://j", "off", None),
    ],
)
def test_requests_are_taken_from_the_broker_of_the_journal_unless_told_otherwise(
    journal: str, queue: str, taken_from: str | None
) -> None:
    settings = read({"NOTIFIER_INSECURE": "true", "NOTIFIER_JOURNAL__URL": journal, "NOTIFIER_QUEUE__URL": queue})

    assert settings.queue_url == taken_from


# -- tickets ---------------------------------------------------------------------------------------------------------

SHARED = {"NOTIFIER_ACCESS__ISSUERS": issuers(), "NOTIFIER_JOURNAL__URL": "amqp://me:me@broker"}


@pytest.mark.parametrize("text", ["{0},{1}", "{0}\n{1}\n", '["{0}", "{1}"]'])
def test_ticket_secrets_stand_behind_commas_on_lines_or_in_an_array_and_are_masked(text: str) -> None:
    first, second = "a" * 32, "b" * 32

    settings = read(SHARED | {"NOTIFIER_ACCESS__TICKET_SECRETS": text.format(first, second)})

    assert [secret.get_secret_value() for secret in settings.access.ticket_secrets] == [first, second]
    assert settings.has_tickets
    assert "NOTIFIER_ACCESS__TICKET_SECRETS=***,***" in describe_settings(settings)
    assert not any(first in line for line in describe_settings(settings))


def test_replicas_that_share_a_journal_have_tickets_only_by_shared_secrets() -> None:
    alone = read({"NOTIFIER_ACCESS__ISSUERS": issuers()})
    quiet = read(SHARED)
    (problem,) = problems_of(SHARED | {"NOTIFIER_ACCESS__TICKETS": "on"})
    (short,) = problems_of(SHARED | {"NOTIFIER_ACCESS__TICKET_SECRETS": "short"})

    assert (alone.has_tickets, quiet.has_tickets) == (True, False)
    assert problem.startswith("NOTIFIER_ACCESS__TICKET_SECRETS: replicas that share a journal need the same ones")
    assert short == "NOTIFIER_ACCESS__TICKET_SECRETS[0]: a secret has at least 32 bytes: openssl rand -hex 32"
