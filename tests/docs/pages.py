"""The pages of the documentation, cut into their fenced blocks."""

import re
from collections.abc import Sequence
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


def pages() -> Sequence[str]:
    """README.md and every page under docs/, as paths from the root of the repository."""
    return ["README.md", *sorted(str(file.relative_to(ROOT)) for file in (ROOT / "docs").rglob("*.md"))]
