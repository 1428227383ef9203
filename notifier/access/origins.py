"""Decides from its Origin whether a page in a browser may talk to us, for CORS, sockets and streams alike."""

import re
from collections.abc import Sequence
from ipaddress import AddressValueError, IPv6Address
from typing import Final

import idna

# RFC 6454 section 6.2: scheme "://" host [ ":" port ], and nothing else.
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]{0,31})://(\[[0-9a-f:.]{2,45}\]|[^\s/?#@:,\[\]\\%]{1,253})(?::([0-9]{1,5}))?")
_LABELS = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_ONE_LABEL: Final = "[a-z0-9_-]{1,63}"
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_PAGE_SCHEMES: Final = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
_PORT_LIMIT: Final = 65_535
_LENGTH_LIMIT: Final = 300
_EXPECTED: Final = "expected a full origin such as https://app.example.com or https://*.example.com, without a path"


class OriginPolicy:
    """The origins whose pages are let in.

    Args:
        allowed: full origins; `https://*.example.com` stands for exactly one label. Empty: same origin only.
        public_origin: where browsers reach this service; None takes the scheme and Host of each request.
        allow_any: let every origin in, `null` too: the insecure mode, without which `*` is refused.

    Raises:
        ValueError: an entry is not a full origin.
    """

    def __init__(self, allowed: Sequence[str], *, public_origin: str | None, allow_any: bool = False) -> None:
        if isinstance(allowed, str):
            raise ValueError("the allowed origins are a list, not one text")
        if "*" in allowed and not allow_any:
            raise ValueError('the allowed origin "*" lets every web page in, which only the insecure mode does')
        self._allow_any = allow_any
        self._public_origin = None if public_origin is None else _configured(public_origin)
        entries = [_configured_entry(entry) for entry in allowed if entry != "*"]
        self._exact = frozenset(entry for entry in entries if "*" not in entry)
        self._wildcards = tuple(re.compile(_pattern(entry)) for entry in entries if "*" in entry)
        self.cors_pattern = ".+" if allow_any else _joined(entries)

    def allows(self, origin: str | None, *, scheme: str, host: str) -> bool:
        """Tell whether a request may go on.

        Args:
            origin: the header as it came; None when it is missing, which means no browser sent the request.
            scheme: of the request, as a trusted proxy reports it: http, https, ws or wss.
            host: the Host header, with its port.
        """
        if origin is None or self._allow_any:
            return True
        canonical = _received(origin)
        if canonical is None:
            return False
        if self._exact or self._wildcards:
            return canonical in self._exact or any(wildcard.fullmatch(canonical) for wildcard in self._wildcards)
        return canonical == (self._public_origin or _received(f"{_PAGE_SCHEMES.get(scheme, scheme)}://{host}"))


def _configured_entry(entry: str) -> str:
    """Read one entry of the list; a wildcard is read by the rest of it."""
    scheme, separator, rest = entry.partition("://*.")
    if not separator:
        return _configured(entry)
    parent_scheme, _, parent = _configured(f"{scheme}://{rest}").partition("://")
    if "." not in parent and parent.partition(":")[0] != "localhost":
        raise ValueError(f"the origin {entry!r} covers a whole top-level domain; name at least one label more")
    return f"{parent_scheme}://*.{parent}"


def _configured(entry: str) -> str:
    canonical = _canonical(entry)
    if canonical is None:
        raise ValueError(f"{entry!r} is not an origin: {_EXPECTED}")
    if canonical.startswith(("ws://", "wss://")):
        raise ValueError(f"{entry!r} is the address of a socket: browsers send the page's origin, http or https")
    return canonical


def _received(origin: str) -> str | None:
    """Read what a request brought. Browsers send A-labels, so that only settings need the costly way to them."""
    return _canonical(origin) if origin.isascii() and len(origin) <= _LENGTH_LIMIT else None


def _canonical(origin: str) -> str | None:
    """Return the origin as a browser would write it: lower case, A-labels, no default port. None for what is none."""
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        return None
    scheme, host, port = match[1], _canonical_host(match[2]), match[3]
    if host is None or (port is not None and not 0 < int(port) <= _PORT_LIMIT):
        return None
    if port is None or str(int(port)) == _DEFAULT_PORTS.get(scheme):
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{int(port)}"


def _canonical_host(host: str) -> str | None:
    try:
        if host.startswith("["):
            return f"[{IPv6Address(host[1:-1]).compressed}]"
        name = host if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except (AddressValueError, UnicodeError):
        # idna.IDNAError is a UnicodeError.
        return None
    return name if _LABELS.fullmatch(name) else None


def _joined(entries: Sequence[str]) -> str | None:
    """Return one expression for the whole list; None when it is empty, since same origin needs no CORS."""
    return "|".join(map(_pattern, entries)) or None


def _pattern(entry: str) -> str:
    """Return an expression for one canonical entry that takes its other spellings too: case and the default port."""
    text = re.escape(entry).replace(r"://\*\.", rf"://{_ONE_LABEL}\.")
    default_port = _DEFAULT_PORTS.get(entry.partition("://")[0])
    has_port = re.search(r":[0-9]+$", entry) is not None
    optional = "" if has_port or default_port is None else f"(?::{default_port})?"
    # ASCII only: without "a" the Kelvin sign would pass for a "k".
    return f"(?ai:{text}{optional})"
