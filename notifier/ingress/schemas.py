"""What a sender may write: the request models, their rules, and their translation into the core's words."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.config import JsonDict
from pydantic_core import ErrorDetails, PydanticCustomError

from notifier.core.audience import EVERYONE, Address, Audience
from notifier.core.envelope import Trace
from notifier.core.errors import InvalidNotification, Violation
from notifier.core.identity import Tenant
from notifier.core.notification import Notification
from notifier.core.strict_json import DEPTH_LIMIT, FLAWS_LIMIT, escape, flaws, is_clean

USER_CHARACTERS: Final = 256
TOKEN_ID_CHARACTERS: Final = 256
ROLE_CHARACTERS: Final = 128
TOPIC_PATTERN: Final = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,9}$"
_Request = TypeVar("_Request", bound="NotificationRequest")
_Model = TypeVar("_Model", bound=BaseModel)
# A path of one slash, or https with a host: what a browser cannot take for another site or another scheme.
_LINK_PATTERN: Final = r"^(/|/[^/\s\\][^\s\\]*|https://[^/?#\s\\][^\s\\]*)$"
_LINK: Final = re.compile(_LINK_PATTERN.removesuffix("$"))
_TYPE_PATTERN: Final = r"^[a-z0-9_.-]{1,128}$"
# The rules that validators hold, as far as JSON Schema can say them.
_NO_CONTROLS: Final[JsonDict] = {"pattern": r"^[^\x00-\x1f\x7f-\x9f]+$"}
_UNRESERVED_TYPE: Final = {"pattern": _TYPE_PATTERN.replace("^", r"^(?!notifier\.)")}
_NAMES_SOMEBODY: Final[JsonDict] = {
    "anyOf": [
        {"required": ["users"], "properties": {"users": {"minItems": 1}}},
        {"required": ["topics"], "properties": {"topics": {"minItems": 1}}},
        {"required": ["roles"], "properties": {"roles": {"minItems": 1}}},
        {"required": ["everyone"], "properties": {"everyone": {"const": True}}},
    ]
}
_SAYS_SOMETHING: Final[JsonDict] = {
    "anyOf": [
        {"required": ["title"], "properties": {"title": {"type": "string"}}},
        {"required": ["body"], "properties": {"body": {"type": "string"}}},
        {"required": ["data"], "properties": {"data": {"type": "object"}}},
    ]
}


def _printable(text: object) -> object:
    """NFC, and no control or format characters: what is shown is what is compared, and what is counted."""
    if not isinstance(text, str) or (text.isascii() and text.isprintable()):
        return text
    text = unicodedata.normalize("NFC", text)
    if not text.isprintable():
        raise PydanticCustomError("not_printable", "must be printable characters")
    return text


def _link(text: str) -> str:
    if not _LINK.fullmatch(text) or not text.isprintable():
        raise PydanticCustomError("bad_link", "must be an https URL or an absolute path")
    return text


def _whole(number: object) -> object:
    """60.0 is an integer as well, in JSON Schema and so in our description."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _type(text: str) -> str:
    if text.startswith("notifier."):
        raise PydanticCustomError("reserved", "types that begin with notifier. are reserved")
    return text


def _characters(most: int) -> Any:  # noqa: ANN401 - what `Field` says of itself
    return Field(min_length=1, max_length=most, json_schema_extra=_NO_CONTROLS)


# The bounds stand first: behind a function, pydantic checks them in Python.
_PRINTABLE: Final = BeforeValidator(_printable)
User = Annotated[str, _characters(USER_CHARACTERS), _PRINTABLE]
Role = Annotated[str, _characters(ROLE_CHARACTERS), _PRINTABLE]
Topic = Annotated[str, Field(max_length=256, pattern=TOPIC_PATTERN)]
TenantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
TokenId = Annotated[str, _characters(TOKEN_ID_CHARACTERS), _PRINTABLE]
Key = Annotated[str, _characters(255), _PRINTABLE]
CollapseKey = Annotated[str, _characters(128), _PRINTABLE]
Link = Annotated[
    str, Field(min_length=1, max_length=2_048, json_schema_extra={"pattern": _LINK_PATTERN}), AfterValidator(_link)
]


class Strict(BaseModel):
    """What is not named is refused, and nothing is taken for something else."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Exclude(Strict):
    """Who is left out, whatever includes them."""

    users: list[User] = Field(default_factory=list, max_length=1_000)
    roles: list[Role] = Field(default_factory=list, max_length=100)


class To(Strict):
    """The audience: the union of users, topics and roles, or everyone of the tenant; less `exclude`."""

    model_config = ConfigDict(json_schema_extra=_NAMES_SOMEBODY)

    users: list[User] = Field(default_factory=list, max_length=1_000)
    topics: list[Topic] = Field(default_factory=list, max_length=100)
    roles: list[Role] = Field(default_factory=list, max_length=100)
    everyone: bool = False
    exclude: Exclude | None = None
    tenant: TenantName | None = Field(default=None, description="Another tenant than the token's.")

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if not (self.users or self.topics or self.roles or self.everyone):
            raise PydanticCustomError("empty_audience", "must name users, topics, roles, or everyone")
        return self

    def audience(self) -> Audience:
        """The same in the core's words; `everyone` makes the other names redundant."""
        include = (EVERYONE,) if self.everyone else _addresses(self.users, self.topics, self.roles)
        return Audience(include, _addresses(self.exclude.users, (), self.exclude.roles) if self.exclude else ())


