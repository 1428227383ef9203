"""Which pages may talk to us: exact origins, one wildcard label, or the same origin."""

import re

import pytest

from notifier.access.origins import OriginPolicy

LISTED = ("https://app.example.com", "https://*.shop.example", "http://localhost:3000", "https://bücher.example")


def allows(policy: OriginPolicy, origin: str | None, *, scheme: str = "wss", host: str = "push.example.com") -> bool:
    return policy.allows(origin, scheme=scheme, host=host)


GOOD = (
    "https://app.example.com",
    "https://app.example.com:443",
    "HTTPS://App.Example.COM",
    "https://eu.shop.example",
    "https://xn--bcher-kva.shop.example",
    "http://localhost:3000",
    "https://xn--bcher-kva.example",
)
BAD = (
    "",
    "null",
    "*",
    "https://",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com:0443x",
    "https://app.example.com:99999",
    "https://app.example.com/",
    "https://app.example.com/path",
    "https://app.example.com.",
    "https://app.example.com.evil.example",
    "https://app.example.com@evil.example",
    "https://evil-app.example.com",
    "https://evilapp.example.com",
    "https://app-example.com",
    "https://appxexample.com",
    "https://example.com",
    "https://shop.example",
    "https://evil-shop.example",
    "https://a.b.shop.example",
    "https://.shop.example",
    "https://*.shop.example",
    "https://eu.shop.example:8443",
    "http://eu.shop.example",
    "http://localhost",
    "http://localhost:30000",
    "https://app.example.com, https://evil.example",
    "https://app.example.com https://evil.example",
    "https://app.example.com\nhttps://evil.example",
    "https://app.example.com\n",
    " https://app.example.com",
    "https://app.example.com%2eevil.example",
    "https://bucher.example",
    "https://bücher.examplé",
    "wss://app.example.com",
    "file://",
    "https://" + "a" * 70_000,
)


@pytest.mark.parametrize("origin", GOOD)
def test_listed_origin_is_allowed(origin: str) -> None:
    """Checklist 3.1.2."""
    assert allows(OriginPolicy(LISTED, public_origin=None), origin)


@pytest.mark.parametrize("origin", BAD)
def test_any_other_origin_is_refused(origin: str) -> None:
    """Checklist 3.1.2."""
    assert not allows(OriginPolicy(LISTED, public_origin="https://push.example.com"), origin)


@pytest.mark.parametrize("origin", [*GOOD, *BAD])
def test_cors_pattern_says_the_same_as_the_list(origin: str) -> None:
    policy = OriginPolicy(LISTED, public_origin=None)
    assert policy.cors_pattern is not None

    assert (re.compile(policy.cors_pattern).fullmatch(origin) is not None) == allows(policy, origin)


def test_cors_pattern_does_not_fold_other_scripts_into_ascii() -> None:
    """The Kelvin sign is a "k" to a regular expression that ignores case."""
    pattern = OriginPolicy(["https://kiosk.example"], public_origin=None).cors_pattern
    assert pattern is not None

    assert re.fullmatch(pattern, "https://\u212aiosk.example") is None


def test_missing_origin_is_allowed() -> None:
    """It is no browser, and cookies are never read. Checklist 3.1.2."""
    assert allows(OriginPolicy(LISTED, public_origin=None), None)


def test_own_origin_is_not_allowed_when_others_are_listed() -> None:
    assert not allows(OriginPolicy(LISTED, public_origin=None), "https://push.example.com")


def test_entries_are_normalised() -> None:
    policy = OriginPolicy(["HTTPS://BÜCHER.Example:443", "http://[0:0:0:0:0:0:0:1]:8080"], public_origin=None)

    assert allows(policy, "https://xn--bcher-kva.example")
    assert allows(policy, "http://[::1]:8080")
    assert not allows(policy, "http://[::1]")


def test_wildcard_keeps_its_port() -> None:
    policy = OriginPolicy(["https://*.shop.example:8443"], public_origin=None)

    assert allows(policy, "https://eu.shop.example:8443")
    assert not allows(policy, "https://eu.shop.example")


def test_origin_of_an_app_shell_is_allowed() -> None:
    assert allows(OriginPolicy(["capacitor://localhost"], public_origin=None), "capacitor://localhost")


@pytest.mark.parametrize(
    ("scheme", "host", "origin", "allowed"),
    [
        ("wss", "push.example.com", "https://push.example.com", True),
        ("https", "push.example.com:443", "https://push.example.com", True),
        ("ws", "localhost:8000", "http://localhost:8000", True),
        ("http", "LOCALHOST:80", "http://localhost", True),
        ("ws", "push.example.com", "https://push.example.com", False),
        ("wss", "push.example.com", "https://evil.example", False),
        ("wss", "push.example.com", "https://push.example.com:8443", False),
        ("wss", "push.example.com", "null", False),
        ("wss", "", "https://push.example.com", False),
        ("wss", "a@push.example.com", "https://push.example.com", False),
    ],
)
def test_empty_list_means_the_origin_of_the_request(scheme: str, host: str, origin: str, allowed: bool) -> None:
    policy = OriginPolicy([], public_origin=None)

    assert allows(policy, origin, scheme=scheme, host=host) == allowed


def test_public_origin_wins_over_the_host_header() -> None:
    policy = OriginPolicy([], public_origin="https://push.example.com")

    assert allows(policy, "https://push.example.com", scheme="ws", host="10.0.0.7:8000")
    assert not allows(policy, "http://10.0.0.7:8000", scheme="ws", host="10.0.0.7:8000")


def test_same_origin_needs_no_cors() -> None:
    assert OriginPolicy([], public_origin="https://push.example.com").cors_pattern is None


@pytest.mark.parametrize(
    "entry",
    [
        "app.example.com",
        "https://",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://user@app.example.com",
        "https://app.example.com:70000",
        "https://app.*.com",
        "https://*app.example.com",
        "https://*.*.example.com",
        "*.example.com",
        "https://*",
        "https://*.com",
        "wss://app.example.com",
        "null",
        "*",
        "",
    ],
)
def test_entry_that_is_no_full_origin_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        OriginPolicy([entry], public_origin=None)


def test_public_origin_must_be_one() -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        OriginPolicy([], public_origin="https://push.example.com/notifier")


def test_text_instead_of_a_list_is_refused() -> None:
    with pytest.raises(ValueError, match="a list"):
        OriginPolicy("https://app.example.com", public_origin=None)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", None])
def test_insecure_mode_lets_every_origin_in(origin: str | None) -> None:
    policy = OriginPolicy(["*"], public_origin=None, allow_any=True)

    assert allows(policy, origin)
    assert policy.cors_pattern == ".+"
