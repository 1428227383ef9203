"""Sending over HTTP: `Notifier` for asyncio, `SyncNotifier` without.

Every request carries an idempotency key and is tried again with it: a lost answer never means two notifications.
"""

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any, Final, Self, Unpack

import httpx

from notifier.clients.credentials import ASKS_FOR_TOKEN, Bearer, Token
from notifier.clients.errors import Invalid, NotSent, Unconfirmed, from_problem, read_problem
from notifier.clients.notification import Notification, Sent, encode, members
from notifier.clients.patience import Patience
from notifier.clients.tls import told

# The service answers within 4 s of having the request; the rest is for the way.
TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)
PATIENCE_SECONDS: Final = 30.0
ACCEPTED: Final = frozenset({202, 207})
KEY_HEADER: Final = "Idempotency-Key"


class Notifier:
    """Sends notifications, on connections that stay open until it is closed. Tasks may share it.

    Args:
        url: of the service, such as `https://push.example.com`.
        token: a text, a callable that returns one or is awaited for one, or `ClientCredentials`; with the scope
            `notify:send`.
        patience_seconds: how long a request is tried again while the service is away or has too much to do; 0: once.
        client: connections of your own making, for a proxy, a CA, limits or time-outs; closed with this object.

    Raises, from whatever sends:
        Refused: the request, or the token, will not do.
        Unconfirmed: nobody confirmed it in time; its `idempotency_key` makes another try harmless.
        ValueError, TypeError: it cannot be said in JSON.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | httpx.Auth,
        patience_seconds: float = PATIENCE_SECONDS,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._auth = token if isinstance(token, httpx.Auth) else Bearer(token)
        self._patience_seconds = patience_seconds
        self._client = client or httpx.AsyncClient(timeout=TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def send(self, **notification: Unpack[Notification]) -> Sent:
        """Send one notification; `Notification` says what the arguments mean. Returns when the journal has it."""
        return _sent(await self._post(_one(self._client, self._url, notification)))

    async def send_batch(self, notifications: Sequence[Notification]) -> list[Sent | NotSent]:
        """Send up to 1,000 notifications, 4 MiB, in one request. Returns what became of each, in their order.

        What it raises goes for all of them.
        """
        return _results(await self._post(_batch(self._client, self._url, notifications)), notifications)

    async def _post(self, request: httpx.Request) -> httpx.Response:
        patience = Patience(self._patience_seconds)
        while True:
            answer: httpx.Response | httpx.TransportError
            try:
                answer = await self._client.send(request, auth=self._auth)
            except httpx.TransportError as error:
                answer = error
            if isinstance(answer, httpx.Response) and answer.status_code in ACCEPTED:
                return answer
            pause = patience.pause_after(answer)
            if pause is None:
                raise _error(answer, request)
            await asyncio.sleep(pause)


class SyncNotifier:
    """`Notifier` for code without asyncio: the same arguments, results and errors. Threads may share it."""

    def __init__(
        self,
        url: str,
        *,
        token: Token | httpx.Auth,
        patience_seconds: float = PATIENCE_SECONDS,
        client: httpx.Client | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._auth = token if isinstance(token, httpx.Auth) else Bearer(token)
        self._patience_seconds = patience_seconds
        self._client = client or httpx.Client(timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def send(self, **notification: Unpack[Notification]) -> Sent:
        """Send one notification, as `Notifier.send` does."""
        return _sent(self._post(_one(self._client, self._url, notification)))

    def send_batch(self, notifications: Sequence[Notification]) -> list[Sent | NotSent]:
        """Send up to 1,000 notifications in one request, as `Notifier.send_batch` does."""
        return _results(self._post(_batch(self._client, self._url, notifications)), notifications)

    def _post(self, request: httpx.Request) -> httpx.Response:
        patience = Patience(self._patience_seconds)
        while True:
            answer: httpx.Response | httpx.TransportError
            try:
                answer = self._client.send(request, auth=self._auth)
            except httpx.TransportError as error:
                answer = error
            if isinstance(answer, httpx.Response) and answer.status_code in ACCEPTED:
                return answer
            pause = patience.pause_after(answer)
            if pause is None:
                raise _error(answer, request)
            time.sleep(pause)


def _one(client: httpx.Client | httpx.AsyncClient, url: str, notification: Notification) -> httpx.Request:
    body = members(notification)
    return _request(client, f"{url}/notify", body, body.pop("idempotency_key", None))


def _batch(client: httpx.Client | httpx.AsyncClient, url: str, notifications: Sequence[Notification]) -> httpx.Request:
    return _request(client, f"{url}/notify/batch", [members(each) for each in notifications], None)


def _request(client: httpx.Client | httpx.AsyncClient, url: str, body: object, key: str | None) -> httpx.Request:
    headers = {"Content-Type": "application/json", KEY_HEADER: key or str(uuid.uuid4())}
    return client.build_request("POST", url, content=encode(body), headers=headers)


def _sent(answer: httpx.Response) -> Sent:
    return Sent(answer.json()["id"], "idempotent-replayed" in answer.headers)


def _results(answer: httpx.Response, notifications: Sequence[Notification]) -> list[Sent | NotSent]:
    request_key, request_id = answer.request.headers[KEY_HEADER], answer.headers.get("x-request-id")
    results: list[dict[str, Any]] = answer.json()["results"]
    return [
        Sent(result["id"], result.get("replayed", False))
        if result["status"] == 202
        else from_problem(
            result["problem"],
            result["status"],
            request_id=request_id,
            idempotency_key=notification.get("idempotency_key") or f"{request_key}/{result['index']}",
        )
        for notification, result in zip(notifications, results, strict=True)
    ]


def _error(answer: httpx.Response | httpx.TransportError, request: httpx.Request) -> NotSent:
    key = request.headers[KEY_HEADER]
    if isinstance(answer, httpx.Response):
        request_id = answer.headers.get("x-request-id")
        problem = read_problem(answer.content)
        return from_problem(problem, answer.status_code, request_id=request_id, idempotency_key=key)
    if isinstance(answer, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return Invalid("bad_request", f"{answer.request.url}: {answer}", idempotency_key=key)
    code = "token_unavailable" if ASKS_FOR_TOKEN in answer.request.extensions else "no_answer"
    return Unconfirmed(code, f"{answer.request.url} gave no answer: {told(answer)}", idempotency_key=key)
