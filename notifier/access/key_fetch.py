"""Fetches the key set of an issuer over HTTP, from a fixed address or from where its discovery document says.

It knows nothing of keys: it brings bytes, or says in a sentence why not. Proxies are those of the environment
(HTTPS_PROXY, NO_PROXY).
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx

from notifier.access.jwks import SET_LIMIT_BYTES
from notifier.core.errors import NotifierError
from notifier.core.strict_json import parse

DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
_REDIRECTS: Final = 3
_SHOWN: Final = 200  # Characters of what a stranger says.
# Asked for as it is, so that what is counted is what comes, and nothing small grows large here.
_HEADERS: Final[Mapping[str, str]] = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "notifier",
}


class KeysNotFetched(Exception):
    """The set could not be had; the text says why, for an operator."""


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where an issuer publishes its keys.

    Args:
        issuer: the exact `iss`.
        url: of the set; None to ask the issuer's discovery document (OpenID Connect Discovery 1.0, 4).
        ca_file: certificates to trust in place of the usual ones, in PEM.
    """

    issuer: str
    url: str | None = None
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        check_url(self.url or self.issuer)
        if self.ca_file is not None:
            _context(self.ca_file)


def check_url(url: str) -> None:
    """Refuse an address whose answers could be anybody's. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
        shown = repr(url) if parts.username is None else "one with a user"
        raise ValueError(f"{shown} is no address to fetch keys from: it must read like https://id.example.com/keys")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError(f"{url} is http, where anybody on the way could put in keys: only loopback may be")


async def fetch_keys(place: KeyPlace) -> bytes:
    """Return the set, at most 256 KiB. Raises KeysNotFetched."""
    try:
        context = await asyncio.to_thread(_context, place.ca_file)  # It reads some hundred certificates.
        async with httpx.AsyncClient(verify=context, headers=_HEADERS, timeout=None) as client:  # noqa: S113 - the caller's
            url = place.url or await _discover(client, place.issuer)
            return await _get(client, url)
    except httpx.HTTPError as error:
        raise KeysNotFetched(_why(error)) from None
    except (ValueError, httpx.InvalidURL) as error:
        raise KeysNotFetched(str(error)) from None


def _context(ca_file: Path | None) -> ssl.SSLContext:
    """Raises ValueError when the file cannot be read or holds no certificates."""
    if ca_file is None:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise ValueError(f"{ca_file} holds no certificates in PEM") from None
    except OSError as error:
        raise ValueError(f"{ca_file} cannot be read: {error.strerror}") from None


async def _discover(client: httpx.AsyncClient, issuer: str) -> str:
    """The address of the set, from a document that has to be that of the issuer."""
    url = issuer.rstrip("/") + DISCOVERY_PATH
    try:
        document = parse(await _get(client, url))
    except NotifierError:
        document = None
    if not isinstance(document, dict):
        raise KeysNotFetched(f"{url} is no discovery document: it is not a JSON object; give jwks_url instead")
    if document.get("issuer") != issuer:
        named = str(document.get("issuer"))[:_SHOWN]
        raise KeysNotFetched(f"{url} is the document of the issuer {named!r}, not of {issuer!r}")
    found = document.get("jwks_uri")
    try:
        if not isinstance(found, str) or (issuer.startswith("https:") and not found.startswith("https:")):
            raise ValueError("it names no jwks_uri with https")
        check_url(found)
    except ValueError as error:
        raise KeysNotFetched(f"{url}: {error}") from None
    return found


async def _get(client: httpx.AsyncClient, url: str) -> bytes:
    """One document, over redirects on the same host alone: the address is fixed, and with it who can answer."""
    for _ in range(_REDIRECTS + 1):
        async with client.stream("GET", url) as answer:
            if answer.status_code == 200:
                return await _body(answer, url)
            if not answer.has_redirect_location:
                raise KeysNotFetched(f"{url} answers {answer.status_code}")
            target = urljoin(url, answer.headers["location"])
        if _origin(target) != _origin(url):
            raise KeysNotFetched(
                f"{url} redirects to another host, {_origin(target)}: give the address there as jwks_url"
            )
        url = target
    raise KeysNotFetched(f"{url} redirects again and again")


async def _body(answer: httpx.Response, url: str) -> bytes:
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise KeysNotFetched(f"{url} answers in an encoding that was not asked for")
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > SET_LIMIT_BYTES:
            raise KeysNotFetched(f"{url} answers with over {SET_LIMIT_BYTES // 1024} KiB")
    return bytes(body)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _why(error: httpx.HTTPError) -> str:
    where = partial("{} {}".format, f"{error.request.url.scheme}://{error.request.url.netloc.decode()}")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return where(
                f"has a certificate that is not trusted ({cause.verify_message}): an internal CA goes into ca_file"
            )
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ProxyError):
        return where(f"is not reached through the proxy of HTTPS_PROXY: {error}")
    return where(f"cannot be reached: {str(error) or type(error).__name__}")
