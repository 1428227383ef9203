"""Key material is refused at start-up when it is weak, of the wrong kind, or public and used as a secret."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import NameOID

from notifier.access.keys import KeyMaterial, check_algorithms, load_keys
from tests.access.builders import SECRET, Pair


def certificate(keys: Pair) -> x509.Certificate:
    private = serialization.load_pem_private_key(keys.private_pem.encode(), password=None)
    assert isinstance(private, rsa.RSAPrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start + timedelta(days=3_650))
    return builder.sign(private, hashes.SHA256())


def refusal(material: str | bytes, *algorithms: str) -> str:
    with pytest.raises(ValueError, match=r"the key|no key") as caught:
        load_keys([KeyMaterial(material)], algorithms)
    return str(caught.value)


@pytest.mark.parametrize("form", ["pem", "ssh", "der", "der with newline", "base64 of der", "pkcs1", "pkcs1 der"])
def test_public_key_is_no_secret(rsa_keys: Pair, form: str) -> None:
    """3.2.14, 2.6 (CVE-2024-33663, and DER): whoever has the public key could sign tokens."""
    pkcs1 = serialization.PublicFormat.PKCS1
    forms: dict[str, str | bytes] = {
        "pem": rsa_keys.public_pem,
        "ssh": rsa_keys.public_ssh,
        "der": rsa_keys.public_der,
        "der with newline": rsa_keys.public_der + b"\n",
        "base64 of der": base64.b64encode(rsa_keys.public_der).decode(),
        "pkcs1": rsa_keys.public.public_bytes(serialization.Encoding.PEM, pkcs1),
        "pkcs1 der": rsa_keys.public.public_bytes(serialization.Encoding.DER, pkcs1),
    }

    assert "not a secret" in refusal(forms[form], "HS256")


def test_body_of_a_pem_file_is_no_secret(p256_keys: Pair) -> None:
    body = "\n".join(p256_keys.public_pem.strip().splitlines()[1:-1])

    assert "not a secret" in refusal(body, "HS256")


def test_body_of_an_ssh_key_is_no_secret(p256_keys: Pair) -> None:
    assert "not a secret" in refusal(p256_keys.public_ssh.split(" ")[1], "HS256")


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_certificate_is_no_secret(rsa_keys: Pair, encoding: serialization.Encoding) -> None:
    """Checklist 3.2.14."""
    assert "not a secret" in refusal(certificate(rsa_keys).public_bytes(encoding), "HS256")


@pytest.mark.parametrize("password", [None, b"password"])
def test_private_key_in_der_is_no_secret(rsa_keys: Pair, password: bytes | None) -> None:
    private = serialization.load_pem_private_key(rsa_keys.private_pem.encode(), password=None)
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    der = private.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, protection)

    assert "not a secret" in refusal(der, "HS256")


def test_jwk_is_no_secret() -> None:
    assert "not a secret" in refusal(json.dumps({"kty": "oct", "k": "c2VjcmV0" * 5}), "HS256")


@pytest.mark.parametrize(
    "secret",
    [
        "a-string-secret-at-least-256-bits-long",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "CHANGEME-CHANGEME-CHANGEME-CHANGEME",
        "please change-this before production",
        "your-256-bit-secret-your-256-bit-secret",
        "for development on loopback only, not a secret",
    ],
)
def test_placeholder_is_no_secret(secret: str) -> None:
    """3.2.15: from jwt.io, from FastAPI's tutorial, from sample files, and our own for development."""
    text = refusal(secret, "HS256")

    assert "is a placeholder" in text
    assert secret not in text


def test_short_secret_is_refused_without_showing_it() -> None:
    """3.2.15, 2.6: python-jose takes an empty one."""
    text = refusal("x" * 31, "HS256")

    assert "31 bytes" in text
    assert "xxx" not in text


def test_secret_that_is_no_text_is_refused() -> None:
    assert "not text in UTF-8" in refusal("\ud800" * 40, "HS256")


@pytest.mark.parametrize("secret", ["x" * 32, "ß" * 16, b"\x30\x1e" + bytes(30), "00" * 25, SECRET])
def test_secret_of_32_bytes_is_taken(secret: str | bytes) -> None:
    keys = load_keys([KeyMaterial(secret)], ("HS256", "HS512"))

    assert len(keys.find(None, "HS512")) == 1


def test_rsa_1024_is_refused(weak_rsa_keys: Pair) -> None:
    """3.2.15, 2.6: python-jose takes it."""
    assert "1024 bits" in refusal(weak_rsa_keys.public_pem, "RS256")


