"""Tokens as the usual issuers make them are understood, with real keys."""

import base64
import dataclasses

import pytest
from jose import jws

from notifier.access.keys import KeyMaterial, load_keys
from notifier.access.tokens import Issuer, TokenVerifier
from notifier.access.topics import TopicRule
from notifier.core.errors import Unauthenticated
from notifier.core.identity import Identity, Tenant
from tests.access.builders import ISSUER, NOW, SECRET, Pair, claims, issuer, token, verifier

KEYCLOAK = {
    "iss": "https://sso.example/realms/acme",
    "aud": "account",
    "sub": "f3c1a9e0-7a51-4a43-9d0e-2c7a6a1b8f11",
    "typ": "Bearer",
    "azp": "shop",
    "iat": NOW - 5,
    "exp": NOW + 295,
    "jti": "onrtro:3f1c2d",
    "realm_access": {"roles": ["offline_access", "admin"]},
    "resource_access": {"shop": {"roles": ["buyer"]}, "account": {"roles": ["view-profile"]}},
    "scope": "openid email notify:send",
}
AUTH0 = {
    "iss": "https://acme.eu.auth0.com/",
    "aud": ["https://notifier.example", "https://acme.eu.auth0.com/userinfo"],
    "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
    "iat": NOW - 5,
    "exp": NOW + 86_395,
    "azp": "my_client_id",
    "https://acme.example/roles": ["admin"],
    "https://acme.example/tenant": "acme",
    "permissions": ["notify:send", "notify:broadcast"],
}
ENTRA = {
    "iss": "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
    "aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3",
    "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
    "oid": "00000000-0000-0000-66f3-3332eca7ea81",
    "tid": "9188040d-6c67-4c5b-b112-36a304b66dad",
    "iat": NOW - 300,
    "nbf": NOW - 300,
    "exp": NOW + 3_600,
    "roles": ["Task.Admin"],
    "scp": "notify:send profile",
    "uti": "fqiBqXLPj0eQa82S-IYFAA",
    "ver": "2.0",
}
COGNITO = {
    "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_abc",
    "client_id": "1example23456789",
    "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "username": "alice",
    "cognito:groups": ["admins", "eu-central-1_abc_Google"],
    "token_use": "access",
    "scope": "aws.cognito.signin.user.admin notify:send",
    "iat": NOW - 5,
    "auth_time": NOW - 5,
    "exp": NOW + 3_595,
    "jti": "a6a2f6f2-1f5f-4bb1-8d3b-0b6a5c9b7f10",
}
OKTA = {
    "ver": 1,
    "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
    "iss": "https://acme.okta.com/oauth2/default",
    "aud": "api://default",
    "sub": "alice@acme.example",
    "uid": "00uid4BxXw6I6TV4m0g3",
    "groups": ["Everyone", "Admins"],
    "scp": ["openid", "notify:send"],
    "iat": NOW - 5,
    "exp": NOW + 3_595,
}
RULES = (TopicRule("any", "", ("news", "user.{sub}.#")), TopicRule("role", "admin", ("audit.#",)))


def presets(rsa_keys: Pair, ec_keys: Pair) -> tuple[Issuer, ...]:
    by_rsa = issuer(rsa_keys.public_pem, ("RS256",))
    by_ec = issuer(ec_keys.public_pem, ("ES256",))
    return (
        dataclasses.replace(
            by_rsa, issuer=str(KEYCLOAK["iss"]), audiences=frozenset({"account"}), roles_claim=("realm_access", "roles")
        ),
        dataclasses.replace(
            by_rsa,
            issuer=str(AUTH0["iss"]),
            audiences=frozenset({"https://notifier.example"}),
            tenants=frozenset({"acme"}),
            tenant_claim=("https://acme.example/tenant",),
            roles_claim=("https://acme.example/roles",),
            scopes_claim=("permissions",),
        ),
        dataclasses.replace(
            by_rsa,
            issuer=str(ENTRA["iss"]),
            audiences=frozenset({"6e74172b-be56-4843-9ff4-e66a39bb12e3"}),
            user_claim=("oid",),
            tenant_claim=("tid",),
            scopes_claim=("scp",),
        ),
        dataclasses.replace(
            by_ec,
            issuer=str(COGNITO["iss"]),
            audiences=frozenset({"1example23456789"}),
            audience_claim=("client_id",),
            roles_claim=("cognito:groups",),
        ),
        dataclasses.replace(
            by_ec,
            issuer=str(OKTA["iss"]),
            audiences=frozenset({"api://default"}),
            user_claim=("uid",),
            roles_claim=("groups",),
            scopes_claim=("scp",),
        ),
    )


