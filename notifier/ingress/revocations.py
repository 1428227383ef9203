"""The door for revocations: `POST /revocations`, from a request to the revoker and back to an answer."""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Protocol, Self

from fastapi import FastAPI
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from notifier.core.errors import UnsupportedMediaType
from notifier.core.identity import Identity, Tenant
from notifier.core.notification import rfc3339
from notifier.core.strict_json import parse
from notifier.ingress.body import headers_of, is_json, media_type, read_body
from notifier.ingress.middleware import Ask
from notifier.ingress.openapi import REVOKING_CODES, SECURITY, problems
from notifier.ingress.schemas import Strict, TenantName, TokenId, User, read_model
from notifier.ingress.sizes import REVOCATION_LIMIT_BYTES

Subject = Literal["session", "token", "user", "everyone"]
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EXAMPLE: Final = {"user": "alice", "issued_before": "2026-11-26T09:30:00Z"}
_NAMES: Final = ("session", "token_id", "user")


def _one_subject() -> JsonDict:
    """In JSON Schema: one of the names or everyone, and `issued_before` where it means something."""
    null: JsonDict = {"type": "null"}
    nothing: JsonDict = {**dict.fromkeys(_NAMES, null), "everyone": {"const": False}, "issued_before": null}
    text: JsonDict = {"type": "string"}
    maybe: JsonDict = {"type": ["string", "null"]}
    shapes: list[JsonDict] = [
        {"required": ["session"], "properties": nothing | {"session": text}},
        {"required": ["token_id"], "properties": nothing | {"token_id": text}},
        {"required": ["user"], "properties": nothing | {"user": text, "issued_before": maybe}},
        {
            "required": ["everyone", "issued_before"],
            "properties": nothing | {"everyone": {"const": True}, "issued_before": text},
        },
    ]
    return {"oneOf": [*shapes]}


def _moment(value: object) -> object:
    """Read a time as RFC 3339 has it; ISO 8601 has many more, and some without an offset."""
    if not isinstance(value, str):
        return value
    try:
        if _RFC_3339.fullmatch(value):
            return datetime.fromisoformat(value.upper())
    except ValueError:
        pass
    raise PydanticCustomError("bad_time", "must be a time such as 2026-11-26T09:30:00Z")


class RevocationRequest(Strict):
    """What is to be revoked: a session, a token, or the tokens that a user, or everyone of the tenant, has by now."""

    model_config = ConfigDict(json_schema_extra=_one_subject())

    session: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        default=None, description="The id in its `welcome`. Its token is revoked with it."
    )
    token_id: TokenId | None = Field(
        default=None, description="The `jti`; of a token without one, what `notifier check --token` says."
    )
    user: User | None = None
    everyone: bool = Field(default=False, description="Everyone of the tenant; needs `issued_before`.")
    issued_before: Annotated[AwareDatetime, BeforeValidator(_moment)] | None = Field(
        default=None,
        description="Tokens issued later still count; at most half an hour ahead. Default for a user: now.",
    )
    tenant: TenantName | None = Field(default=None, description="Another tenant than the token's.")

    @model_validator(mode="after")
    def _names_one_subject(self) -> Self:
        named = (self.session, self.token_id, self.user, self.everyone or None)
        if sum(each is not None for each in named) != 1:
            raise PydanticCustomError("one_subject", "must name one of session, token_id, user, everyone")
        if self.everyone and self.issued_before is None:
            raise PydanticCustomError("issued_before_missing", "everyone needs issued_before")
        if self.issued_before is not None and not (self.everyone or self.user):
            raise PydanticCustomError("issued_before_useless", "issued_before goes with user or everyone")
        return self

    @property
    def subject(self) -> tuple[Subject, str]:
        """What it is about, and its name; everyone has none."""
        if self.session is not None:
            return "session", self.session
        if self.token_id is not None:
            return "token", self.token_id
        return ("everyone", "") if self.user is None else ("user", self.user)


class RevocationReceipt(BaseModel):
    """It holds here, and every replica will know within a second."""

    id: str = Field(examples=["019a9f6e-7c11-7c3a-9d4e-0c5b6f3f2a10"], description="UUIDv7, for logs.")
    tenant: str = Field(examples=["default"])
    expires_at: str = Field(
        description="From then on no token is left that it could be about.", json_schema_extra={"format": "date-time"}
    )
    durable: bool = Field(description="Whether it outlives a restart; false with the journal in memory.")


class Revoked(Protocol):
    """What the revoker answers; times in Unix seconds."""

    @property
    def id(self) -> str: ...
    @property
    def tenant(self) -> Tenant: ...
    @property
    def expires_at(self) -> float: ...
    @property
    def is_durable(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class RevocationGuard:
    """Who may revoke what, and how often. `app.py` fills it; each callable raises the error with which it refuses."""

    authenticate: Callable[[str | None], Awaitable[Identity]]
    authorise: Callable[[Identity, Tenant], None]
    spend: Callable[[Identity], Awaitable[Ask]]


class RevocationDoor:
    """Lets revocations in. `revoke` takes the tenant, the subject, its name, and a moment in Unix seconds or None."""

    def __init__(
        self,
        revoke: Callable[[Tenant, Subject, str, float | None], Awaitable[Revoked]],
        guard: RevocationGuard,
        *,
        body_seconds: float = 10.0,
    ) -> None:
        self._revoke = revoke
        self._guard = guard
        self._body_seconds = body_seconds

    def open(self, api: FastAPI) -> None:
        """Add the route."""
        api.add_api_route("/revocations", self.revoke, methods=["POST"], **REVOCATIONS_ROUTE)

    async def revoke(self, request: Request) -> Response:
        """Revoke."""
        headers = headers_of(request)
        caller = await self._guard.authenticate(headers.get("authorization"))
        request.scope["state"]["caller"] = caller.user
        request.scope["state"]["standing"] = await self._guard.spend(caller)
        if not is_json(media_type(headers)):
            raise UnsupportedMediaType("unsupported_media_type", "send application/json")
        body = await read_body(
            request.receive, headers, limit_bytes=REVOCATION_LIMIT_BYTES, within_seconds=self._body_seconds
        )
        wanted = read_model(RevocationRequest, parse(body), "invalid_revocation")
        tenant = caller.tenant if wanted.tenant is None else Tenant(wanted.tenant)
        self._guard.authorise(caller, tenant)
        moment = None if wanted.issued_before is None else wanted.issued_before.timestamp()
        revoked = await self._revoke(tenant, *wanted.subject, moment)
        receipt = RevocationReceipt(
            id=revoked.id,
            tenant=revoked.tenant,
            expires_at=rfc3339(int(revoked.expires_at * 1000)),
            durable=revoked.is_durable,
        )
        return Response(json.dumps(receipt.model_dump()).encode(), 202, media_type="application/json")


REVOCATIONS_ROUTE: Final[dict[str, Any]] = {
    "status_code": 202,
    "summary": "Revoke a session, a token, or all that a user or a tenant has",
    "operation_id": "revoke",
    "response_model": RevocationReceipt,
    "responses": problems(REVOKING_CODES),
    "openapi_extra": {
        "security": SECURITY,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": RevocationRequest.model_json_schema(),
                    "example": _EXAMPLE,
                }
            },
        },
    },
}
