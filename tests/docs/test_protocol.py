"""The conversations on docs/protocol.md are those that a client has with the service."""

import ast
import json
import re
from collections.abc import Sequence
from pathlib import Path

from tests.docs.flows import PAGE, TRANSCRIPT, hold_all
from tests.docs.pages import ROOT

CLIENT_FRAMES = {"auth", "subscribe", "unsubscribe", "refresh", "ping"}


def shape(value: object) -> object:
    """What stays the same from run to run: names, kinds of values, and the texts that are words of the protocol."""
    if isinstance(value, dict):
        words = ("type", "status", "reason", "code", "ref")
        return {name: each if name in words else shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__


def outline(lines: Sequence[str]) -> list[object]:
    """The lines without positions, times and numbers; a line of HTTP by its field."""
    outlined: list[object] = []
    for line in lines:
        frame = re.fullmatch(r"([<>] (?:data: )?)(\{.*)", line)
        if frame:
            outlined.append((frame[1], shape(json.loads(frame[2]))))
        else:
            field = re.match(r"[<>] [\w-]+:", line)
            outlined.append(field[0] if field else re.sub(r"position=\S+|\d+ notifications", "…", line))
    return outlined


async def test_conversations_on_the_page_are_those_of_a_running_service(tmp_path: Path) -> None:
    """`python -m tests.docs.flows` writes them."""
    written = {name: text.splitlines() for name, text in TRANSCRIPT.findall(PAGE.read_text())}

    held = await hold_all(tmp_path)

    assert {name: outline(lines) for name, lines in written.items()} == {
        name: outline(lines) for name, lines in held.items()
    }


def test_tables_list_every_type_of_frame() -> None:
    made = {"welcome", "notification"}
    for module in ("frames", "conversation"):
        for node in ast.walk(ast.parse((ROOT / f"notifier/transports/{module}.py").read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("message", "self._answer", "frames.message"):
                made |= {str(each.value) for each in node.args if isinstance(each, ast.Constant)}

    listed = re.findall(r"^\| `([a-z_]+)` \| ", PAGE.read_text(), re.MULTILINE)

    assert sorted(listed) == sorted(made | CLIENT_FRAMES)
