"""A service behind TLS that an authority of one's own has signed: every command reaches it, or says why not."""

from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from notifier.clients import Notifier, listen, users
from notifier.clients.conform.run import CHECKS
from notifier.clients.event_stream import event_stream
from notifier.clients.listen import Transport
from notifier.clients.socket import socket
from notifier.clients.tls import trusting
from tests.issuer import make_ca
from tests.nginx import CONFIGURATION, nginx
from tests.replica import Replica
from tests.service.command import Ended, run
from tests.service.test_cli import notifier
from tests.tokens import token

PLAIN = "listen 127.0.0.1:{port};"
SETTINGS = {
    "NOTIFIER_HTTP__TRUSTED_PROXIES": "127.0.0.1",
    # What only waits is not worth waiting for here.
    "NOTIFIER_SESSIONS__HEARTBEAT_SECONDS": "2",
    "NOTIFIER_SESSIONS__AUTH_TIMEOUT_SECONDS": "1",
}
ID = "01a21799-9d95-7ea6-894d-b647bf1440f9"
# Each ends by itself, wherever it is sent to; all but `why` with --url.
COMMANDS = {
    "send": ("send", "--user", "alice", "--title", "One", "--url"),
    "revoke": ("revoke", "--user", "mallory", "--url"),
    "smoke": ("smoke", "--within-seconds", "1", "--url"),
    "prove": ("prove", "--sessions", "1", "--seconds", "1", "--url"),
    "conform": ("conform", "--insecure-development", "--url"),
    "why": ("why", ID, "--user", "alice", "--operations"),
}


@dataclass(frozen=True, slots=True)
class Secure:
    """Where the service is, with and without TLS, and who has signed its certificate."""

    url: str
    plain_url: str
    ca_file: Path


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """A replica behind a real nginx with TLS."""
    directory = tmp_path_factory.mktemp("secure")
    ca_file, (certificate, key) = make_ca(directory)
    listening = f"listen 127.0.0.1:{{port}} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};"
    replica = Replica(directory / "replica.log", SETTINGS)
    try:
        with nginx(replica.port, directory, template=CONFIGURATION.replace(PLAIN, listening)) as port:
            yield Secure(f"https://127.0.0.1:{port}", replica.url, ca_file)
    finally:
        replica.stop()


async def test_every_rule_of_the_protocol_holds_over_tls(secure: Secure) -> None:
    trusted = ("--ca-file", str(secure.ca_file), "--origin", secure.url)

    ended = await run("conform", "--insecure-development", "--url", secure.url, "--within-seconds", "60", *trusted)

    assert [line for line in ended.lines[:-1] if not line.startswith("ok ")] == []
    assert f"{len(CHECKS)} rules: {len(CHECKS)} ok, 0 FAILED, 0 skipped, in " in ended.lines[-1]
    assert ended.code == 0


@pytest.mark.parametrize("transport", [(), ("--sse",)])
async def test_listen_and_send_trust_the_file(transport: tuple[str, ...], secure: Secure) -> None:
    there = ("--url", secure.url, "--ca-file", str(secure.ca_file))

    async with notifier("listen", *there, *transport, "--as", "ann") as listener:
        await listener.says("listening as ann of default (new)")
        sent = await run("send", *there, "--user", "ann", "--title", "By TLS")
        heard = await listener.line()

    assert sent.code == 0, sent.err
    assert heard["title"] == "By TLS"


async def test_the_other_commands_trust_the_file(secure: Secure) -> None:
    endings = {
        name: await run(*COMMANDS[name], secure.url, "--ca-file", str(secure.ca_file))
        for name in ("revoke", "prove", "why")
    }
    smoke = await run("smoke", "--url", secure.url, "--ca-file", str(secure.ca_file))

    assert {name: ended.code for name, ended in endings.items()} == {"revoke": 0, "prove": 0, "why": 3}
    assert "it is no operations port of notifier" in endings["why"].out  # It was heard.
    assert smoke.out.startswith("sent to smoke of default, arrived after ")