@pytest.fixture
def gate(rsa_keys: Pair, p256_keys: Pair) -> TokenVerifier:
    """All five issuers at once."""
    return verifier(*presets(rsa_keys, p256_keys), rules=RULES)


def test_keycloak_token_is_understood(gate: TokenVerifier, rsa_keys: Pair) -> None:
    identity = gate.verify(token(KEYCLOAK, key=rsa_keys.private_pem, alg="RS256", headers={"kid": "FJ86GcF3jTbNLOco4"}))

    assert identity == Identity(
        tenant=Tenant("default"),
        user="f3c1a9e0-7a51-4a43-9d0e-2c7a6a1b8f11",
        issuer="https://sso.example/realms/acme",
        roles=frozenset({"offline_access", "admin"}),
        topic_patterns=(("news",), ("user", "f3c1a9e0-7a51-4a43-9d0e-2c7a6a1b8f11", "#"), ("audit", "#")),
        scopes=frozenset({"openid", "email", "notify:send"}),
        tenants=frozenset(),
        expires_at=NOW + 295,
        token_id="onrtro:3f1c2d",
        issued_at=NOW - 5,
    )


def test_keycloak_client_roles_are_understood(rsa_keys: Pair) -> None:
    keycloak = issuer(
        rsa_keys.public_pem,
        ("RS256",),
        issuer=str(KEYCLOAK["iss"]),
        audiences=frozenset({"shop"}),
        roles_claim=("resource_access", "shop", "roles"),
    )
    signed = token(KEYCLOAK | {"aud": ["account", "shop"]}, key=rsa_keys.private_pem, alg="RS256")

    assert verifier(keycloak).verify(signed).roles == {"buyer"}


def test_auth0_token_is_understood(gate: TokenVerifier, rsa_keys: Pair) -> None:
    identity = gate.verify(token(AUTH0, key=rsa_keys.private_pem, alg="RS256", headers={"typ": "at+jwt"}))

    assert identity == Identity(
        tenant=Tenant("acme"),
        user="auth0|5f7c8ec7c33c6c004bbafe82",
        issuer="https://acme.eu.auth0.com/",
        roles=frozenset({"admin"}),
        topic_patterns=(("news",), ("audit", "#")),
        scopes=frozenset({"notify:send", "notify:broadcast"}),
        tenants=frozenset(),
        expires_at=NOW + 86_395,
        token_id=identity.token_id,
        issued_at=NOW - 5,
    )


def test_entra_token_is_understood(gate: TokenVerifier, rsa_keys: Pair) -> None:
    headers = {"x5t": "i6lGk3FZzxRcUb2C3nEQ7syHJlY", "kid": "i6lGk3FZzxRcUb2C3nEQ7syHJlY"}
    identity = gate.verify(token(ENTRA, key=rsa_keys.private_pem, alg="RS256", headers=headers))

    assert identity.tenant == "9188040d-6c67-4c5b-b112-36a304b66dad"
    assert identity.user == "00000000-0000-0000-66f3-3332eca7ea81"
    assert identity.roles == {"Task.Admin"}
    assert identity.scopes == {"notify:send", "profile"}
    assert (identity.token_id or "").startswith("sha256:")  # Entra's tokens have no jti.


def test_cognito_token_is_understood(gate: TokenVerifier, p256_keys: Pair) -> None:
    identity = gate.verify(token(COGNITO, key=p256_keys.private_pem, alg="ES256"))

    assert identity.user == "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
    assert identity.roles == {"admins", "eu-central-1_abc_Google"}
    assert "notify:send" in identity.scopes


