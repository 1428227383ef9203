"""What one limit costs: slowapi's decorator around an endpoint, against its limiter called by us.

python -m tests.benchmarks.limiter
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from slowapi import Limiter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from notifier.access.limits import Limits

ROUNDS = 5
CALLS = 5_000
LIMIT = "1000000/second"


def decorated() -> Callable[[], Awaitable[Response]]:
    """An endpoint behind `@limiter.limit`, with its headers on, as slowapi's documentation has it."""
    limiter = Limiter(key_func=lambda: "caller", headers_enabled=True, storage_uri="memory://")
    app = Starlette()
    app.state.limiter = limiter

    async def endpoint(request: Request) -> Response:
        return Response()

    limited = limiter.limit(LIMIT)(endpoint)

    async def call() -> Response:
        scope: dict[str, Any] = {
            "type": "http",
            "app": app,
            "path": "/",
            "method": "POST",
            "headers": [],
            "state": {},
            "endpoint": None,
        }
        response: Response = await limited(request=Request(scope))
        return response

    return call


def direct() -> Callable[[], Awaitable[Response]]:
    """The same endpoint after `Limits.spend`, which also reads where the caller stands."""
    limits = Limits({"send": LIMIT})

    async def call() -> Response:
        scope: dict[str, Any] = {"type": "http", "app": None, "path": "/", "method": "POST", "headers": [], "state": {}}
        Request(scope)
        await limits.spend("send", "caller")
        return Response()

    return call


async def microseconds(call: Callable[[], Awaitable[Response]]) -> float:
    began = time.process_time()
    for _ in range(CALLS):
        await call()
    return (time.process_time() - began) / CALLS * 1e6


async def main() -> None:
    for name, call in (("slowapi's decorator", decorated()), ("Limits.spend", direct())):
        rounds = [await microseconds(call) for _ in range(ROUNDS)]
        print(f"{name:20} {min(rounds):6.1f} {statistics.median(rounds):6.1f} {max(rounds):6.1f} µs (min, median, max)")


if __name__ == "__main__":
    asyncio.run(main())
