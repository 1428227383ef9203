"""From the text of a compact JWT to its header and its claims, read strictly and not yet believed."""

import base64
import re
from collections.abc import Mapping
from typing import Final, NoReturn

from notifier.access.keys import is_kid
from notifier.core.errors import NotifierError, Unauthenticated
from notifier.core.strict_json import flaws, parse

TOKEN_LIMIT_BYTES: Final = 7_168
_SEGMENTS: Final = 3
_DEPTH_LIMIT: Final = 16
# Each of them has the token choose its own key (RFC 8725 section 3.10) or changes what the signature covers.
_DANGEROUS: Final = ("jku", "x5u", "jwk", "crit", "zip", "b64")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-]+")
_DETAILS: Final = {
    "token_missing": "A bearer token is required.",
    "token_invalid": "The bearer token is not valid.",
    "token_expired": "The bearer token has expired.",
}
Claims = Mapping[str, object]


def refuse(reason: str, *, code: str = "token_invalid") -> NoReturn:
    """Raise Unauthenticated: one sentence per code for the bearer, the reason for the operator."""
    raise Unauthenticated(code, _DETAILS[code], reason=reason)


def check_shape(token: str) -> None:
    """Refuse what cannot be a token, before anything of it is decoded."""
    if not token:
        refuse("no token came", code="token_missing")
    if len(token) > TOKEN_LIMIT_BYTES:
        refuse(f"it is longer than {TOKEN_LIMIT_BYTES} bytes")
    segments = token.split(".")
    if len(segments) != _SEGMENTS:
        refuse(f"it has {len(segments)} segments instead of three (an encrypted one has five)")
    if not all(map(_SEGMENT.fullmatch, segments)):
        refuse("a segment is not base64url without padding")


def read_segments(token: str) -> tuple[Claims, Claims]:
    """Return header and claims of a token whose shape was checked."""
    header, claims, signature = token.split(".")
    _decoded(signature)
    return _json_object(header), _json_object(claims)


def checked_kid(header: Claims) -> str | None:
    """Return the kid of a header that leaves the choice of the key to us."""
    for name in _DANGEROUS:
        if name in header:
            refuse(f"its header has the dangerous field {name}")
    kid = header.get("kid")
    if "kid" in header and not is_kid(kid):
        refuse("its kid is not 1 to 256 printable ASCII characters")
    return kid if isinstance(kid, str) else None


def _json_object(segment: str) -> Claims:
    fault = "not a JSON object"
    try:
        value = parse(_decoded(segment))
    except NotifierError as error:
        fault = error.code
    else:
        if found := flaws(value, depth=_DEPTH_LIMIT):
            fault = found[0].detail
        elif isinstance(value, dict):
            return value
    # Outside the handler, because such errors hold parts of the token.
    refuse(f"its header or its claims cannot be read: {fault}")


def _decoded(segment: str) -> bytes:
    data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=") != segment.encode("ascii"):
        # Else one token would have several spellings.
        refuse("a segment is not canonical base64url")
    return data
