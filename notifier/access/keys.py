"""Turns configured key material into keys that are ready to verify with, or says at start-up why it cannot."""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jose import jwk
from jose.backends.base import Key
from jose.utils import is_pem_format, is_ssh_key

ALGORITHMS: Final = tuple(f"{family}{bits}" for family in ("HS", "RS", "ES") for bits in (256, 384, 512))
KID_LIMIT: Final = 256
_SECRET_MINIMUM_BYTES: Final = 32
RSA_MINIMUM_BITS: Final = 2_048
# From documentation, tutorials and our own code: whoever can read them could sign tokens.
_PLACEHOLDERS: Final = (
    b"a-string-secret-at-least-256-bits-long",
    b"a-valid-string-secret-that-is-at-least-512-bits-long",
    b"09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    b"for development on loopback only",
    *(word + tail for word in (b"change", b"replace") for tail in (b"me", b"-me", b"_me", b" me", b"-this", b"_this")),
    *(b"your" + dash + word for dash in (b"-", b"_", b" ") for word in (b"secret", b"256-bit", b"super")),
    b"placeholder",
)
_CURVES: Final[Mapping[str, str]] = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """One key as configured.

    Args:
        material: an HS secret, or a public key or certificate in PEM.
        kid: the name tokens use for it; None when the issuer gives none.
    """

    material: str | bytes = field(repr=False)
    kid: str | None = None


@dataclass(frozen=True, slots=True)
class ReadyKey:
    """A key bound to the one algorithm it verifies."""

    algorithm: str
    key: Key
    kid: str | None = None


class KeySet:
    """The keys of one issuer. A source of keys that change (JWKS) hands out a new set each time."""

    def __init__(self, keys: Iterable[ReadyKey]) -> None:
        self._by_kid: dict[tuple[str | None, str], tuple[Key, ...]] = {}
        self._by_algorithm: dict[str, tuple[Key, ...]] = {}
        for ready in keys:
            name = (ready.kid, ready.algorithm)
            self._by_kid[name] = (*self._by_kid.get(name, ()), ready.key)
            self._by_algorithm[ready.algorithm] = (*self._by_algorithm.get(ready.algorithm, ()), ready.key)

    def find(self, kid: str | None, alg: str) -> tuple[Key, ...]:
        """Return the keys a token with this header may be signed with; empty when there is none.

        A token without kid may be signed with any of them; a kid that is not known, with a key that has no kid.
        """
        if kid is None:
            return self._by_algorithm.get(alg, ())
        return self._by_kid.get((kid, alg)) or self._by_kid.get((None, alg), ())

    def has(self, kid: str | None, alg: str) -> bool:
        """Tell whether a key goes by just this name: then no other one can have signed a token that names it."""
        return kid is not None and (kid, alg) in self._by_kid


def load_keys(materials: Sequence[KeyMaterial], algorithms: Sequence[str]) -> KeySet:
    """Build the keys of one issuer, once, so that no request pays for parsing them.

    Raises:
        ValueError: a key is weak, of the wrong kind, or would let a public key serve as a secret. The text never holds
            key material.
    """
    family = check_algorithms(algorithms)
    if not materials:
        raise ValueError("expected at least one key for the issuer, got none")
    _check_kids([material.kid for material in materials])
    ready = [key for material in materials for key in _ready_keys(material, family, algorithms)]
    unserved = sorted(set(algorithms) - {key.algorithm for key in ready})
    if unserved:
        raise ValueError(f"no key fits {', '.join(unserved)}: remove it from algorithms or add a key on its curve")
    return KeySet(ready)


def ready_key(material: bytes, algorithm: str, kid: str | None) -> ReadyKey:
    """Prepare a public key, or a secret, that was checked to fit the algorithm."""
    return ReadyKey(algorithm, jwk.construct(material, algorithm), kid)


def check_algorithms(algorithms: Sequence[str]) -> str:
    """Return the one family (HS, RS or ES) that `algorithms` belongs to.

    Raises:
        ValueError: the list is empty, is a bare string, names something else, or mixes families.
    """
    if isinstance(algorithms, str) or not algorithms:
        raise ValueError('algorithms is a list with at least one name, such as ["RS256"]')
    unknown = [name for name in algorithms if name not in ALGORITHMS]
    if unknown:
        raise ValueError(f"algorithms holds {', '.join(map(repr, unknown))}; expected some of {', '.join(ALGORITHMS)}")
    families = sorted({name[:2] for name in algorithms})
    if len(families) > 1:
        raise ValueError(f"algorithms mixes {' and '.join(families)}; one issuer signs with one family")
    return families[0]


