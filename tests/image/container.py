"""Runs the files of an image as a container runtime would: as process 1, as its user, on a root that is read-only."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from tests.image.builder import Image

DEADLINE_SECONDS: Final = 30.0
# In namespaces of its own, so the mounts go with it, and its network holds a loopback and nothing else.
SET_UP: Final = """\
root=$1 user=$2; shift 2
path=$PATH; PATH=/usr/sbin:/usr/bin:/sbin:/bin
ip link set lo up
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o mode=755,nosuid,noexec tmpfs "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/urandom" c 1 9
mount -t tmpfs -o mode=1777,size=1m,nosuid,nodev,noexec tmpfs "$root/tmp"
setpriv=$(command -v setpriv) chroot=$(command -v chroot)
PATH=$path
exec "$setpriv" --no-new-privs "$chroot" --userspec="$user" --groups= "$root" "$@"
"""


class Container:
    """One container. Its environment is the image's, and the settings given here, and nothing of this process.

    Args:
        log_path: takes what it prints.
        user: numeric user and group; left out, what the image says.
    """

    def __init__(self, image: Image, log_path: Path, *, settings: Mapping[str, str], user: str = "") -> None:
        self._user = user or image.config["User"]
        self._environment = {**image.environment, **settings}
        self.log_path = log_path
        command = [*image.config["Entrypoint"], *image.config["Cmd"]]
        namespaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
        shell = ["sh", "-euc", SET_UP, "sh", str(image.root), self._user]
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [_tool("unshare"), *namespaces, *shell, *command],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self.wait_until(lambda: "notifier" in self._command_line(), "the entry point runs")
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as its user, to the end; as `docker exec` does."""
        return subprocess.run(
            [*self._entered(), *command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    def start(self, *command: str, output: Path) -> subprocess.Popen[bytes]:
        """Start a command in it; it is the caller's to end."""
        with output.open("wb") as file:
            return subprocess.Popen(
                [*self._entered(), *command],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Look until it is so; not past a deadline."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not is_so():
            ending = f"it ended with {self._process.poll()}; " if self._process.poll() is not None else ""
            assert time.monotonic() < deadline, f"in vain: {what}; {ending}its log:\n{self.log_path.read_text()}"
            time.sleep(0.02)

    def wait_ready(self) -> None:
        self.wait_until(lambda: self.execute("notifier", "health").returncode == 0, "it is ready")

    def signal(self, number: int) -> None:
        """Send a signal to its process 1, while there is one."""
        if first := self._first():
            os.kill(first, number)

    def ended(self, within_seconds: float = DEADLINE_SECONDS) -> int:
        """Wait for its end; the exit code, 128 and more for a signal that ended it."""
        code = self._process.wait(within_seconds)
        return code if code >= 0 else 128 - code

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        if self._process.poll() is None:
            # With its process 1 the kernel ends all of it. What --kill-child asks for goes with the change of user.
            self.signal(signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(DEADLINE_SECONDS)
            self._process.kill()
            self._process.wait(DEADLINE_SECONDS)

    def _first(self) -> int:
        """Its process 1, by the number that it has out here; 0 before there is one."""
        outer = self._process.pid
        if self._process.poll() is not None:
            return 0
        children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        return int(children[0]) if children else 0

    def _command_line(self) -> str:
        first = self._first()
        arguments = Path(f"/proc/{first}/cmdline").read_text().split("\0") if first else []
        # Python follows from the first line of the script; the shell of the set-up names it only further on.
        return arguments[1] if arguments[:1] and "python" in arguments[0] else ""

    def _entered(self) -> list[str]:
        user, _, group = self._user.partition(":")
        spaces = ["--mount", "--net", "--ipc", "--uts", "--root", "--wd"]
        return [_tool("nsenter"), f"--target={self._first()}", *spaces, f"--setuid={user}", f"--setgid={group}"]


def _tool(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not on PATH"
    return found
