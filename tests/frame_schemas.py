"""Holds frames against openapi/asyncapi.yaml, and nothing beyond it: a field that is not described is a failure."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import yaml  # type: ignore[import-untyped]

DOCUMENT: Final = Path(__file__).parent.parent / "openapi/asyncapi.yaml"


def check_frame(frame: Mapping[str, Any], *, channel: str = "socket") -> None:
    """Raise AssertionError for a frame that the service may not send over this channel."""
    kind = frame.get("type")
    validator = _validators(channel).get(str(kind))
    assert validator is not None, f"{kind} is not described for the {channel}: {frame}"
    assert (wrong := [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(frame)]) == [], wrong


@cache
def _validators(channel: str) -> Mapping[str, jsonschema_rs.Draft202012Validator]:
    document = yaml.safe_load(DOCUMENT.read_text())
    schemas = {name: _closed(schema) for name, schema in document["components"]["schemas"].items()}
    messages = document["components"]["messages"]
    return {
        name: jsonschema_rs.Draft202012Validator(
            {**messages[name]["payload"], "components": {"schemas": schemas}}, validate_formats=True
        )
        for name in document["channels"][channel]["messages"]
    }


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The same without room for more: additions are announced in the document first."""
    return {**schema, "additionalProperties": False} if schema.get("type") == "object" else schema
