"""Fetching key sets over real sockets: what is followed, what is refused, and the sentence that says so (3.2.19)."""

import asyncio
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from notifier.access.key_fetch import KeyPlace, KeysNotFetched, fetch_keys
from notifier.access.remote_keys import Pace, RemoteKeys
from tests.issuer import HttpIssuer, make_ca

DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture
def issuer() -> Iterator[HttpIssuer]:
    with HttpIssuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Path, Path]]:
    return make_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def secure_issuer(ca: tuple[Path, tuple[Path, Path]]) -> Iterator[HttpIssuer]:
    with HttpIssuer(ca[1]) as issuer:
        yield issuer


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the machine that runs the tests."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


class Tunnel:
    """An HTTP proxy that takes CONNECT (RFC 9110, 9.3.6), and remembers where to."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(4_096)
            target = head.split()[1].decode()
            self.targets.append(target)
            host, _, port = target.rpartition(":")
            server = socket.create_connection((host, int(port)), timeout=10)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            threading.Thread(target=_join, args=(client, server), daemon=True).start()


def _join(client: socket.socket, server: socket.socket) -> None:
    back = threading.Thread(target=_pump, args=(server, client), daemon=True)
    back.start()
    with client, server:
        _pump(client, server)
        back.join(10)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def tunnel() -> Iterator[Tunnel]:
    tunnel = Tunnel()
    yield tunnel
    tunnel.close()


async def trouble(place: KeyPlace) -> str:
    with pytest.raises(KeysNotFetched) as caught:
        await fetch_keys(place)
    return str(caught.value)


def fixed(issuer: HttpIssuer, path: str = "/keys", **fields: Any) -> KeyPlace:
    return KeyPlace(issuer.url, f"{issuer.url}{path}", **fields)


async def test_a_set_comes_from_its_address_or_from_where_the_discovery_document_says(issuer: HttpIssuer) -> None:
    assert await fetch_keys(fixed(issuer)) == issuer.key_set()
    assert await fetch_keys(KeyPlace(issuer.url)) == issuer.key_set()
    assert issuer.requests == ["/keys", DISCOVERY, "/keys"]


async def test_discovery_leaves_one_slash_between_issuer_and_path(issuer: HttpIssuer) -> None:
    """Auth0's issuers end with one, and it belongs to their name (OpenID Connect Discovery 1.0, 4.1)."""
    url = f"{issuer.url}/"
    issuer.say(json.dumps({"issuer": url, "jwks_uri": f"{url}keys"}), path=DISCOVERY)

    assert await fetch_keys(KeyPlace(url)) == issuer.key_set()
    assert issuer.requests == [DISCOVERY, "/keys"]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"issuer": "https://other.example", "jwks_uri": "{url}/keys"}, "is the document of the issuer 'https://other"),
        ({"issuer": "{url}/", "jwks_uri": "{url}/keys"}, "is the document of the issuer"),
        ({"jwks_uri": "{url}/keys"}, "is the document of the issuer 'None'"),
        ({"issuer": "{url}"}, "names no jwks_uri"),
        ({"issuer": "{url}", "jwks_uri": ["{url}/keys"]}, "names no jwks_uri"),
        ({"issuer": "{url}", "jwks_uri": "file:///etc/passwd"}, "is no address to fetch keys from"),
        ({"issuer": "{url}", "jwks_uri": "http://id.example.com/keys"}, "only loopback may be"),
        ([], "is no discovery document"),
        ("text", "is no discovery document"),
    ],
)
async def test_a_discovery_document_of_somebody_else_or_with_no_good_address_is_refused(
    issuer: HttpIssuer, document: Any, why: str
) -> None:
    issuer.say(json.dumps(document).replace("{url}", issuer.url), path=DISCOVERY)

    assert why in await trouble(KeyPlace(issuer.url))
    assert issuer.fetches() == 0


async def test_a_redirect_is_followed_on_the_same_host_alone(issuer: HttpIssuer) -> None:
    """3.2.19: no redirects to another host; a host that redirects could otherwise be made to bring anybody's keys."""
    with HttpIssuer() as other:
        issuer.say("", 302, path="/moved", Location="/keys")
        issuer.say("", 307, path="/away", Location=f"{other.url}/keys")
        issuer.say("", 301, path="/name", Location=f"{issuer.url.replace('localhost', '127.0.0.1')}/keys")
        issuer.say("", 308, path="/round", Location="/round")

        assert await fetch_keys(fixed(issuer, "/moved")) == issuer.key_set()
        assert "redirects to another host" in await trouble(fixed(issuer, "/away"))
        assert "redirects to another host" in await trouble(fixed(issuer, "/name"))
        assert "again and again" in await trouble(fixed(issuer, "/round"))
        assert other.requests == []


