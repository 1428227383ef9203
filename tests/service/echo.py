"""`notifier conform-target` in a process of its own: sessions that echo."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Target:
    """One that runs."""

    port: int
    process: subprocess.Popen[bytes]

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@contextmanager
def echo_target(log_path: Path, *options: str) -> Iterator[Target]:
    """Run it on a free port; in the end it has said nothing."""
    command = [sys.executable, "-m", "notifier", "conform-target", "--port", "0", *options]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    said = process.stdout.readline().decode()
    yield Target(int(said.split()[0].rpartition(":")[2]), process)
    process.terminate()
    process.stdout.close()
    assert process.wait(15) == -signal.SIGTERM
    assert log_path.read_text() == ""
