"""What no log may hold, whichever test wrote it: tokens, tickets, passwords, payloads, queries that may carry one."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

KINDS: Final[Mapping[str, re.Pattern[bytes]]] = {
    # A JSON object in base64url, as each of the first two parts of a token is.
    "a token": re.compile(rb"eyJ[A-Za-z0-9_-]{16,}"),
    "a ticket": re.compile(rb"\bv1\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    "a token's place": re.compile(rb"bearer\.[A-Za-z0-9_-]|Bearer [A-Za-z0-9_-]|[?&](?:token|ticket)=", re.ASCII),
    "a password in a URL": re.compile(rb"\b(?:amqps?|rediss?|https?)://[^\s:/@\"]*:[^\s/@\"]+@"),
    # A payload in any spelling: as JSON, in a JSON string, as Python shows bytes or a dictionary.
    "a payload": re.compile(rb"\b(?:title|body|sealed|link)\\*[\"']\s*:|\bcanary-(?:title|body|data)\b"),
}


class Leak(NamedTuple):
    """Where something was found; the text itself is not repeated."""

    file: Path
    line: int
    kind: str


def leaks(directory: Path) -> Iterator[Leak]:
    """Each line of the logs of replicas in the directory and below that says too much."""
    for file in sorted(directory.rglob("*.log")):
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            # What is no JSON is no log of ours: the demo prints a token on purpose.
            if line.startswith(b"{"):
                yield from (Leak(file, number, kind) for kind, pattern in KINDS.items() if pattern.search(line))
