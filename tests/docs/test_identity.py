"""The settings on the pages about identity providers take tokens shaped like those of the provider."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwk, jwt

from notifier import cli
from tests.docs.pages import ROOT, blocks
from tests.issuer import HttpIssuer

PROVIDERS = sorted(page.stem for page in (ROOT / "docs/identity").glob("*.md") if page.stem != "README")
KEY_FILE = "/etc/notifier/keys/key-0.pem"


@pytest.fixture(scope="module")
def private_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2_048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture(scope="module")
def public_key_file(private_pem: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "key-0.pem"
    file.write_bytes(jwk.construct(private_pem, "RS256").public_key().to_pem())
    return file


def now_valid(claims: dict[str, Any]) -> dict[str, Any]:
    """The claims with their times moved to now; the life of the token stays."""
    moved = int(time.time()) - claims["iat"]
    return {name: value + moved if name in ("iat", "exp", "nbf") else value for name, value in claims.items()}


@pytest.fixture(scope="module")
def published(private_pem: str) -> dict[str, Any]:
    """The public key as a JWK."""
    public = jwk.construct(private_pem, "RS256").public_key().to_dict()
    return {"kty": "RSA", "n": public["n"], "e": public["e"]}


@pytest.fixture(scope="module")
def http_issuer() -> Iterator[HttpIssuer]:
    with HttpIssuer() as issuer:
        yield issuer


@pytest.mark.parametrize("way", ["fetched", "by file"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_check_says_of_the_tokens_what_the_page_says(
    provider: str,
    way: str,
    private_pem: str,
    public_key_file: Path,
    published: dict[str, Any],
    http_issuer: HttpIssuer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fetched, *rest, by_file = blocks(f"docs/identity/{provider}.md")
    assert KEY_FILE in by_file.text
    kid = json.loads(by_file.text)[0]["keys"][0]["kid"]
    if way == "by file":
        issuers = json.loads(by_file.text.replace(KEY_FILE, str(public_key_file)))
    else:  # From here, in place of the provider.
        jwks = {"keys": [published | {"kid": kid, "use": "sig"}]}
        http_issuer.say(json.dumps(jwks))
        issuers = [issuer | {"jwks_url": f"{http_issuer.url}/keys"} for issuer in json.loads(fetched.text)]
    monkeypatch.setenv("NOTIFIER_ACCESS__ISSUERS", json.dumps(issuers))
    claims, expected = rest[::2], rest[1::2]

    said = []
    for block in claims:
        token = jwt.encode(now_valid(json.loads(block.text)), private_pem, "RS256", headers={"kid": kid})
        monkeypatch.setattr(sys, "stdin", io.StringIO(token))
        assert cli.main(["check", "--token", "-"]) == 0
        lines = capsys.readouterr().out.splitlines(True)
        said.append("".join(line for line in lines if not line.startswith(("token id:", "issued:", "expires:"))))

    assert len(claims) == 2
    assert said == [block.text for block in expected]


def test_documented_program_turns_a_jwks_into_keys(private_pem: str, public_key_file: Path, tmp_path: Path) -> None:
    """A key for encryption, as Keycloak lists one, is left out."""
    program = next(block.text for block in blocks("docs/identity/README.md") if block.kind == "python")
    public = jwk.construct(public_key_file.read_text(), "RS256").to_dict()
    signing = {"kty": "RSA", "n": public["n"], "e": public["e"], "kid": "2026/11=", "use": "sig"}
    jwks = {"keys": [signing | {"kid": "enc", "use": "enc", "alg": "RSA-OAEP"}, signing]}
    (tmp_path / "jwks.json").write_text(json.dumps(jwks))

    done = subprocess.run(
        [sys.executable, "-c", program, "jwks.json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout) == [{"kid": "2026/11=", "public_key_file": str(tmp_path / "key-0.pem")}]
    token = jwt.encode({"sub": "alice"}, private_pem, "RS256")
    assert jwt.decode(token, (tmp_path / "key-0.pem").read_text(), ["RS256"]) == {"sub": "alice"}