def test_okta_token_is_understood(gate: TokenVerifier, p256_keys: Pair) -> None:
    headers = {"typ": "application/okta-internal-at+jwt"}
    identity = gate.verify(token(OKTA, key=p256_keys.private_pem, alg="ES256", headers=headers))

    assert identity.user == "00uid4BxXw6I6TV4m0g3"
    assert identity.roles == {"Everyone", "Admins"}
    assert identity.scopes == {"openid", "notify:send"}


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_hmac_token_is_verified(alg: str) -> None:
    assert verifier(issuer(SECRET, (alg,))).verify(token(alg=alg)).user == "alice"


@pytest.mark.parametrize("alg", ["RS256", "RS384", "RS512"])
def test_rsa_token_is_verified(rsa_keys: Pair, alg: str) -> None:
    signed = token(key=rsa_keys.private_pem, alg=alg)

    assert verifier(issuer(rsa_keys.public_pem, ("RS256", "RS384", "RS512"))).verify(signed).user == "alice"


@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512"])
def test_ec_token_is_verified(p256_keys: Pair, p384_keys: Pair, p521_keys: Pair, alg: str) -> None:
    keys = {"ES256": p256_keys, "ES384": p384_keys, "ES512": p521_keys}
    every = load_keys([KeyMaterial(pair.public_pem) for pair in keys.values()], tuple(keys))
    signer = Issuer(ISSUER, every, tuple(keys), frozenset({"notifier"}))

    assert verifier(signer).verify(token(key=keys[alg].private_pem, alg=alg)).user == "alice"


@pytest.mark.parametrize("headers", [{"kid": "new"}, {"kid": "old"}, None])
def test_both_keys_work_during_a_rotation(rsa_keys: Pair, other_rsa_keys: Pair, headers: dict[str, str] | None) -> None:
    materials = [KeyMaterial(other_rsa_keys.public_pem, "new"), KeyMaterial(rsa_keys.public_pem, "old")]
    rotating = Issuer(ISSUER, load_keys(materials, ("RS256",)), ("RS256",), frozenset({"notifier"}))
    signer = other_rsa_keys if headers == {"kid": "new"} else rsa_keys

    assert verifier(rotating).verify(token(key=signer.private_pem, alg="RS256", headers=headers)).user == "alice"


def test_kid_of_another_key_is_refused(rsa_keys: Pair, other_rsa_keys: Pair) -> None:
    materials = [KeyMaterial(other_rsa_keys.public_pem, "new"), KeyMaterial(rsa_keys.public_pem, "old")]
    rotating = Issuer(ISSUER, load_keys(materials, ("RS256",)), ("RS256",), frozenset({"notifier"}))

    with pytest.raises(Unauthenticated, match="token_invalid"):
        verifier(rotating).verify(token(key=rsa_keys.private_pem, alg="RS256", headers={"kid": "new"}))


def test_single_key_without_kid_takes_any_kid() -> None:
    assert verifier().verify(token(headers={"kid": "whatever"})).user == "alice"


def test_harmless_header_fields_are_ignored() -> None:
    """Checklist 3.2.16."""
    headers = {"typ": "at+jwt", "cty": "json", "x5t#S256": "abc", "x5c": ["AAAA"], "custom": {"a": [1]}}

    assert verifier().verify(token(headers=headers)).user == "alice"


@pytest.mark.parametrize(
    "changes",
    [
        {"iat": NOW + 30},
        {"nbf": NOW + 30},
        {"exp": NOW - 29},
        {"exp": NOW + 60.5, "iat": NOW - 0.25},
        {"iat": NOW, "exp": NOW + 86_400},
        {"aud": ["other", "notifier"]},
        {"roles": None, "scope": "", "topics": [], "tenants": []},
        {"x": [[[[[[[[[[[[[[[]]]]]]]]]]]]]]]},
    ],
)
def test_token_at_the_edge_is_taken(changes: dict[str, object]) -> None:
    """Checklist 3.2.17."""
    assert verifier().verify(token(claims(**changes))).user == "alice"