def is_kid(value: object) -> bool:
    """Tell whether a value can name a key: 1 to 256 printable ASCII characters."""
    return isinstance(value, str) and 0 < len(value) <= KID_LIMIT and value.isascii() and value.isprintable()


def _check_kids(kids: Sequence[str | None]) -> None:
    named = [kid for kid in kids if kid is not None]
    if not all(is_kid(kid) for kid in named):
        raise ValueError(f"a kid is 1 to {KID_LIMIT} printable ASCII characters")
    if len(set(named)) < len(named):
        raise ValueError("two keys of one issuer have the same kid")


def _ready_keys(material: KeyMaterial, family: str, algorithms: Sequence[str]) -> list[ReadyKey]:
    label = "the key" if material.kid is None else f"the key with kid {material.kid!r}"
    try:
        data = material.material.encode() if isinstance(material.material, str) else material.material
    except UnicodeEncodeError:
        raise ValueError(f"{label} is not text in UTF-8") from None
    if family == "HS":
        fitting, prepared = algorithms, _secret(data, label)
    else:
        fitting, prepared = _public(data, family, algorithms, label)
    return [ReadyKey(alg, jwk.construct(prepared, alg), material.kid) for alg in dict.fromkeys(fitting)]


def _secret(data: bytes, label: str) -> bytes:
    if len(data) < _SECRET_MINIMUM_BYTES:
        raise ValueError(f"{label} has {len(data)} bytes; an HS secret has at least {_SECRET_MINIMUM_BYTES}")
    if any(placeholder in data.lower() for placeholder in _PLACEHOLDERS):
        raise ValueError(f"{label} is a placeholder that others know as well: make one with openssl rand -base64 48")
    if any(_is_key_material(form) for form in (data, _without_base64(data))):
        raise ValueError(
            f"{label} is a public or private key, a certificate or a JWK, not a secret: whoever knows the public part "
            "could sign tokens; use RS or ES algorithms with it, or a random secret"
        )
    return data


def _without_base64(data: bytes) -> bytes:
    """Return what `data` encodes (the body of a PEM file, say); empty when it is no base64."""
    text = b"".join(data.split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return b""


def _is_key_material(data: bytes) -> bool:
    armoured = is_pem_format(data) or b"-----BEGIN " in data
    return armoured or is_ssh_key(data) or _is_json_object(data) or _is_der(data)


def _is_json_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False


def _is_der(data: bytes) -> bool:
    readers: tuple[Callable[[bytes], object], ...] = (
        serialization.load_der_public_key,
        x509.load_der_x509_certificate,
        lambda der: serialization.load_der_private_key(der, password=None),
    )
    return any(_reads(reader, form) for reader in readers for form in (data, data.rstrip(b"\r\n")))


def _reads(reader: Callable[[bytes], object], data: bytes) -> bool:
    try:
        reader(data)
    except (ValueError, UnsupportedAlgorithm):
        return False
    except TypeError:
        # The complaint about a missing password: it is an encrypted private key.
        return True
    return True


def _public(data: bytes, family: str, algorithms: Sequence[str], label: str) -> tuple[Sequence[str], bytes]:
    """Return the algorithms the key serves, and the key as PEM whatever it came in."""
    key = _load_public(data, label)
    fitting = _fitting_rsa(key, algorithms, label) if family == "RS" else _fitting_ec(key, algorithms, label)
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return fitting, pem


def _load_public(data: bytes, label: str) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    if b"PRIVATE KEY-----" in data:
        raise ValueError(f"{label} is a private key; only the issuer should have it: configure the public key")
    try:
        key = _read_pem(data.strip())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{label} cannot be read; expected a public key or certificate in PEM") from error
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise ValueError(f"{label} is neither an RSA nor an EC key")
    return key


def _read_pem(data: bytes) -> object:
    if data.startswith(b"-----BEGIN CERTIFICATE-----"):
        return x509.load_pem_x509_certificate(data).public_key()
    return serialization.load_pem_public_key(data)


def _fitting_rsa(key: object, algorithms: Sequence[str], label: str) -> Sequence[str]:
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError(f"{label} is not an RSA key, which RS algorithms need")
    if key.key_size < RSA_MINIMUM_BITS:
        raise ValueError(f"{label} has {key.key_size} bits; RSA keys have at least {RSA_MINIMUM_BITS}")
    return algorithms


def _fitting_ec(key: object, algorithms: Sequence[str], label: str) -> Sequence[str]:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError(f"{label} is not an EC key, which ES algorithms need")
    algorithm = _CURVES.get(key.curve.name, "")
    if algorithm not in algorithms:
        raise ValueError(f"{label} is on {key.curve.name}, which is not the curve of {', '.join(algorithms)}")
    return (algorithm,)