async def test_what_is_no_set_is_told_in_a_sentence(issuer: HttpIssuer) -> None:
    """Checklist 3.2.19."""
    issuer.say("gone", 404, path="/gone")
    issuer.say("busy", 503, path="/busy", Retry_After="9")
    issuer.say(b" " * (2**18 + 1), path="/huge")
    issuer.say(b"\x1f\x8b", path="/zipped", Content_Encoding="gzip")
    issuer.say("", 304, path="/same")

    assert await trouble(fixed(issuer, "/gone")) == f"{issuer.url}/gone answers 404"
    assert await trouble(fixed(issuer, "/busy")) == f"{issuer.url}/busy answers 503"
    assert await trouble(fixed(issuer, "/same")) == f"{issuer.url}/same answers 304"
    assert "answers with over 256 KiB" in await trouble(fixed(issuer, "/huge"))
    assert "in an encoding that was not asked for" in await trouble(fixed(issuer, "/zipped"))
    issuer.die()
    assert f"{issuer.url} cannot be reached" in await trouble(fixed(issuer))
    assert "cannot be reached" in await trouble(KeyPlace("http://localhost:1"))


async def test_an_issuer_that_answers_drop_by_drop_is_left_in_time() -> None:
    """A time-out between two bytes would never end it. Checklist 3.2.19."""
    is_over, has_begun, has_closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        has_begun.set()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        with suppress(ConnectionError):
            while not is_over.is_set():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)  # The pace at which it drips.
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        has_closed.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        keys = RemoteKeys(KeyPlace(url, url), ["ES256"], pace=Pace(timeout_seconds=0.5))
        async with asyncio.timeout(20):
            await keys.fetch()
            is_over.set()
            if has_begun.is_set():  # A machine that is very busy may not have come so far.
                await has_closed.wait()

    assert keys.trouble == "no answer within 0.5 s"


async def test_a_ca_file_is_read_anew_for_each_fetch(
    secure_issuer: HttpIssuer, ca: tuple[Path, tuple[Path, Path]], tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(ca[0].read_bytes())
    place = fixed(secure_issuer, ca_file=file)
    file.unlink()

    assert await trouble(place) == f"{file} cannot be read: No such file or directory"
    file.write_bytes(ca[0].read_bytes())
    assert await fetch_keys(place) == secure_issuer.key_set()


async def test_an_internal_authority_is_trusted_where_it_is_given(
    secure_issuer: HttpIssuer, ca: tuple[Path, tuple[Path, Path]]
) -> None:
    said = await trouble(fixed(secure_issuer))

    assert "has a certificate that is not trusted" in said
    assert "ca_file" in said
    assert await fetch_keys(fixed(secure_issuer, ca_file=ca[0])) == secure_issuer.key_set()
    assert await fetch_keys(KeyPlace(secure_issuer.url, ca_file=ca[0])) == secure_issuer.key_set()


async def test_https_is_not_left_for_http(secure_issuer: HttpIssuer, ca: tuple[Path, tuple[Path, Path]]) -> None:
    plain = secure_issuer.url.replace("https", "http")
    secure_issuer.say("", 302, path="/down", Location=f"{plain}/keys")
    secure_issuer.say(json.dumps({"issuer": secure_issuer.url, "jwks_uri": f"{plain}/keys"}), path=DISCOVERY)

    assert "redirects to another host" in await trouble(fixed(secure_issuer, "/down", ca_file=ca[0]))
    assert "names no jwks_uri with https" in await trouble(KeyPlace(secure_issuer.url, ca_file=ca[0]))


async def test_the_proxy_of_the_environment_is_used_but_for_its_exceptions(
    secure_issuer: HttpIssuer,
    ca: tuple[Path, tuple[Path, Path]],
    tunnel: Tunnel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It only passes on what it cannot read: the certificate is still the issuer's."""
    place = fixed(secure_issuer, ca_file=ca[0])
    monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
    by_proxy = await fetch_keys(place)
    monkeypatch.setenv("NO_PROXY", "localhost")
    directly = await fetch_keys(place)
    monkeypatch.delenv("NO_PROXY")
    tunnel.close()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")

    assert by_proxy == directly == secure_issuer.key_set()
    assert tunnel.targets == [secure_issuer.url.removeprefix("https://")]
    assert "cannot be reached" in await trouble(place)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://id.example.com/keys", "only loopback may be"),
        ("http://127.0.0.1.example.com/keys", "only loopback may be"),
        ("http://169.254.169.254/latest", "only loopback may be"),
        ("ftp://id.example.com/keys", "is no address"),
        ("id.example.com/keys", "is no address"),
        ("https:///keys", "is no address"),
        ("https://me:secret@id.example.com/keys", "is no address"),
        ("https://id.example.com/keys#k", "is no address"),
    ],
)
def test_an_address_that_others_could_answer_at_is_refused(url: str, why: str) -> None:
    """3.2.19: https."""
    with pytest.raises(ValueError, match=why) as caught:
        KeyPlace("https://id.example.com", url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://id.example.com/keys", "http://localhost:80/k", "http://[::1]:80/k"])
def test_https_and_loopback_are_taken(url: str) -> None:
    assert KeyPlace("https://id.example.com", url).url == url


def test_a_ca_file_without_certificates_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")

    with pytest.raises(ValueError, match="holds no certificates in PEM"):
        KeyPlace("https://id.example.com", ca_file=tmp_path / "ca.pem")
    with pytest.raises(ValueError, match=r"absent.pem cannot be read: No such file"):
        KeyPlace("https://id.example.com", ca_file=tmp_path / "absent.pem")