class NotificationRequest(Strict):
    """One notification to send."""

    model_config = ConfigDict(json_schema_extra=_SAYS_SOMETHING)

    to: To
    type: Annotated[str, Field(pattern=_TYPE_PATTERN, json_schema_extra=_UNRESERVED_TYPE), AfterValidator(_type)]
    title: str | None = None
    body: str | None = None
    link: Link | None = Field(default=None, description="An https URL or an absolute path.")
    data: dict[str, Any] | None = Field(default=None, description="Passed on as it is.")
    ttl_seconds: Annotated[int, BeforeValidator(_whole)] = Field(
        default=86_400, ge=0, le=604_800, description="0: only who is connected now."
    )
    collapse_key: CollapseKey | None = Field(
        default=None, description="On replay only the newest notification of one key is delivered."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.title is None and self.body is None and self.data is None:
            raise PydanticCustomError("nothing_to_say", "must have a title, a body or data")
        return self

    def notification(self, tenant: Tenant) -> Notification:
        """The same in the core's words; `tenant` is the sender's own, used unless `to` names another."""
        return Notification(
            tenant if self.to.tenant is None else Tenant(self.to.tenant),
            self.to.audience(),
            self.type,
            self.title,
            self.body,
            self.link,
            self.data,
            self.ttl_seconds,
            self.collapse_key,
        )


class BatchItem(NotificationRequest):
    """One notification of a batch."""

    idempotency_key: Key | None = None


class Opened(NamedTuple):
    """What came in at a door, out of its wrapping.

    Args:
        key: what makes a repeat of it harmless, where it says so itself.
        trace: the trace that it says it comes from; None: that of the request or message that brought it.
    """

    request: NotificationRequest
    key: str | None = None
    trace: Trace | None = None


def open_request(value: object) -> Opened:
    """Read a notification to send. Raises InvalidNotification."""
    return Opened(read_request(NotificationRequest, value))


def open_item(value: object) -> Opened:
    """Read a notification of a batch, which may have a key of its own. Raises InvalidNotification."""
    item = read_request(BatchItem, value)
    return Opened(item, item.idempotency_key)


class TicketRequest(Strict):
    """Whose session the ticket is to open."""

    user: User
    tenant: TenantName | None = Field(default=None, description="Another tenant than the token's.")
    roles: list[Role] = Field(default_factory=list, max_length=100)
    topics: list[Annotated[str, Field(max_length=256)]] = Field(
        default_factory=list, max_length=100, description="Patterns of topics that it may subscribe to."
    )
    session_seconds: Annotated[int, BeforeValidator(_whole)] = Field(
        default=3_600, ge=1, le=86_400, description="The session ends after it."
    )


def read_request(model: type[_Request], value: object) -> _Request:
    """Hold a parsed JSON value against the rules. Raises InvalidNotification that names each broken one."""
    request = read_model(model, value)
    # What the rules leave open; elsewhere they take neither a mark nor half of a surrogate pair.
    data = request.data
    if is_clean(request.title) and is_clean(request.body) and (data is None or is_clean(data, depth=DEPTH_LIMIT - 1)):
        return request
    raise InvalidNotification(flaws(value))


def read_model(
    model: type[_Model], value: object, code: str = "invalid_notification", *, depth: int = DEPTH_LIMIT
) -> _Model:
    """Hold a parsed JSON value against the rules of a model alone. Raises InvalidNotification, with this code."""
    try:
        read: _Model = model.__pydantic_validator__.validate_python(value)
    except ValidationError as error:
        raise InvalidNotification(flaws(value, depth=depth) or _violations(error), code) from None
    return read


def _violations(error: ValidationError) -> list[Violation]:
    return [_violation(each) for each in error.errors(include_url=False, include_input=False)[:FLAWS_LIMIT]]


def _violation(error: ErrorDetails) -> Violation:
    pointer = "".join(f"/{escape(step)}" for step in error["loc"])
    return Violation(pointer, _CODES.get(error["type"], error["type"]), error["msg"])


def _addresses(users: Sequence[str], topics: Sequence[str], roles: Sequence[str]) -> tuple[Address, ...]:
    addresses = [Address("user", user) for user in users]
    if topics or roles:
        addresses += [Address("topic", topic) for topic in topics] + [Address("role", role) for role in roles]
    return tuple(addresses) if len(addresses) == 1 else tuple(dict.fromkeys(addresses))


_CODES: Final = {
    "extra_forbidden": "unknown_field",
    "string_type": "wrong_type",
    "int_type": "wrong_type",
    "bool_type": "wrong_type",
    "list_type": "wrong_type",
    "dict_type": "wrong_type",
    "model_type": "wrong_type",
    "model_attributes_type": "wrong_type",
    "string_too_short": "too_short",
    "string_too_long": "too_long",
    "string_pattern_mismatch": "wrong_pattern",
    "greater_than_equal": "out_of_range",
    "less_than_equal": "out_of_range",
}