def test_rsa_certificate_is_taken(rsa_keys: Pair) -> None:
    pem = certificate(rsa_keys).public_bytes(serialization.Encoding.PEM)

    assert len(load_keys([KeyMaterial(pem)], ("RS256",)).find(None, "RS256")) == 1


def test_private_key_is_refused(rsa_keys: Pair) -> None:
    assert "only the issuer should have it" in refusal(rsa_keys.private_pem, "RS256")


def test_ec_key_on_another_curve_is_refused(p256_keys: Pair) -> None:
    """3.2.15."""
    assert "secp256r1, which is not the curve of ES384" in refusal(p256_keys.public_pem, "ES384")


def test_algorithm_without_a_key_is_refused(p256_keys: Pair) -> None:
    assert "no key fits ES512" in refusal(p256_keys.public_pem, "ES256", "ES512")


def test_key_of_the_other_family_is_refused(rsa_keys: Pair, p256_keys: Pair) -> None:
    assert "not an EC key" in refusal(rsa_keys.public_pem, "ES256")
    assert "not an RSA key" in refusal(p256_keys.public_pem, "RS256")


def test_ed25519_key_is_refused() -> None:
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(serialization.Encoding.PEM, info)

    assert "neither an RSA nor an EC key" in refusal(pem, "ES256")


@pytest.mark.parametrize("material", ["", "secret", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_unreadable_key_is_refused(material: str) -> None:
    assert "cannot be read" in refusal(material, "RS256")


@pytest.mark.parametrize(
    ("algorithms", "complaint"),
    [
        ((), "at least one"),
        ("RS256", "is a list"),
        (("none",), "'none'"),
        (("rs256",), "'rs256'"),
        (("PS256",), "'PS256'"),
        (("EdDSA",), "'EdDSA'"),
        (("HS256", "RS256"), "mixes HS and RS"),
        (("RS256", "ES256"), "mixes ES and RS"),
    ],
)
def test_algorithms_are_one_known_family(algorithms: tuple[str, ...], complaint: str) -> None:
    """3.2.14: symmetric and asymmetric never together."""
    with pytest.raises(ValueError, match=complaint):
        check_algorithms(algorithms)


def test_issuer_without_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one key"):
        load_keys([], ("HS256",))


@pytest.mark.parametrize("kid", ["", "k" * 257, "a\nb", "schlüssel"])
def test_kid_that_no_token_can_carry_is_refused(kid: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        load_keys([KeyMaterial(SECRET, kid)], ("HS256",))


def test_two_keys_with_one_kid_are_refused() -> None:
    with pytest.raises(ValueError, match="same kid"):
        load_keys([KeyMaterial(SECRET, "a"), KeyMaterial(SECRET[::-1], "a")], ("HS256",))


def test_known_kid_finds_its_key_alone() -> None:
    """3.2.16, 2.6: python-jose would try them all."""
    keys = load_keys([KeyMaterial(SECRET, "a"), KeyMaterial(SECRET[::-1], "b")], ("HS256",))

    assert len(keys.find("a", "HS256")) == 1
    assert keys.find("a", "HS256") != keys.find("b", "HS256")


def test_unknown_kid_finds_nothing_when_all_keys_have_kids() -> None:
    keys = load_keys([KeyMaterial(SECRET, "a")], ("HS256",))

    assert keys.find("b", "HS256") == ()


def test_unknown_kid_finds_the_key_without_kid() -> None:
    keys = load_keys([KeyMaterial(SECRET), KeyMaterial(SECRET[::-1], "b")], ("HS256",))

    assert len(keys.find("whatever", "HS256")) == 1


def test_missing_kid_finds_every_key() -> None:
    keys = load_keys([KeyMaterial(SECRET, "a"), KeyMaterial(SECRET[::-1], "b")], ("HS256",))

    assert len(keys.find(None, "HS256")) == len("ab")


def test_algorithm_outside_the_list_finds_nothing() -> None:
    keys = load_keys([KeyMaterial(SECRET, "a")], ("HS256",))

    assert keys.find("a", "HS512") == keys.find(None, "HS512") == ()


def test_key_material_does_not_show_in_its_repr() -> None:
    assert SECRET not in repr(KeyMaterial(SECRET, "a"))


def test_a_key_is_constructed_once(rsa_keys: Pair) -> None:
    """2.6: verifying with one that is ready takes half the time."""
    keys = load_keys([KeyMaterial(rsa_keys.public_pem, "a")], ("RS256",))

    assert keys.find("a", "RS256")[0] is keys.find("a", "RS256")[0]
    assert type(keys.find("a", "RS256")[0]).__module__ == "jose.backends.cryptography_backend"
