"""Key sets as issuers publish them: what is taken, passed over, refused (security checklist 3.2.14, 3.2.15, 3.2.19)."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jose import jws

from notifier.access.jwks import SET_LIMIT_BYTES, read_jwks
from notifier.access.keys import KeySet, ready_key
from tests.issuer import pem_of, public_jwk

EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
WEAK_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)


RSA_JWK, WEAK_JWK = public_jwk(RSA_KEY, "RS256"), public_jwk(WEAK_KEY, "RS256")


def rsa_jwk(key: dict[str, Any] = RSA_JWK, **fields: Any) -> dict[str, Any]:
    return key | fields


def ec_jwk(**fields: Any) -> dict[str, Any]:
    return public_jwk(EC_KEY, "ES256", **fields)


def key_set(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


def refusal(body: bytes, *algorithms: str) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        read_jwks(body, algorithms or ("RS256",))
    return str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"use": "sig"},
        {"alg": "RS256"},
        {"use": "sig", "alg": "RS256", "kid": "k", "key_ops": ["verify"], "x5t": "t", "x5c": ["c"]},
        {"kid": "2026/11=", "issuer": "https://login.example/{tenantid}/v2.0"},
    ],
)
def test_a_key_is_taken_with_use_and_alg_or_without(fields: dict[str, Any]) -> None:
    """Entra's have no alg, Okta's and Cognito's have both (3.2.19)."""
    reading = read_jwks(key_set(rsa_jwk(**fields)), ("RS256",))

    assert [key.kid for key in reading.keys] == [fields.get("kid")]
    assert reading.passed_over == ()


def test_a_key_that_was_read_verifies_what_it_signed() -> None:
    for private, algorithm, published in ((RSA_KEY, "RS256", rsa_jwk()), (EC_KEY, "ES256", ec_jwk())):
        (key,) = read_jwks(key_set(published), (algorithm,)).keys
        (found,) = KeySet([ready_key(key.pem, algorithm, key.kid)]).find(None, algorithm)
        signed = jws.sign({"sub": "alice"}, pem_of(private), algorithm=algorithm)

        assert json.loads(jws.verify(signed, found, [algorithm])) == {"sub": "alice"}


def test_a_key_without_alg_serves_each_algorithm_of_the_issuer_and_an_ec_key_that_of_its_curve() -> None:
    (by_rsa,) = read_jwks(key_set(rsa_jwk()), ("RS256", "RS512")).keys
    (by_ec,) = read_jwks(key_set(ec_jwk()), ("ES384", "ES256")).keys

    assert (by_rsa.algorithms, by_ec.algorithms) == (("RS256", "RS512"), ("ES256",))


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (rsa_jwk(use="enc"), "is not for signatures"),
        (rsa_jwk(use=["sig"]), "is not for signatures"),
        (rsa_jwk(key_ops=["encrypt"]), "is not for signatures"),
        (rsa_jwk(key_ops="verify"), "is not for signatures"),
        (rsa_jwk(alg="RSA-OAEP"), "is not for RS256"),
        (rsa_jwk(alg="PS256"), "is not for RS256"),
        (rsa_jwk(alg={}), "is not for RS256"),
        (rsa_jwk(WEAK_JWK), "has 1024 bits"),
        (rsa_jwk() | {"n": base64.urlsafe_b64encode(b"\xff" * 1_025).rstrip(b"=").decode()}, "has 8200 bits"),
        (rsa_jwk() | {"n": "A" * 100_000}, "its n is no number"),
        (rsa_jwk() | {"n": "no+url/chars"}, "its n is no number"),
        (rsa_jwk() | {"n": None}, "its n is no number"),
        (rsa_jwk() | {"e": "AQ"}, "its numbers make no key"),
        (rsa_jwk() | {"d": "AQAB"}, "is a private key"),
        (ec_jwk(), "its kty is not that of RS256"),
        ({"kty": "oct", "k": "c2VjcmV0" * 8, "alg": "RS256"}, "is a secret"),
        ({"kty": "oct", "k": "c2VjcmV0" * 8, "use": "enc"}, "is a secret"),
        ({"kty": "OKP", "crv": "Ed25519", "x": "AA"}, "its kty is not that of RS256"),
        ({"kty": ["RSA"]}, "its kty is not that of RS256"),
        ({}, "its kty is not that of RS256"),
        (rsa_jwk(kid=7), "its kid is not"),
        (rsa_jwk(kid="k" * 257), "its kid is not"),
        (rsa_jwk(kid="line\nend"), "its kid is not"),
        ("text", "is not an object"),
        (None, "is not an object"),
    ],
)
def test_a_key_that_does_not_fit_is_passed_over_and_the_others_are_taken(entry: object, why: str) -> None:
    """`oct` is never merged, encryption keys are ignored, weak ones do not count (3.2.14, 3.2.15, 3.2.19)."""
    reading = read_jwks(key_set(entry, rsa_jwk(kid="good")), ("RS256",))

    assert [key.kid for key in reading.keys] == ["good"]
    assert [why in told for told in reading.passed_over] == [True]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (ec_jwk() | {"crv": "secp256k1"}, "is on no curve that is known"),
        (ec_jwk() | {"crv": {}}, "is on no curve that is known"),
        (ec_jwk() | {"x": "AQAB"}, "its numbers make no key"),
        (public_jwk(ec.generate_private_key(ec.SECP384R1()), "ES384"), "is not for ES256"),
    ],
)
def test_an_ec_key_off_its_curve_is_passed_over(entry: object, why: str) -> None:
    """3.2.15: the curve has to match the algorithm."""
    assert why in refusal(key_set(entry), "ES256")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "is not JSON"),
        (b"<html>maintenance</html>", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"keys": ' + b"[" * 100_000, "is not JSON"),
        (b"[]", "an array called keys"),
        (b"null", "an array called keys"),
        (b'{"keys": {}}', "an array called keys"),
        (b'{"keys": [], "keys": []}', "an array called keys"),
        (b'{"keys": [{"kty": "\\ud800"}]}', "an array called keys"),
        (b'{"keys": []}', "it lists none"),
        (key_set(*[rsa_jwk()] * 51), "it has 51 keys; 50 are the most"),
        (key_set(*[{}] * 10_000), "it has 10000 keys"),
        (b" " * SET_LIMIT_BYTES + key_set(rsa_jwk()), "is over 256 KiB"),
        (key_set(rsa_jwk(WEAK_JWK, kid="weak")), "kid 'weak': has 1024 bits"),
        (key_set({"kty": "oct", "k": "c2VjcmV0" * 8}), "is a secret"),
    ],
)
def test_a_set_without_a_key_that_fits_is_refused_as_a_whole(body: bytes, why: str) -> None:
    """T-51: `oct`, 10,000 keys, garbage."""
    told = refusal(body)

    assert why in told
    assert "c2VjcmV0" not in told


def test_fifty_keys_are_taken() -> None:
    assert len(read_jwks(key_set(*(rsa_jwk(kid=str(number)) for number in range(50))), ("RS256",)).keys) == 50
