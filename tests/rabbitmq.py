"""A RabbitMQ node of the tests' own: a real broker that may be stopped, killed, frozen, filled up and started again."""

import json
import os
import random
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

PORTS: Final = range(20_000, 32_000)
BOOT_SECONDS: Final = 60.0  # 3 to 10 are usual
STOP_SECONDS: Final = 20.0
CALL_SECONDS: Final = 30.0

# Out of the way: a full disk or a busy machine must not block what no test has blocked.
MEMORY_BYTES: Final = 4_000_000_000
DISK_FREE_BYTES: Final = 1_000_000
CONFIGURATION: Final = f"""\
vm_memory_high_watermark.absolute = {MEMORY_BYTES}
disk_free_limit.absolute = {DISK_FREE_BYTES}
log.console = false
"""
# A node that has nothing to do leaves the processor to what is tested, instead of spinning.
ERLANG_ARGUMENTS: Final = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
LOOPBACK_ONLY: Final = "-kernel inet_dist_use_interface {127,0,0,1}"

NO_SERVER: Final = "no RabbitMQ: set NOTIFIER_TEST_RABBITMQ to a rabbitmq-server, or NOTIFIER_TEST_AMQP_URL to a broker"


def find_server() -> Path | None:
    """The script of NOTIFIER_TEST_RABBITMQ, else Debian's; not the one on PATH, which becomes another user."""
    found = shutil.which(os.environ.get("NOTIFIER_TEST_RABBITMQ") or "/usr/lib/rabbitmq/bin/rabbitmq-server")
    return Path(found) if found else None


