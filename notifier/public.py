"""The public port: its doors, its sessions, and what every request passes on the way in."""

from collections.abc import Awaitable, Callable
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Lifespan
from starlette.websockets import WebSocket

from notifier.access.addresses import network_of
from notifier.access.gate import check_transport
from notifier.access.limits import TENANT
from notifier.access.tickets import TICKET_SECONDS
from notifier.access.topics import grant
from notifier.assets import CLIENT_PATH, client_files
from notifier.core.errors import NotFound, NotifierError, UpgradeRequired
from notifier.ingress.http import Guard, HttpDoor
from notifier.ingress.middleware import Cors, Failsafe, RequestLine, Threshold
from notifier.ingress.openapi import SOCKET_ROUTE, STREAM_ROUTE, describe
from notifier.ingress.problems import answer_error, denial_response
from notifier.ingress.tickets import TicketDoor, TicketGuard
from notifier.transports.conversation import Rules
from notifier.transports.reception import Door, Reception
from notifier.transports.sse import EventStreams
from notifier.transports.websocket import Timing, WebSocketSessions

if TYPE_CHECKING:
    from notifier.app import Service


def build_public_app(service: "Service", lifespan: Lifespan[FastAPI]) -> FastAPI:
    """Build the app of the public port. Sessions stand behind `Reception`, senders behind `Guard`."""
    api = FastAPI(
        title="notifier",
        version=version("notifier-push"),
        description="Send notifications to users, topics, roles or everyone; they arrive on their open sessions.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        # Nobody sets OpenTelemetry up, and FastAPI looks for it anew at each request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    api.openapi = partial(describe, api)  # type: ignore[method-assign]  # FastAPI's documented way to replace it
    _add_doors(service, api)
    _add_sessions(service, api)
    api.mount(CLIENT_PATH, client_files())
    if service.settings.http.openapi:
        document = cache(lambda: JSONResponse(api.openapi()).body)  # To write it takes 40 ms.
        api.add_api_route(
            "/openapi.json", lambda: Response(document(), media_type="application/json"), include_in_schema=False
        )
    api.add_exception_handler(NotifierError, answer_error)
    api.add_exception_handler(HTTPException, answer_error)
    _add_middleware(service, api)
    return api


def _add_doors(service: "Service", api: FastAPI) -> None:
    """What is sent, revoked, and exchanged for a ticket."""
    gate, limits, body_seconds = service.gate, service.limits, service.settings.http.body_timeout_seconds
    guard = Guard(
        authenticate=gate.authenticate_sender,
        authorise=lambda caller, tenant, everyone: gate.authorise(caller, tenant, everyone=everyone),
        spend=lambda limit, caller, cost: limits.spend(limit, f"{caller.issuer} {caller.tenant} {caller.user}", cost),
        spend_tenant=partial(limits.spend, TENANT),
    )
    HttpDoor(service.pipeline, guard, count_refusal=service.metrics.count_refusal, body_seconds=body_seconds).open(api)
    service.revoking.build_door(gate, limits, body_seconds=body_seconds).open(api)
    if service.tickets is None:
        api.add_api_route("/ticket", _no_tickets, methods=["POST"], include_in_schema=False)
    else:
        TicketDoor(
            TicketGuard(
                gate.authenticate_bearer, lambda caller: guard.spend("ticket", caller, 1), gate.vouch, gate.mint
            ),
            ticket_seconds=TICKET_SECONDS,
            body_seconds=body_seconds,
        ).open(api)


def _add_sessions(service: "Service", api: FastAPI) -> None:
    sockets = _sockets(service)
    api.router.add_websocket_route("/ws", _served_by(sockets))  # It takes nothing that FastAPI could inject.
    api.add_api_route("/ws", _want_upgrade, methods=["GET"], **SOCKET_ROUTE)
    api.add_api_route("/events", _streams(service).respond, methods=["GET"], **STREAM_ROUTE)


def _add_middleware(service: "Service", api: FastAPI) -> None:
    """The last added is the outermost: a line, then CORS on every answer, then the limit, then the routes."""
    if service.traces is not None:
        api.add_middleware(service.traces.requests)
    api.add_middleware(Failsafe)
    api.add_middleware(Threshold, spend=lambda address: service.limits.spend("address", network_of(address)))
    api.add_middleware(
        Cors,
        is_readable_from=service.gate.is_readable_from,
        allow_methods=["GET", "POST"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "Last-Event-ID",
            "traceparent",
            "tracestate",
        ],
        expose_headers=["Retry-After", "RateLimit", "RateLimit-Policy", "Idempotent-Replayed", "X-Request-Id"],
    )
    api.add_middleware(RequestLine, observe=service.metrics.observe_request)


def _reception(service: "Service", transport: str) -> Reception:
    http = service.settings.http
    door = Door(
        check_origin=service.gate.check_origin,
        check_transport=partial(check_transport, is_proxied=bool(http.trusted_proxies), require_tls=http.require_tls),
        check_room=service.gate.check_room,
        pace=service.gate.pace,
        authenticate=service.gate.authenticate,
        authenticate_patiently=service.gate.authenticate_patiently,
        read_ticket=service.gate.read_ticket,
        redeem=service.gate.redeem,
        admit=service.gate.admit,
        seat=service.gate.seat,
        dismiss=service.gate.dismiss,
        check_standing=service.gate.check_standing,
        grant=lambda identity, topics, already: grant(identity, topics, already=already),
        refusal=denial_response,
        count_handshake=service.metrics.count_handshake,
    )
    return Reception(
        transport,
        door=door,
        hub=service.hub,
        pulse=service.pulse,
        pipeline=service.pipeline,
        news=lambda: [service.frames.degraded()] if service.outage.is_told else [],
        heartbeat_seconds=service.settings.sessions.heartbeat_seconds,
    )


def _sockets(service: "Service") -> WebSocketSessions:
    sessions = service.settings.sessions
    return WebSocketSessions(
        _reception(service, "websocket"),
        pulse=service.pulse,
        rules=Rules(sessions.frame_limit_bytes, sessions.frames_per_second, sessions.frames_burst),
        timing=Timing(sessions.auth_timeout_seconds, sessions.stall_timeout_seconds),
        write_limit_bytes=sessions.write_limit_bytes,
        query_token=sessions.query_token,
    )


def _streams(service: "Service") -> EventStreams:
    sessions = service.settings.sessions
    return EventStreams(
        _reception(service, "sse"),
        linger_seconds=sessions.stall_timeout_seconds,
        write_limit_bytes=sessions.write_limit_bytes,
        query_token=sessions.query_token,
    )


def _served_by(sockets: WebSocketSessions) -> Callable[[WebSocket], Awaitable[None]]:
    async def serve(websocket: WebSocket) -> None:
        await sockets.serve(websocket)

    return serve


async def _want_upgrade() -> None:
    raise UpgradeRequired("upgrade_required", "this address speaks WebSocket")


async def _no_tickets() -> None:
    raise NotFound("tickets_off", "no tickets are given here: replicas that share a journal need secrets for them")
