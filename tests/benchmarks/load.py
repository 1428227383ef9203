"""The load: `fanload`, built from its source beside this module, and what it reports."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.machine import LOAD_CORE, pinned_to

SOURCES: Final = [Path(__file__).with_name(name) for name in ("fanload.c", "frames.h", "meters.h")]
PROGRAM: Final = Path(__file__).parents[2] / "build" / "fanload"
DEADLINE_SECONDS: Final = 170
NOT_NEGOTIATED: Final = 3  # Exit code, as in the source.

Measured = dict[str, float]


class LoadFailed(Exception):
    """The load could not be built, or did not get the answers it wanted; the text says why."""


class NotNegotiated(LoadFailed):
    """The server did not take the extension that the load offered."""


class Absent(LoadFailed):
    """What a benchmark needs beside the server is not installed."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Open sessions until there are so many."""

    until: int

    def option(self) -> str:
        return f"open={self.until}"


@dataclass(frozen=True, slots=True)
class Messages:
    """What to post while the sessions are open, and when it is enough: see the top of `fanload.c`."""

    in_flight: int
    most: int
    receipts: int | None = None  # None: every session that is open.
    warm: int = 0
    cpu_seconds: float | None = None
    rate: int | None = None

    def option(self) -> str:
        fields = {
            "in-flight": self.in_flight,
            "messages": self.most,
            "receipts": self.receipts,
            "warm": self.warm,
            "cpu-milliseconds": None if self.cpu_seconds is None else round(self.cpu_seconds * 1000),
            "rate": self.rate,
        }
        return ",".join(f"{name}={value}" for name, value in fields.items() if value is not None)


@dataclass(frozen=True, slots=True)
class Target:
    """One server as the load sees it: where it is, and what a handshake and a message look like to it."""

    ports: Sequence[int]
    pids: Sequence[int]
    template: bytes = b""
    path: str = "/"
    header: str = ""
    extension: str = ""
    greeting: bytes = b""
    opening_messages: int = 0
    post_port: int | None = None
    introduction: bytes = b""
    is_answered: bool = True
    log_paths: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """Runs `fanload` against a server, in a directory for its files."""

    target: Target
    directory: Path
    core: int | None = LOAD_CORE  # None: wherever the system puts it.

    def run(
        self, *stages: Opening | Messages, tokens: Sequence[str] = (), at_a_time: int | None = None
    ) -> list[Measured]:
        """Take the stages in turn, with a token for each session. Returns what was measured in each."""
        command = self._command(stages, tokens)
        if at_a_time is not None:
            command.append(f"--at-a-time={at_a_time}")
        with pinned_to(self.core):
            ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS + 10, check=False)
        if ended.returncode:
            raise self._failure(ended.returncode, ended.stderr)
        return [json.loads(line) for line in ended.stdout.splitlines()]

    @contextmanager
    def stepwise(self, *stages: Opening | Messages, tokens: Sequence[str] = ()) -> Iterator[Callable[[], Measured]]:
        """Give a function that takes the next stage, and returns what was measured in it; sessions stay in between."""
        command = [*self._command(stages, tokens), "--stepwise"]
        pipe = subprocess.PIPE
        with pinned_to(self.core):
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        try:
            yield partial(self._step, process)
        finally:
            process.kill()
            process.communicate()

    def _step(self, process: "subprocess.Popen[str]") -> Measured:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        with suppress(BrokenPipeError):  # It has ended, and says below why.
            process.stdin.write("\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line.endswith("\n"):
            raise self._failure(process.wait(), process.stderr.read())
        measured: Measured = json.loads(line)
        return measured

    def _command(self, stages: Sequence[Opening | Messages], tokens: Sequence[str]) -> list[str]:
        command = [str(PROGRAM), *(f"--{name}={value}" for name, value in self._options(tokens).items() if value)]
        command += [f"--stage={stage.option()}" for stage in stages]
        return command if self.target.is_answered else [*command, "--unanswered"]

    def _options(self, tokens: Sequence[str]) -> dict[str, Any]:
        target = self.target
        return {
            "port": ",".join(map(str, target.ports)),
            "pid": ",".join(map(str, target.pids)),
            "path": target.path,
            "header": target.header,
            "extension": target.extension,
            "opening-messages": target.opening_messages,
            "post-port": target.post_port,
            "deadline": DEADLINE_SECONDS,
            "headers": self._file("headers", "".join(f"Authorization: Bearer {token}\n" for token in tokens).encode()),
            "greeting": self._file("greeting", target.greeting),
            "template": self._file("template", target.template),
            "introduction": self._file("introduction", target.introduction),
        }

    def _file(self, name: str, content: bytes) -> Path | None:
        if not content:
            return None
        path = self.directory / name
        path.write_bytes(content)
        return path

    def _failure(self, code: int, said: str) -> LoadFailed:
        if code == NOT_NEGOTIATED:
            return NotNegotiated(said.strip())
        return LoadFailed(f"{said.strip()}\n{self._last_lines()}".strip())

    def _last_lines(self) -> str:
        ends = ["\n".join(path.read_text(errors="replace").splitlines()[-5:]) for path in self.target.log_paths]
        return "\n".join(f"The server's last lines:\n{end}" for end in ends if end)


def build() -> None:
    """Compile `fanload` when it is missing or older than its source."""
    if PROGRAM.exists() and PROGRAM.stat().st_mtime >= max(source.stat().st_mtime for source in SOURCES):
        return
    compiler = shutil.which("cc")
    if compiler is None:
        raise LoadFailed("the load is a C program, and there is no C compiler: install one that answers to cc")
    PROGRAM.parent.mkdir(exist_ok=True)
    try:
        subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", PROGRAM, SOURCES[0]], check=True)
    except subprocess.CalledProcessError as error:
        raise LoadFailed(f"{SOURCES[0].name} does not compile here; it needs Linux") from error
