"""The token that a backend shows: a text, a callable, or one that is asked for with client credentials."""

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Final, TypeAlias
from urllib.parse import quote_plus

import httpx

from notifier.clients.errors import Unauthenticated, Unconfirmed

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]
EARLY_SECONDS: Final = 30.0
DEFAULT_LIFE_SECONDS: Final = 60.0
# Marks a request as one for a token, so that whoever sees it fail can say so.
ASKS_FOR_TOKEN: Final = "notifier.asks_for_token"


class Bearer(httpx.Auth):
    """Shows a token with each request.

    Args:
        token: a callable is asked at each request, and may be a coroutine function for `Notifier`; let it return the
            same token as long as that is good.
    """

    def __init__(self, token: Token) -> None:
        self._token = token

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = self._token() if callable(self._token) else self._token
        if inspect.isawaitable(token):
            raise TypeError("a token that has to be awaited is for Notifier; SyncNotifier takes one that is there")
        yield _show(request, token)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        token = self._token() if callable(self._token) else self._token
        yield _show(request, await token if inspect.isawaitable(token) else token)


class ClientCredentials(httpx.Auth):
    """Asks an authorisation server for a token (RFC 6749, 4.4), keeps it while it is good, and asks again after a 401.

    Many requests at a time ask once. One object serves one `Notifier` or `SyncNotifier`, and may serve many.

    Args:
        token_url: the token endpoint, https.
        scope: names with spaces between, such as `notify:send notify:broadcast`.
        audience: what some servers (Auth0) want to be told; others take it from the scope.

    Raises, from whatever is sent with it:
        Unauthenticated: the server does not give a token for these credentials.
        Unconfirmed: the server failed.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: str,
        *,
        scope: str | None = None,
        audience: str | None = None,
    ) -> None:
        wanted = {"grant_type": "client_credentials", "scope": scope, "audience": audience}
        self._form = {name: value for name, value in wanted.items() if value is not None}
        self._token_url = token_url
        # Form-encoded both, before they become Basic: RFC 6749, 2.3.1.
        self._basic = httpx.BasicAuth(quote_plus(client_id), quote_plus(client_secret))
        self._token = ""  # Empty until the first was given.
        self._good_until = 0.0
        self._lock = threading.Lock()
        self._async_lock = asyncio.Lock()

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        with self._lock:
            if not self._is_good():
                answer = yield self._ask(request)
                answer.read()
                self._take(answer)
        shown = self._token
        if (yield _show(request, shown)).status_code == 401:
            with self._lock:
                if self._token == shown:
                    answer = yield self._ask(request)
                    answer.read()
                    self._take(answer)
            yield _show(request, self._token)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        async with self._async_lock:
            if not self._is_good():
                answer = yield self._ask(request)
                await answer.aread()
                self._take(answer)
        shown = self._token
        if (yield _show(request, shown)).status_code == 401:
            async with self._async_lock:
                if self._token == shown:
                    answer = yield self._ask(request)
                    await answer.aread()
                    self._take(answer)
            yield _show(request, self._token)

    def _is_good(self) -> bool:
        return time.monotonic() < self._good_until

    def _ask(self, request: httpx.Request) -> httpx.Request:
        """The request for a token; it takes as long as the one that needs it may."""
        asking = httpx.Request(
            "POST",
            self._token_url,
            data=self._form,
            headers={"Accept": "application/json"},
            extensions={**request.extensions, ASKS_FOR_TOKEN: True},
        )
        return next(self._basic.auth_flow(asking))

    def _take(self, answer: httpx.Response) -> None:
        if answer.status_code >= 500 or answer.status_code == 429:
            raise Unconfirmed("token_unavailable", f"the token endpoint answered {answer.status_code}")
        try:
            given = answer.json()
            self._token = str(given["access_token"])
            life_seconds = float(given.get("expires_in", DEFAULT_LIFE_SECONDS))
        except (ValueError, TypeError, KeyError, AttributeError):
            told = f"the token endpoint answered {answer.status_code}, without a token"
            raise Unauthenticated("token_refused", told, status=answer.status_code) from None
        self._good_until = time.monotonic() + max(life_seconds / 2, life_seconds - EARLY_SECONDS)


def checked(token: object) -> str:
    """A token as a header may hold it, without the white space around it that a file or a shell leaves.

    Raises TypeError for what is no text, Unauthenticated for a text that no header can hold; neither shows it.
    """
    if not isinstance(token, str):
        raise TypeError(f"a token is a text, and not of the type {type(token).__name__}")
    token = token.strip()
    if not (token.isascii() and token.isprintable() and token and " " not in token):
        problem = "has white space or characters inside that no header can hold" if token else "is empty"
        raise Unauthenticated("token_malformed", f"the token {problem}")
    return token


def _show(request: httpx.Request, token: object) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {checked(token)}"
    return request