class RabbitMQ:
    """A private node: its own name, ports, cookie, data, log and epmd, in a directory that goes when it is closed.

    Every method blocks for a bounded time: `start` for seconds, `control` for one or two, the rest for milliseconds.
    A test that serves something on its event loop meanwhile calls them through `asyncio.to_thread`.

    Args:
        server: the rabbitmq-server script; left out, the one that `find_server` finds.
        port: the port for AMQP; left out, a free one.
    """

    def __init__(self, server: Path | None = None, *, port: int | None = None) -> None:
        found = server or find_server()
        if found is None:
            raise FileNotFoundError(NO_SERVER)
        self._server = found
        self._directory = Path(tempfile.mkdtemp(prefix="notifier-rabbitmq-"))
        # Bound as long as the node exists and never listening, so that nobody takes a port while the node is down.
        ports = PORTS if port is None else range(port, port + 1)
        self._reserved = [reserve_port(ports), reserve_port(), reserve_port()]
        self.port, self._distribution_port, self._epmd_port = (held.getsockname()[1] for held in self._reserved)
        self._write_files()
        self._environment = self._make_environment()
        self._epmd: subprocess.Popen[bytes] | None = None  # runs from the first start until the close
        self._process: subprocess.Popen[bytes] | None = None  # None while the node is down

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process id of the Erlang machine."""
        assert self._process is not None, "the node is down"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def url(self, user: str = "guest", password: str = "guest", vhost: str = "/") -> str:
        name, secret, host = (quote(part, safe="") for part in (user, password, vhost))
        return f"amqp://{name}:{secret}@127.0.0.1:{self.port}/{host}"

    def start(self) -> None:
        """Start the node, and return when it serves AMQP and all of its applications are up."""
        assert self._process is None, "the node was started already"
        epmd = self._epmd or self._start_epmd()
        with (self._directory / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                [str(self._server), *self._code_path(), "-eval", _end_with_us(epmd)],
                env=self._environment,
                cwd=self._directory,
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._await("start", self._answers, BOOT_SECONDS)
        self.evaluate("ok = rabbit:await_startup()")

    def stop(self) -> None:
        """Stop the node in good order; SIGKILL when it does not end in time. The data stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGTERM)
            self._await_end(self._process)

    def kill(self) -> None:
        """End the node with SIGKILL, as the kernel does when memory runs out. The data stays as it is."""
        if self._process is not None:
            self._kill_group(self._process)
            self._await_end(self._process)

    def restart(self) -> None:
        """Start again on the data there is, after an orderly stop if the node is running."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End everything that was started, and remove the data."""
        self.kill()
        if self._epmd is not None:
            self._epmd.terminate()
            self._epmd.wait(STOP_SECONDS)
        for held in self._reserved:
            held.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def heal(self) -> None:
        """Undo what a test did to the node; its queues, users and messages stay."""
        if not self.is_running:
            self.restart()
            return
        self.resume()
        self.start_app()
        self.unblock()

    def suspend(self) -> None:
        """Freeze the process: connections stay open, also new ones, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop_app(self) -> None:
        """Stop the broker but not its process, as an operator does for maintenance."""
        self.evaluate("ok = rabbit:stop()")

    def start_app(self) -> None:
        self.evaluate("ok = rabbit:start(), ok = rabbit:await_startup()")

    def block_by_memory(self) -> None:
        """Raise the memory alarm: connections that publish are blocked."""
        self.evaluate(
            "vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1}), [_ | _] = rabbit_alarm:get_alarms()"
        )

    def block_by_disk(self) -> None:
        """Raise the disk alarm: connections that publish are blocked."""
        self.evaluate("rabbit_disk_monitor:set_disk_free_limit(1 bsl 60), [_ | _] = rabbit_alarm:get_alarms()")

    def unblock(self) -> None:
        """Clear both alarms."""
        self.evaluate(
            f"vm_memory_monitor:set_vm_memory_high_watermark({{absolute, {MEMORY_BYTES}}}),"
            f"rabbit_disk_monitor:set_disk_free_limit({DISK_FREE_BYTES}), [] = rabbit_alarm:get_alarms()"
        )

    def add_user(self, name: str, password: str, *, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """Add a user; each pattern says on which queues and exchanges, and an empty one on none."""
        self.evaluate(f"ok = rabbit_auth_backend_internal:add_user({_binary(name)}, {_binary(password)}, <<>>)")
        self.set_permissions(name, configure=configure, write=write, read=read)

    def set_permissions(self, name: str, *, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """Set what a user may do; channels that are open may go by what they remember."""
        patterns = ", ".join(_binary(pattern) for pattern in (configure, write, read))
        self.evaluate(f"rabbit_auth_backend_internal:set_permissions({_binary(name)}, <<$/>>, {patterns}, <<>>)")

    def set_topic_permissions(self, name: str, exchange: str, *, write: str) -> None:
        """Set with which routing keys a user may publish to an exchange."""
        given = ", ".join(_binary(each) for each in (exchange, write, ".*", "tests"))
        self.evaluate(f"rabbit_auth_backend_internal:set_topic_permissions({_binary(name)}, <<$/>>, {given})")

    def change_password(self, name: str, password: str) -> None:
        """Change a password; connections that are open stay open."""
        self.evaluate(f"rabbit_auth_backend_internal:change_password({_binary(name)}, {_binary(password)}, <<>>)")

    def list_queues(self) -> dict[str, int]:
        """The messages in each queue and stream, ready and unacknowledged; some seconds old for quorum queues."""
        entries = "maps:from_list([{N, M} || [{name, {resource, _, _, N}}, {messages, M}] <- Queues])"
        printed = self.evaluate(
            f"Queues = rabbit_amqqueue:info_all(<<$/>>, [name, messages]), io:put_chars(rabbit_json:encode({entries}))"
        )
        counts: dict[str, int] = json.loads(printed)
        return counts

    def delete_queue(self, name: str) -> None:
        """Delete a queue or a stream under the feet of its consumers."""
        self.evaluate(
            f"{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<$/>>, queue, {_binary(name)})),"
            "rabbit_amqqueue:delete(Queue, false, false, <<>>)"
        )

    def sync_metadata(self) -> None:
        """Put on disk what was declared so far; call it between a declaration and a kill that is to spare the queue.

        Mnesia keeps the last word on a declaration to itself for up to 2 s. A kill in that time undoes about 3 in 100
        durable queues that the broker had reported as declared, and with them what was confirmed into them.
        """
        self.evaluate("sys:get_state(mnesia_recover), ok = disk_log:sync(latest_log)")

    def evaluate(self, expressions: str) -> str:
        """Evaluate Erlang expressions in the node, in milliseconds. Returns what they print; raises when one fails."""
        command = ["erl_call", "-r", "-address", f"127.0.0.1:{self._distribution_port}", "-fetch_stdout"]
        command += ["-timeout", str(int(CALL_SECONDS)), "-e"]
        output = self._run(command, f"{expressions}, ok.\n")
        if not output.endswith("{ok, ok}"):
            raise RuntimeError(f"the node did not take {expressions}: {output}")
        return output.removesuffix("{ok, ok}")

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node. Returns what it prints."""
        return self._run([str(self._server.with_name("rabbitmqctl")), *arguments])

    def write_programs(self, directory: Path) -> None:
        """Write `rabbitmqctl` and the like, as shell scripts that speak to this node, for people."""
        directory.mkdir(parents=True, exist_ok=True)
        ours = {name: value for name, value in self._environment.items() if os.environ.get(name) != value}
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in ours.items())
        for name in ("rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-streams"):
            program = shlex.quote(str(self._server.with_name(name)))
            (directory / name).write_text(f'#!/bin/sh\n{exports}exec {program} "$@"\n')
            (directory / name).chmod(0o755)

    def log_tail(self) -> str:
        """The last lines of the node's log and of its console."""
        return "\n".join(_tail(self._directory / name) for name in ("rabbit.log", "console.log"))

    def _run(self, command: list[str], given: str = "") -> str:
        try:
            done = subprocess.run(
                command,
                env=self._environment,
                input=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=True,
                timeout=CALL_SECONDS + 5,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise RuntimeError(f"{error}\n{error.output}\n{self.log_tail()}") from error
        return done.stdout

    def _start_epmd(self) -> subprocess.Popen[bytes]:
        """Start the register of node names; the node would start one that outlives it."""
        command = ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"]
        silent = subprocess.DEVNULL  # An output that it shared with us, a pipe say, would stay open as long as it runs.
        self._epmd = subprocess.Popen(
            command, env=self._environment, stdout=silent, stderr=silent, start_new_session=True
        )
        self._await("register names", lambda: _accepts(self._epmd_port), BOOT_SECONDS)
        return self._epmd

    def _answers(self) -> bool:
        """Whether the AMQP port answers a protocol header, as a client sends it first, with a frame."""
        if not self.is_running:
            raise RuntimeError(f"RabbitMQ ended while it started:\n{self.log_tail()}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=CALL_SECONDS) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def _await(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"RabbitMQ did not {what} within {seconds} s:\n{self.log_tail()}")
            time.sleep(0.02)

    def _await_end(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill_group(process)
            process.wait(STOP_SECONDS)
        process.stdin.close()
        self._process = None

    def _kill_group(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    def _write_files(self) -> None:
        files = {"rabbitmq.conf": CONFIGURATION, "advanced.config": "[].\n", "enabled_plugins": "[].\n", "env.conf": ""}
        for name, text in files.items():
            (self._directory / name).write_text(text)
        cookie = self._directory / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        self._link_plugins()

    def _link_plugins(self) -> None:
        """Offer only what the node itself is made of: it looks for each of 900 modules in every plugin's folder."""
        links = self._directory / "plugins"
        links.mkdir()
        for plugin in (self._server.resolve().parent.parent / "plugins").iterdir():
            is_optional = plugin.name.startswith("rabbitmq_") and not plugin.name.startswith("rabbitmq_prelaunch-")
            if not is_optional and (plugin / "ebin").is_dir():
                (links / plugin.name).symlink_to(plugin)

    def _code_path(self) -> list[str]:
        """Where Erlang looks first. With the fewer plugins, a start takes 4.4 s, not 7.8 (medians of 7, under load)."""
        erlang = Path(shutil.which("erl") or "").resolve().parent.parent / "lib"
        return ["-pa", *(str(code) for lib in (self._directory / "plugins", erlang) for code in lib.glob("*/ebin"))]

    def _make_environment(self) -> Mapping[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_", "NOTIFIER_"))
        }
        settings = {
            "RABBITMQ_NODENAME": f"notifier-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{ERLANG_ARGUMENTS} {LOOPBACK_ONLY}",
            "RABBITMQ_CTL_ERL_ARGS": LOOPBACK_ONLY,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # The script becomes the Erlang machine instead of waiting for it, so the process we start is the node.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
        places = {
            "HOME": "",  # for the Erlang cookie
            "RABBITMQ_MNESIA_BASE": "mnesia",
            "RABBITMQ_LOG_BASE": "",
            "RABBITMQ_LOGS": "rabbit.log",
            "RABBITMQ_CONFIG_FILE": "rabbitmq.conf",
            "RABBITMQ_CONFIG_FILES": "none/*.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": "advanced.config",
            "RABBITMQ_CONF_ENV_FILE": "env.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": "enabled_plugins",
            "RABBITMQ_PLUGINS_DIR": "plugins",
        }
        return {**inherited, **settings, **{name: str(self._directory / place) for name, place in places.items()}}


def reserve_port(ports: range = PORTS) -> socket.socket:
    """Hold a port below those that connections get: Erlang wants its port at every address of the machine.

    Nobody else gets it, also no other test process: the bind is exclusive. Only afterwards the socket says that another
    may listen there, which Linux allows where both say so and ours does not listen; Erlang's sockets say it.
    """
    for port in random.SystemRandom().sample(ports, len(ports)):
        held = socket.socket()
        try:
            held.bind(("0.0.0.0", port))
        except OSError:
            held.close()
            continue
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return held
    raise OSError(f"no port from {ports.start} to {ports.stop - 1} is free")


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=CALL_SECONDS).close()
    except OSError:
        return False
    return True


def _end_with_us(epmd: subprocess.Popen[bytes]) -> str:
    """Erlang that ends the node and its epmd with this process, however it ends: the pipe to the node closes then."""
    end = f'os:cmd("kill {epmd.pid}"), halt(1)'
    return f"spawn(fun() -> open_port({{fd, 0, 0}}, [eof]), receive {{_, eof}} -> {end} end end)"


def _binary(text: str) -> str:
    """A text as an Erlang binary, byte by byte: there is nothing to quote."""
    return f"<<{','.join(str(byte) for byte in text.encode())}>>"


def _tail(path: Path, *, lines: int = 40) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else f"no {path.name}"
