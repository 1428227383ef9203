"""The operations port: probes, metrics, and a look at sessions and notifications. Not for the public network."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Json = Mapping[str, Any]


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
    sessions: Callable[[str | None, str | None], Sequence[Json]]
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
        return JSONResponse({"sessions": list(found)})

    async def notification(request: Request) -> Response:
        query = request.query_params
        found = insight.notification(
            request.path_params["id"], query.get("tenant") or "default", query.get("user") or None
        )
        return JSONResponse(found, 200 if found["in_window"] else 404)

    async def rebalance(request: Request) -> Response:
        try:
            fraction = float(request.query_params.get("fraction", ""))
        except ValueError:
            fraction = -1.0
        if not 0 < fraction <= 1:
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
