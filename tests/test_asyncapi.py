"""The AsyncAPI document: it is the one of the code, and describes what the code can say."""

import ast
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]

from notifier.transports.messages import FROM_CLIENT, FROM_SERVICE
from scripts.write_asyncapi import DOCUMENT, rendered
from tests.frame_schemas import check_frame

ROOT: Final = Path(__file__).parent.parent
READ: Final[dict[str, Any]] = yaml.safe_load(DOCUMENT.read_text())


def test_it_is_the_one_that_the_code_makes() -> None:
    """`make openapi` writes it."""
    assert DOCUMENT.read_text() == rendered()


def kinds(models: tuple[Any, ...]) -> set[str]:
    return {model.model_json_schema()["properties"]["type"]["const"] for model in models}


def test_every_frame_that_the_code_makes_is_described() -> None:
    """Each literal that `message` or `_answer` is given as the type of a frame."""
    made = {"notification"}
    for file in (ROOT / "notifier/transports").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("message", "_answer"):
                made |= {str(each.value) for each in node.args[:2] if isinstance(each, ast.Constant)}

    assert made == kinds(FROM_SERVICE)


def test_every_frame_that_a_client_may_send_is_described() -> None:
    tree = ast.parse((ROOT / "notifier/transports/conversation.py").read_text())
    heard = {
        case.pattern.value.value
        for match in ast.walk(tree)
        if isinstance(match, ast.Match)
        for case in match.cases
        if isinstance(case.pattern, ast.MatchValue) and isinstance(case.pattern.value, ast.Constant)
    }

    assert heard == kinds(FROM_CLIENT)


def test_the_names_are_those_of_the_topology() -> None:
    assert READ["channels"]["requests"]["address"] == "notifier.ingest"
    assert READ["channels"]["deadLetters"]["address"] == "notifier.dead.v1"


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "heartbeat"},
        {"type": "heartbeat", "position": "not a position!"},
        {"type": "heartbeat", "position": "a.1.0", "more": 1},
        {"type": "presence"},
        {"type": "notification", "position": "a.1.0", "notification": {"id": "1", "type": "t", "created_at": "now"}},
        {"type": "reconnect", "after_ms": 1, "reason": "whim", "position": "a.1.0"},
    ],
)
def test_what_is_not_described_is_found(frame: dict[str, Any]) -> None:
    """Else no test that holds frames against it would say anything."""
    with pytest.raises(AssertionError):
        check_frame(frame)
