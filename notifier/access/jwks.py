"""Reads a key set as an issuer publishes it (RFC 7517): keys to verify its tokens with, and why not with the others."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from notifier.access.keys import RSA_MINIMUM_BITS, is_kid
from notifier.core.errors import NotifierError
from notifier.core.strict_json import is_clean, parse

SET_LIMIT_BYTES: Final = 256 * 1024
SET_LIMIT_KEYS: Final = 50
_DEPTH_LIMIT: Final = 8
_RSA_MAXIMUM_BITS: Final = 8_192  # Beyond it a verification takes milliseconds, and a flood of tokens the event loop.
_NUMBER: Final = re.compile(r"[A-Za-z0-9_-]{1,2048}")
_CURVES: Final[Mapping[str, tuple[str, ec.EllipticCurve]]] = {
    "P-256": ("ES256", ec.SECP256R1()),
    "P-384": ("ES384", ec.SECP384R1()),
    "P-521": ("ES512", ec.SECP521R1()),
}
Fields = Mapping[str, object]
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A public key in PEM, the algorithms it may verify, and the name tokens use for it; None where it has none."""

    kid: str | None
    algorithms: tuple[str, ...]
    pem: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """What a set holds: keys to verify with, and for each that was passed over its kid, if it can be told, and why."""

    keys: tuple[PublishedKey, ...]
    passed_over: tuple[str, ...]


class _PassedOver(ValueError):
    """The key is not one to verify tokens with."""


def read_jwks(body: bytes, algorithms: Sequence[str]) -> Reading:
    """Read a set for tokens signed with one of `algorithms`, all of one family.

    Keys for encryption and for other algorithms, weak and broken ones, secrets and private keys are passed over.

    Raises:
        ValueError: it is no set, is too large, or has no key to verify with. The text never holds key material.
    """
    if len(body) > SET_LIMIT_BYTES:
        raise ValueError(f"it is over {SET_LIMIT_BYTES // 1024} KiB")
    keys: list[PublishedKey] = []
    passed_over: list[str] = []
    for index, entry in enumerate(_entries(body)):
        try:
            keys.append(_published(entry, algorithms))
        except _PassedOver as reason:
            passed_over.append(f"{_label(entry, index)}: {reason}")
    if not keys:
        reasons = "; ".join(passed_over[:3]) or "it lists none"
        raise ValueError(f"it has no key for {', '.join(algorithms)} ({reasons})")
    return Reading(tuple(keys), tuple(passed_over))


def _entries(body: bytes) -> list[object]:
    try:
        value = parse(body)
    except NotifierError:
        raise ValueError("it is not JSON") from None
    keys = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(keys, list) or not is_clean(value, depth=_DEPTH_LIMIT):
        raise ValueError("it is not a JSON object with an array called keys")
    if len(keys) > SET_LIMIT_KEYS:
        raise ValueError(f"it has {len(keys)} keys; {SET_LIMIT_KEYS} are the most")
    return keys


def _label(entry: object, index: int) -> str:
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return f"kid {kid!r}" if is_kid(kid) else f"key {index}"


def _published(entry: object, algorithms: Sequence[str]) -> PublishedKey:
    if not isinstance(entry, dict):
        raise _PassedOver("is not an object")
    kid, family = entry.get("kid"), algorithms[0][:2]
    if kid is not None and not is_kid(kid):
        raise _PassedOver("its kid is not 1 to 256 printable ASCII characters")
    if entry.get("kty") == "oct":
        raise _PassedOver("is a secret, which is not for publishing")
    if "d" in entry:
        raise _PassedOver("is a private key, which is not for publishing")
    if entry.get("use", "sig") != "sig" or not _verifies(entry.get("key_ops")):
        raise _PassedOver("is not for signatures")
    if entry.get("kty") != {"RS": "RSA", "ES": "EC"}.get(family):
        raise _PassedOver(f"its kty is not that of {', '.join(algorithms)}")
    fitting, key = (_rsa if family == "RS" else _ec)(entry, algorithms)
    named = entry.get("alg")
    if named is not None:
        fitting = tuple(algorithm for algorithm in fitting if algorithm == named)
    if not fitting:
        raise _PassedOver(f"is not for {', '.join(algorithms)}")
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublishedKey(kid if isinstance(kid, str) else None, fitting, pem)


def _verifies(operations: object) -> bool:
    return operations is None or (isinstance(operations, list) and "verify" in operations)


def _rsa(entry: Fields, algorithms: Sequence[str]) -> tuple[tuple[str, ...], rsa.RSAPublicKey]:
    n, e = _number(entry, "n"), _number(entry, "e")
    if not RSA_MINIMUM_BITS <= n.bit_length() <= _RSA_MAXIMUM_BITS:
        raise _PassedOver(
            f"has {n.bit_length()} bits; RSA keys have {RSA_MINIMUM_BITS} to {_RSA_MAXIMUM_BITS} of them here"
        )
    return tuple(algorithms), _made(rsa.RSAPublicNumbers(e, n).public_key)


def _ec(entry: Fields, algorithms: Sequence[str]) -> tuple[tuple[str, ...], ec.EllipticCurvePublicKey]:
    curve_name = entry.get("crv")
    if not isinstance(curve_name, str) or curve_name not in _CURVES:
        raise _PassedOver("is on no curve that is known here")
    algorithm, curve = _CURVES[curve_name]
    key = _made(ec.EllipticCurvePublicNumbers(_number(entry, "x"), _number(entry, "y"), curve).public_key)
    return tuple(name for name in algorithms if name == algorithm), key


def _made(make: Callable[[], _Key]) -> _Key:
    try:
        return make()
    except (ValueError, UnsupportedAlgorithm):
        raise _PassedOver("is broken: its numbers make no key") from None


def _number(entry: Fields, name: str) -> int:
    """A number in base64url (RFC 7518, 6.3.1.1)."""
    text = entry.get(name)
    if not isinstance(text, str) or _NUMBER.fullmatch(text) is None or len(text) % 4 == 1:
        raise _PassedOver(f"is broken: its {name} is no number in base64url")
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")
