"""Reading a request: its headers, and its body, whose size and pace are held to limits while it comes in."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import Receive

from notifier.core.errors import BadRequest, TooLarge, UnsupportedMediaType
from notifier.core.patience import within


def headers_of(request: Request) -> Mapping[str, str]:
    """The headers by their names in lower case; of several with one name, the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(request.scope["headers"])}


async def read_body(receive: Receive, headers: Mapping[str, str], *, limit_bytes: int, within_seconds: float) -> bytes:
    """Return the whole body. Raises TooLarge as soon as it is over the limit, declared or not."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("unsupported_content_encoding", "send the body without a content encoding")
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    try:
        return await within(within_seconds, _receive_all(receive, limit_bytes))
    except TimeoutError:
        raise BadRequest("body_timeout", f"the body did not arrive within {within_seconds:g} seconds") from None


async def _receive_all(receive: Receive, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("body_incomplete", "the connection was lost before the body had arrived")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        if not message.get("more_body", False):
            return b"".join(chunks)


def media_type(headers: Mapping[str, str]) -> str:
    """The media type of the body, lower case, without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(media: str) -> bool:
    """Tell whether the media type is `application/json` or `application/*+json`."""
    return media == "application/json" or (media.startswith("application/") and media.endswith("+json"))


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge("request_too_large", f"the body is over {limit_bytes} bytes")
