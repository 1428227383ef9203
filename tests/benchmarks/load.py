"""The load: `fanload`, built from its source beside this module, and what it reports."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.machine import LOAD_CORE, pinned_to
from tests.replica import Replica

SOURCE: Final = Path(__file__).with_name("fanload.c")
PROGRAM: Final = Path(__file__).parents[2] / "build" / "fanload"
DEADLINE_SECONDS: Final = 120


class LoadFailed(Exception):
    """The load could not be built, or did not get the answers it wanted; the text says why."""


@dataclass(frozen=True, slots=True)
class Messages:
    """What to post while the sessions are open, and when it is enough: see the top of `fanload.c`."""

    template: bytes
    receipts: int
    in_flight: int
    most: int
    warm: int = 0
    cpu_seconds: float | None = None
    rate: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Runs `fanload` against one server, in a directory for its files."""

    server: Replica
    directory: Path

    def run(self, tokens: list[str], *, warm_sessions: int = 0, messages: Messages | None = None) -> dict[str, float]:
        """Open a session for each token, post the messages, and return what was measured."""
        headers = self.directory / "headers"
        headers.write_text("".join(f"Authorization: Bearer {token}\n" for token in tokens))
        options: dict[str, Any] = {
            "port": self.server.port,
            "pid": self.server.process.pid,
            "sessions": len(tokens) - warm_sessions,
            "warm-sessions": warm_sessions,
            "headers": headers,
            "deadline": DEADLINE_SECONDS,
        }
        if messages is not None:
            options |= self._message_options(messages)
        return self._measure(options)

    def _message_options(self, messages: Messages) -> dict[str, Any]:
        template = self.directory / "template"
        template.write_bytes(messages.template)
        options = {
            "template": template,
            "receipts": messages.receipts,
            "in-flight": messages.in_flight,
            "messages": messages.most,
            "warm-messages": messages.warm,
            "cpu-seconds": messages.cpu_seconds,
            "rate": messages.rate,
        }
        return {name: value for name, value in options.items() if value is not None}

    def _measure(self, options: dict[str, Any]) -> dict[str, float]:
        command = [str(PROGRAM), *(f"--{name}={value}" for name, value in options.items())]
        with pinned_to(LOAD_CORE):
            ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS + 10, check=False)
        if ended.returncode:
            log_end = "\n".join(self.server.log_path.read_text().splitlines()[-5:])
            raise LoadFailed(f"{ended.stderr.strip()}\nThe server's last lines:\n{log_end}")
        figures: dict[str, float] = json.loads(ended.stdout)
        return figures


def build() -> None:
    """Compile `fanload` when it is missing or older than its source."""
    if PROGRAM.exists() and PROGRAM.stat().st_mtime >= SOURCE.stat().st_mtime:
        return
    compiler = shutil.which("cc")
    if compiler is None:
        raise LoadFailed("the load is a C program, and there is no C compiler: install one that answers to cc")
    PROGRAM.parent.mkdir(exist_ok=True)
    try:
        subprocess.run([compiler, "-O2", "-Wall", "-o", PROGRAM, SOURCE], check=True)
    except subprocess.CalledProcessError as error:
        raise LoadFailed(f"{SOURCE.name} does not compile here; it needs Linux") from error
