"""The pages of the documentation, cut into their fenced blocks, and those into commands."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent.parent
_FENCED: Final = re.compile(r"^ *```([a-z]*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """What stands between two fences, and the word behind the first."""

    kind: str
    text: str


def blocks(page: str) -> Sequence[Block]:
    """All fenced blocks of a page, in order. `page`: its path from the root of the repository."""
    return [Block(*found) for found in _FENCED.findall((ROOT / page).read_text())]


def commands(page: str) -> Iterator[str]:
    """The commands of its console blocks."""
    for block in blocks(page):
        yield from commands_in(block)


def commands_in(block: Block) -> Iterator[str]:
    """Its commands, if it is a console block; one goes on where a line ends with a backslash, or inside of quotes."""
    lines = iter(block.text.splitlines() if block.kind == "console" else ())
    for line in lines:
        if line.strip().startswith("$ "):
            command = line.strip().removeprefix("$ ")
            while command.endswith("\\") or _is_open(command):
                command = f"{command}\n{next(lines)}".replace("\\\n", " ")
            yield command


def _is_open(command: str) -> bool:
    """Whether a quotation in it has no end."""
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return False


def pages() -> Sequence[str]:
    """README.md and every page under docs/, as paths from the root of the repository."""
    return ["README.md", *sorted(str(file.relative_to(ROOT)) for file in (ROOT / "docs").rglob("*.md"))]
