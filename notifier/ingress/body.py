"""Reading a request body: its media type, its size and its pace are held to limits while it comes in."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from notifier.core.errors import BadRequest, TooLarge, UnsupportedMediaType


async def read_body(request: Request, *, limit_bytes: int, within_seconds: float) -> bytes:
    """Return the whole body. Raises TooLarge as soon as it is over the limit, declared or not."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("unsupported_content_encoding", "send the body without a content encoding")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(within_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit_bytes:
                    raise _too_large(limit_bytes)
                chunks.append(chunk)
    except TimeoutError:
        raise BadRequest("body_timeout", f"the body did not arrive within {within_seconds:g} seconds") from None
    except ClientDisconnect:
        raise BadRequest("body_incomplete", "the connection was lost before the body had arrived") from None
    return b"".join(chunks)


def media_type(request: Request) -> str:
    """The media type of the body, lower case, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(media: str) -> bool:
    """Tell whether the media type is `application/json` or `application/*+json`."""
    return media == "application/json" or (media.startswith("application/") and media.endswith("+json"))


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge("request_too_large", f"the body is over {limit_bytes} bytes")
