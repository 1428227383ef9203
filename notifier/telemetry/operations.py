"""The operations port: probes, metrics, and a look at sessions and notifications. Not for the public network."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Json = Mapping[str, Any]
SLICE_SESSIONS: Final = 200  # In one turn of the event loop: all of a full replica together would hold it for 0.2 s.


@dataclass(frozen=True, slots=True)
class Insight:
    """What the operations port can ask; `app.py` fills it.

    Args:
        readiness: (is ready, state of each check).
        metrics: the page for Prometheus, and its content type.
        sessions: sessions of a tenant and user; either may be None.
        notification: what is known of a notification for a user of the tenant; `in_window` says whether it is here.
        rebalance: closes this fraction of the sessions, paced; returns how many.
    """

    readiness: Callable[[], Awaitable[tuple[bool, Json]]]
    metrics: Callable[[], Awaitable[tuple[bytes, str]]]
    sessions: Callable[[str | None, str | None], Iterator[Json]]
    notification: Callable[[str, str, str | None], Json]
    rebalance: Callable[[float], int]


def create_operations_app(insight: Insight) -> Starlette:
    """Build the ASGI app of the operations port."""

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        is_ready, checks = await insight.readiness()
        return JSONResponse({"status": "ready" if is_ready else "unready", "checks": checks}, 200 if is_ready else 503)

    async def metrics(_: Request) -> Response:
        page, content_type = await insight.metrics()
        return Response(page, headers={"content-type": content_type})

    async def sessions(request: Request) -> Response:
        found = insight.sessions(request.query_params.get("tenant") or None, request.query_params.get("user") or None)
        return StreamingResponse(_in_slices("sessions", found), media_type="application/json")

    async def notification(request: Request) -> Response:
        query = request.query_params
        found = insight.notification(
            request.path_params["id"], query.get("tenant") or "default", query.get("user") or None
        )
        return JSONResponse(found, 200 if found["in_window"] else 404)

    async def rebalance(request: Request) -> Response:
        fraction = _fraction(request)
        if fraction is None:
            return JSONResponse({"detail": "give fraction, over 0 and up to 1"}, 422)
        return JSONResponse({"closing": insight.rebalance(fraction)}, 202)

    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/sessions", sessions),
            Route("/notifications/{id}", notification),
            Route("/rebalance", rebalance, methods=["POST"]),
        ]
    )


async def _in_slices(name: str, found: Iterator[Json]) -> AsyncIterator[str]:
    """A JSON object with one array, made bit by bit."""
    yield f'{{"{name}":['
    separator = ""
    while part := list(islice(found, SLICE_SESSIONS)):
        yield separator + json.dumps(part, ensure_ascii=False, separators=(",", ":"))[1:-1]
        separator = ","
        await asyncio.sleep(0)
    yield "]}"


def _fraction(request: Request) -> float | None:
    try:
        fraction = float(request.query_params.get("fraction", ""))
    except ValueError:
        return None
    return fraction if 0 < fraction <= 1 else None
