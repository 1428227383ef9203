"""What the groups of settings are made of."""

import json
import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class Group(BaseModel):
    """Names that belong together; an unknown one is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _split(value: object) -> object:
    """A list is written as a JSON array or with commas."""
    if isinstance(value, str):
        text = value.strip()
        return json.loads(text) if text.startswith("[") else [part.strip() for part in text.split(",") if part.strip()]
    return value


def _limit(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d*/(second|minute|hour|day)", text):
        raise ValueError("must read like 500/second: a number per second, minute, hour or day")
    return text


def from_json(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


def _split_secrets(value: object) -> object:
    """As a list of names, or by lines, as a file has them."""
    is_array = isinstance(value, str) and value.lstrip().startswith("[")
    return _split(",".join(value.splitlines()) if isinstance(value, str) and not is_array else value)


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < SECRET_BYTES:
        raise ValueError(f"a secret has at least {SECRET_BYTES} bytes: openssl rand -hex 32")
    return secret


SECRET_BYTES: Final = 32
Secrets = Annotated[
    list[Annotated[SecretStr, AfterValidator(_long_enough)]],
    BeforeValidator(_split_secrets),
]
Names = Annotated[list[str], BeforeValidator(_split)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Limit = Annotated[str, BeforeValidator(_limit)]
