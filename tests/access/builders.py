"""Builders for keys, issuers and tokens, good ones and forged ones."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jose import jws

from notifier.access.keys import KeyMaterial, load_keys
from notifier.access.tokens import Issuer, TokenVerifier
from notifier.access.topics import TopicRule

NOW = 1_800_000_000
ISSUER = "https://issuer.example"
AUDIENCE = "notifier"
SECRET = "correct horse battery staple, and then some more"


@dataclass(frozen=True, slots=True)
class Pair:
    """A private key to sign with, and its public half as an operator would configure it."""

    private_pem: str
    public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey

    @property
    def public_pem(self) -> str:
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.public.public_bytes(serialization.Encoding.PEM, info).decode()

    @property
    def public_der(self) -> bytes:
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.public.public_bytes(serialization.Encoding.DER, info)

    @property
    def public_ssh(self) -> str:
        return self.public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def rsa_pair(bits: int = 2_048) -> Pair:
    return _pair(rsa.generate_private_key(public_exponent=65_537, key_size=bits))


def ec_pair(curve: ec.EllipticCurve) -> Pair:
    return _pair(ec.generate_private_key(curve))


def _pair(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> Pair:
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(pem.decode(), private.public_key())


def issuer(material: str | bytes = SECRET, algorithms: tuple[str, ...] = ("HS256",), **changes: object) -> Issuer:
    kid = changes.pop("kid", None)
    values: dict[str, object] = {
        "issuer": ISSUER,
        "keys": load_keys([KeyMaterial(material, kid)], algorithms),  # type: ignore[arg-type]  # kid: str | None
        "algorithms": algorithms,
        "audiences": frozenset({AUDIENCE}),
    }
    return Issuer(**values | changes)  # type: ignore[arg-type]  # each test names the fields it changes


def verifier(*issuers: Issuer, now: float = NOW, rules: tuple[TopicRule, ...] = ()) -> TokenVerifier:
    return TokenVerifier(issuers or (issuer(),), topic_rules=rules, clock=lambda: now)


def claims(**changes: object) -> dict[str, object]:
    """Claims that pass; a change to None takes the claim out."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": NOW - 10, "exp": NOW + 600}
    return {name: value for name, value in (good | changes).items() if value is not None}


def token(
    content: Mapping[str, object] | None = None,
    *,
    key: str = SECRET,
    alg: str = "HS256",
    headers: Mapping[str, object] | None = None,
) -> str:
    """A token as an issuer makes it."""
    return jws.sign(claims() if content is None else content, key, headers=headers, algorithm=alg)


def forged(
    header: str | Mapping[str, object] = '{"alg":"HS256"}',
    content: str | Mapping[str, object] | None = None,
    *,
    secret: bytes = SECRET.encode(),
) -> str:
    """A token with any text for header and claims, and a right HS256 signature: only the text can be at fault."""
    signed = f"{segment(header)}.{segment(claims() if content is None else content)}"
    return f"{signed}.{segment_of(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def segment(content: str | Mapping[str, object]) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    return segment_of(text.encode("utf-8", "surrogatepass"))


def segment_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def with_member(content: Mapping[str, object], member: str) -> str:
    """Claims or a header as JSON text with one more member, written as it stands."""
    return f"{json.dumps(content)[:-1]},{member}}}"
