"""A replica of the service as its users run it: the real command, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

BOOT_SECONDS = 60.0  # Three at once on a busy machine read the log of two minutes at 200 a second in half of it.


class Replica:
    """Runs `notifier serve` on free ports, with insecure development keys unless the environment says otherwise."""

    def __init__(
        self,
        log_path: Path,
        settings: Mapping[str, str] | None = None,
        *,
        module: str = "notifier",
        command: Sequence[str] | None = None,
    ) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
        defaults = {
            "NOTIFIER_INSECURE": "true",
            "NOTIFIER_HTTP__PORT": "0",
            "NOTIFIER_OPERATIONS__PORT": "0",
            "NOTIFIER_HTTP__DRAIN_DELAY_SECONDS": "0",
            "NOTIFIER_HTTP__DRAIN_WINDOW_SECONDS": "0",
            # All clients of a test are one address, and come as fast as they can.
            "NOTIFIER_LIMITS__ADDRESS_HANDSHAKES": "10000/second",
            "NOTIFIER_LIMITS__HANDSHAKES": "10000/second",
            # That the tests' machine is busy is not what a test is about.
            "NOTIFIER_OVERLOAD__LOOP_LAG_SECONDS": "10",
        }
        self.log_path = log_path
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command or [sys.executable, "-m", module, "serve"],
                env={**inherited, **defaults, **(settings or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            ports = {line["port_name"]: line["port"] for line in self._await_listening()}
            self.port = ports["public"]
            self.url = f"http://127.0.0.1:{self.port}"
            self.ws_url = f"ws://127.0.0.1:{self.port}/ws"
            self.operations_url = f"http://127.0.0.1:{ports['operations']}"
            self._await_ready()
        except BaseException:
            self.stop()
            raise

    def log_lines(self) -> list[dict[str, Any]]:
        """The log so far; a line that is not JSON is a failure of the service."""
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def stop(self, number: int = signal.SIGTERM, *, within_seconds: float = 15.0) -> int:
        """Send a signal and return the exit code; SIGKILL when the process does not end in time."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(within_seconds)
        finally:
            self.process.kill()

    def _await_listening(self) -> list[dict[str, Any]]:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            text = self.log_path.read_text()
            lines = [json.loads(line) for line in text.splitlines() if '"listening"' in line and line.endswith("}")]
            if len(lines) == 2:
                return lines
            time.sleep(0.02)
        raise AssertionError(f"the service did not start:\n{self.log_path.read_text()}")

    def _await_ready(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.operations_url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"the service did not get ready:\n{self.log_path.read_text()}")
