"""An issuer of tokens as a real HTTP server, which rotates its keys, is slow, lies, and dies when a test says so."""

import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from jose import jwk

from notifier.access.development import mint

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
AUDIENCE = "push"


def pem_of(key: PrivateKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def public_jwk(key: PrivateKey, algorithm: str = "ES256", **fields: Any) -> dict[str, Any]:
    """The public half as issuers publish it; without `use` and `alg`, unless they are among the fields."""
    published = jwk.construct(pem_of(key), algorithm).public_key().to_dict()
    bare = {name: value for name, value in published.items() if name != "alg"}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in bare.items()} | fields


@dataclass(slots=True)
class Answer:
    """What a path answers."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpIssuer:
    """Serves a key set at /keys and its discovery document, on a free port of loopback, in threads of its own."""

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        self.keys: dict[str, PrivateKey] = {}
        self.requests: list[str] = []  # Paths, in their order.
        self.paths: dict[str, Callable[[], Answer]] = {}  # What a path answers in place of the truth.
        self.is_open = threading.Event()  # Answers wait while it is not set.
        self.is_open.set()
        self._tls = tls
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.live()
        self.url = f"{'https' if tls else 'http'}://localhost:{self._port}"
        self.rotate("first")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open.set()
        self.die()

    # -- what an issuer does -------------------------------------------------------------------------------------

    def rotate(self, *kids: str) -> None:
        """Publish keys of these names: the known ones go on, others are made, the rest is gone."""
        self.keys = {kid: self.keys.get(kid) or self.make_key() for kid in kids}

    @staticmethod
    def make_key() -> PrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    def key_set(self) -> bytes:
        return json.dumps({"keys": [public_jwk(key, kid=kid) for kid, key in self.keys.items()]}).encode()

    def token(self, kid: str | None, user: str = "alice", *, key: PrivateKey | None = None, **claims: Any) -> str:
        """A token of this issuer, signed with the key of that name unless another key is given."""
        signing = key or self.keys[kid or next(iter(self.keys))]
        return mint(
            issuer=self.url, audience=AUDIENCE, key=pem_of(signing), algorithm="ES256", user=user, kid=kid, **claims
        )

    def settings(self, **fields: Any) -> dict[str, Any]:
        """An entry of NOTIFIER_ACCESS__ISSUERS for it."""
        return {"issuer": self.url, "audiences": [AUDIENCE], "algorithms": ["ES256"], **fields}

    def fetches(self, path: str = "/keys") -> int:
        return self.requests.count(path)

    # -- what goes wrong -----------------------------------------------------------------------------------------

    def say(self, body: bytes | str, status: int = 200, path: str = "/keys", **headers: str) -> None:
        """Answer so from now on."""
        said = body.encode() if isinstance(body, str) else body
        self.paths[path] = lambda: Answer(said, status, headers)

    def say_the_truth(self) -> None:
        self.paths.clear()

    def die(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def live(self) -> None:
        """Come back, at the same address."""
        server = ThreadingHTTPServer(("127.0.0.1", self._port), _handler(self))
        server.daemon_threads = True
        if self._tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._tls)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self._server, self._port = server, server.server_address[1]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, path: str) -> Answer:
        self.requests.append(path)
        self.is_open.wait(30)
        if path in self.paths:
            return self.paths[path]()
        if path == "/keys":
            return Answer(self.key_set())
        if path == "/.well-known/openid-configuration":
            return Answer(json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode())
        return Answer(b"not here", 404)


def _handler(issuer: HttpIssuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = issuer.answer(urlsplit(self.path).path)
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def make_ca(directory: Path) -> tuple[Path, tuple[Path, Path]]:
    """A certificate authority of the test's own, and a certificate for localhost with its key, as files."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("test authority", ca_key, None, ca_key)
    leaf = _certificate("localhost", key, ca, ca_key)
    for name, data in (("ca.pem", ca), ("leaf.pem", leaf)):
        (directory / name).write_bytes(data.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_text(pem_of(key))
    return directory / "ca.pem", (directory / "leaf.pem", directory / "key.pem")


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate | None, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    authority = signer.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False)
        .add_extension(names, critical=False)
    )
    return builder.sign(signer, hashes.SHA256())