@pytest.mark.parametrize("name", COMMANDS)
async def test_who_is_not_trusted_is_told_on_one_line(name: str, secure: Secure, tmp_path: Path) -> None:
    stranger, _ = make_ca(tmp_path)

    for trusted in ((), ("--ca-file", str(stranger))):
        ended = await run(*COMMANDS[name], secure.url, *trusted)

        line = told_by(ended)
        assert ended.code == (3 if name == "why" else 1)
        assert "its certificate is not trusted (" in line
        assert ": name its authority, by --ca-file or SSL_CERT_FILE" in line


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"prove"}))  # It says so too, and waits for 10 s before.
async def test_tls_to_a_plain_port_is_told_on_one_line(name: str, secure: Secure) -> None:
    url = secure.plain_url.replace("http", "https")

    ended = await run(*COMMANDS[name], url, "--ca-file", str(secure.ca_file))

    assert ended.code == (3 if name == "why" else 1)
    assert "it does not speak TLS there: http:// in place of https://" in told_by(ended)


async def test_a_plain_request_to_a_port_with_tls_is_told_on_one_line(secure: Secure) -> None:
    url = secure.url.replace("https", "http")

    ended = await run(*COMMANDS["conform"], url)

    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"notifier: {url}: it speaks TLS there: https:// in place of http://\n"


@pytest.mark.parametrize("transport", [(), ("--sse",)])
async def test_listen_tells_who_is_not_trusted_and_tries_again(transport: tuple[str, ...], secure: Secure) -> None:
    """The certificate may be the one to be mended."""
    async with notifier("listen", "--url", secure.url, *transport) as listener:
        for _ in range(2):
            line = await listener.says("trying again in")
            assert "its certificate is not trusted (" in line


@pytest.mark.parametrize("name", [*COMMANDS, "listen"])
async def test_a_file_without_authorities_is_refused(name: str, tmp_path: Path) -> None:
    command = {**COMMANDS, "listen": ("listen", "--url")}[name]
    (tmp_path / "empty.pem").write_text("nothing")
    absent = tmp_path / "absent.pem"

    empty = await run(*command, "https://127.0.0.1:1", "--ca-file", str(tmp_path / "empty.pem"))
    missing = await run(*command, "https://127.0.0.1:1", "--ca-file", str(absent))

    assert (empty.code, missing.code) == (2, 2)
    assert empty.err == f"notifier: --ca-file: {tmp_path / 'empty.pem'} holds no certificates in PEM\n"
    assert missing.err == f"notifier: --ca-file: {absent} cannot be read: No such file or directory\n"


@pytest.mark.parametrize("transport", [event_stream, socket])
async def test_the_python_client_takes_an_authority(transport: Any, secure: Secure) -> None:
    tls = trusting(secure.ca_file)
    trusted: Transport = partial(transport, tls=tls)
    # What `prove` has sent to everyone of the usual tenant may be there from the earliest on.
    may_send = token("backend", scopes=["notify:send"], tenant="tls")

    async with Notifier(secure.url, token=may_send, client=httpx.AsyncClient(verify=tls)) as backend:
        await backend.send(to=users("tess"), type="order.shipped", title="By TLS")
        arriving = listen(secure.url, token=token("tess", tenant="tls"), position="earliest", transport=trusted)
        async with aclosing(arriving):
            assert (await anext(arriving))["title"] == "By TLS"


async def test_the_variable_of_openssl_is_obeyed_too(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.ca_file))

    smoke, why = await run("smoke", "--url", secure.url), await run(*COMMANDS["why"], secure.url)

    assert smoke.code == 0, smoke.err
    assert "it is no operations port of notifier" in why.out


def told_by(ended: Ended) -> str:
    """The one line that tells of the failure."""
    (line,) = [line for line in (ended.out + ended.err).splitlines() if "TLS" in line or "certificate" in line]
    return line