def test_every_claim_reaches_the_identity() -> None:
    everything = claims(
        tenant="acme",
        roles="key account",
        scope="  notify:send  notify:any-tenant ",
        topics=["orders.*", "user.{sub}.#", "orders.*"],
        tenants=["globex", "initech"],
        jti="7",
    )

    assert verifier().verify(token(everything)) == Identity(
        tenant=Tenant("acme"),
        user="alice",
        issuer=ISSUER,
        roles=frozenset({"key account"}),
        topic_patterns=(("orders", "*"), ("user", "alice", "#")),
        scopes=frozenset({"notify:send", "notify:any-tenant"}),
        tenants=frozenset({"globex", "initech"}),
        expires_at=NOW + 600,
        token_id="7",
        issued_at=NOW - 10,
    )


@pytest.mark.parametrize("user", ["alice@example.com", "auth0|5f", "Zoë", "山田 太郎", "😀", "a" * 256])
def test_printable_user_passes(user: str) -> None:
    assert verifier().verify(token(claims(sub=user))).user == user


def test_names_are_normalised() -> None:
    """Two spellings of one name must not be two mailboxes."""
    identity = verifier().verify(token(claims(sub="Zoe\u0308", roles=["cafe\u0301"])))

    assert identity.user == "Zo\u00eb"
    assert identity.roles == {"caf\u00e9"}


def test_sessions_with_the_same_rules_share_patterns() -> None:
    gate = verifier(rules=(TopicRule("any", "", ("news.#",)),))
    alice, bob = (gate.verify(token(claims(sub=user, topics=["orders.*"]))) for user in ("alice", "bob"))

    assert all(one is other for one, other in zip(alice.topic_patterns, bob.topic_patterns, strict=True))


def test_token_seen_again_is_not_verified_again() -> None:
    """3.2.20."""
    gate, signed = verifier(), token()

    assert gate.verify(signed) is gate.verify(signed)


def test_forgotten_tokens_are_verified_again() -> None:
    gate, signed = verifier(), token()
    first = gate.verify(signed)
    gate.forget_all()
    second = gate.verify(signed)

    assert second == first
    assert second is not first


@pytest.mark.parametrize(("size", "is_remembered"), [(0, False), (1, False), (2, True)])
def test_oldest_token_is_forgotten_beyond_the_size(size: int, is_remembered: bool) -> None:
    gate = TokenVerifier([issuer()], clock=lambda: NOW, cache_size=size)
    first = gate.verify(token())
    gate.verify(token(claims(sub="bob")))

    assert (gate.verify(token()) is first) == is_remembered


def test_explanation_says_who_the_bearer_is() -> None:
    said = claims(roles=["b", "a"], scope="notify:send", topics=["orders.#"], exp=NOW + 600.5, jti="7")
    signed = token(said)

    assert verifier().explain(signed) == [
        f"issuer: {ISSUER}",
        "tenant: default",
        "user: alice",
        "roles: a, b",
        "topics: orders.#",
        "scopes: notify:send",
        "may send into: none",
        "token id: 7",
        "issued: 2027-01-15T07:59:50.000+00:00",
        "expires: 2027-01-15T08:10:00.500+00:00",
    ]


def test_a_token_without_jti_is_known_by_what_was_signed(p256_keys: Pair) -> None:
    """An ECDSA signature (r, s) holds as (r, n - s) too: written that way, it must not be another token."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    signed = token(claims(), key=p256_keys.private_pem, alg="ES256")
    head, _, signature = signed.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    other = raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)
    again = f"{head}.{base64.urlsafe_b64encode(other).decode().rstrip('=')}"
    gate = verifier(issuer(p256_keys.public_pem, ("ES256",)))

    assert again != signed
    assert gate.verify(signed).token_id == gate.verify(again).token_id


def test_explanation_says_why_a_token_is_refused() -> None:
    signed = jws.sign(claims(aud="other"), SECRET)

    assert verifier().explain(signed) == ["refused (token_invalid): it is not for the audience notifier"]
