"""The demo: a page beside the service, and development tokens for whoever asks. Added by `notifier demo` alone."""

import json
import shlex
import socket
import sys
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from notifier.app import Service
from notifier.core.errors import InvalidNotification, Unauthenticated, UnsupportedMediaType, Violation
from notifier.core.identity import Identity
from notifier.core.strict_json import escape, parse
from notifier.ingress.body import headers_of, is_json, media_type, read_body
from notifier.server import Listening
from notifier.settings import Settings
from notifier.trust import development_token

REQUEST_LIMIT_BYTES: Final = 16 * 1024
PAGE_TOKEN_SECONDS: Final = 3_600
TERMINAL_TOKEN_SECONDS: Final = 86_400
# The page sends as well, which a user's token in production would not allow.
SCOPES: Final = ("notify:send", "notify:broadcast")
SCRIPTS: Final = ("demo", "pane", "view", "memory", "tokens", "latency")
ASSETS: Final = (
    ("/", "demo.html", "text/html"),
    *((f"/demo/{name}.js", f"{name}.js", "text/javascript") for name in SCRIPTS),
    ("/demo/demo.css", "demo.css", "text/css"),
)

Verify = Callable[[str], Identity]


class TokenRequest(BaseModel):
    """Who the page wants to be. The verifier answers for the rules of the names."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    user: str
    tenant: str | None = None
    roles: list[str] = []
    topics: list[str] = []


def add_demo(service: Service, settings: Settings, listening: Listening) -> str:
    """Add the routes of the demo page. Returns what the terminal says: where to look, and what to try."""
    policy = _content_security_policy(listening.public.getsockname()[1])
    for path, name, media in ASSETS:
        service.api.add_api_route(path, _asset(name, media, policy), include_in_schema=False)
    longest = settings.access.token_max_lifetime_seconds
    mint_token = _token_route(service.gate.authenticate, min(PAGE_TOKEN_SECONDS, longest))
    service.api.add_api_route("/demo/token", mint_token, methods=["POST"], include_in_schema=False)
    return _greeting(
        url=_url(listening.public),
        operations_url=_url(listening.operations),
        command=_command(),
        token=_mint(TokenRequest(user="backend"), min(TERMINAL_TOKEN_SECONDS, longest)),
    )


def _greeting(*, url: str, operations_url: str, command: str, token: str) -> str:
    example = {"to": {"users": ["alice"]}, "type": "greeting", "title": "Hello, Alice", "body": "Sent with curl."}
    return f"""
notifier runs here with development keys, for this machine only. Ctrl-C stops it.

1. Open {url}/ in a browser: there are alice, and bob, an admin. Cut one off, send, and see her resume.
   Open {url}/?user=bob&roles=admin in a second tab: there you are bob alone.

2. Send something to alice, as a backend would:

curl {url}/notify \\
  -H 'Authorization: Bearer {token}' \\
  -H 'Content-Type: application/json' \\
  -d '{json.dumps(example)}'

3. Receive in another terminal what alice receives:

{command} listen --as alice --url {url}

4. Stop this with Ctrl-C and start it again. The pages come back by themselves and say "reset", because the journal of
   the demo lives in memory; with RabbitMQ they would resume.

Then read README.md, and run the tests with: make test
Health and metrics: {operations_url}/readyz and {operations_url}/metrics
"""


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _command() -> str:
    """How this program was called, for a shell: `.venv/bin/notifier`, or `python -m notifier`."""
    program = Path(sys.argv[0])
    words = [sys.executable, "-m", "notifier"] if program.name == "__main__.py" else [sys.argv[0]]
    return shlex.join(words)


def _token_route(verify: Verify, token_seconds: int) -> Callable[[Request], Awaitable[Response]]:
    async def mint_token(request: Request) -> Response:
        headers = headers_of(request)
        if not is_json(media_type(headers)):
            # A page of another origin cannot send this type without asking first, and is told no.
            raise UnsupportedMediaType("unsupported_media_type", "send application/json")
        body = await read_body(request.receive, headers, limit_bytes=REQUEST_LIMIT_BYTES, within_seconds=10)
        answer = {"token": _usable_token(_read(body), verify, token_seconds), "expires_in_seconds": token_seconds}
        return Response(json.dumps(answer), headers={"Cache-Control": "no-store"}, media_type="application/json")

    return mint_token


def _content_security_policy(port: int) -> str:
    # 'self' covers the socket in today's browsers; Safari before 15.4 wants it named.
    sockets = f"ws://127.0.0.1:{port} ws://localhost:{port}"
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' {sockets}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )


def _asset(name: str, media: str, policy: str) -> Callable[[], Awaitable[Response]]:
    content = resources.files("notifier.clients").joinpath("web", "demo", name).read_bytes()
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }

    async def serve() -> Response:
        return Response(content, headers=headers, media_type=media)

    return serve


def _read(body: bytes) -> TokenRequest:
    try:
        return TokenRequest.model_validate(parse(body))
    except ValidationError as error:
        violations = [
            Violation("".join(f"/{escape(step)}" for step in each["loc"]), each["type"], each["msg"])
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise InvalidNotification(violations, code="invalid_token_request") from None


def _usable_token(wanted: TokenRequest, verify: Verify, seconds: int) -> str:
    """Mint a token that the service takes. Raises InvalidNotification that says why it would not."""
    token = _mint(wanted, seconds)
    try:
        verify(token)
    except Unauthenticated as refusal:
        raise InvalidNotification([Violation("", "refused", refusal.reason)], code="invalid_token_request") from None
    return token


def _mint(wanted: TokenRequest, seconds: int) -> str:
    return development_token(
        user=wanted.user,
        tenant=wanted.tenant,
        roles=wanted.roles,
        topics=wanted.topics,
        scopes=SCOPES,
        lifetime_seconds=seconds,
    )
