"""nchan, a module of nginx in C: subscribers by WebSocket, publishers by HTTP."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.load import Load, LoadFailed, Target
from tests.benchmarks.peers.messages import CHANNEL, PAYLOAD
from tests.benchmarks.peers.process import (
    CONNECTIONS,
    await_true,
    free_ports,
    is_root,
    program,
    running,
    temporary_directory,
)

CONFIGURATION = """\
load_module {module};
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {directory}/nginx.pid;
error_log stderr crit;
events {{
    use epoll;
    worker_connections {connections};
}}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests 100000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    nchan_shared_memory_size 256M;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /sub {{
            nchan_subscriber websocket;
            nchan_channel_id {channel};
            nchan_subscriber_first_message newest;
            nchan_websocket_ping_interval 0;
        }}
        location = /pub {{
            nchan_publisher http;
            nchan_channel_id {channel};
            nchan_message_buffer_length 32;
            nchan_message_timeout 10s;
        }}
    }}
}}
"""


@contextmanager
def nchan() -> Iterator[Load]:
    """Run nginx with a worker, which is what is measured, on the servers' core."""
    nginx = program("nginx")
    (port,) = free_ports(1)
    with temporary_directory() as directory:
        configuration = directory / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                module=_module(nginx),
                user="user root root;" if is_root() else "",
                files=CONNECTIONS + 100,
                connections=CONNECTIONS,
                directory=directory,
                port=port,
                channel=CHANNEL,
            )
        )
        log = directory / "nginx.log"
        with running([nginx, "-e", "stderr", "-p", directory, "-c", configuration], log, [port]) as master:
            await_true(lambda: len(_children(master)) == 1, "nginx has its worker")
            yield Load(Target([port], _children(master), _request(), path="/sub", log_paths=[log]), directory)


def _request() -> bytes:
    head = f"POST /pub HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(PAYLOAD)}"
    return f"{head}\r\n\r\n".encode() + PAYLOAD


def _module(nginx: str) -> Path:
    """The module is built for this nginx, which knows where its modules are."""
    built = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=True).stderr
    folder = re.search(r"--modules-path=(\S+)", built)
    path = Path(folder[1] if folder else "/usr/lib/nginx/modules") / "ngx_nchan_module.so"
    if not path.exists():
        raise LoadFailed(f"there is no {path}: scripts/install_peers.sh installs Debian's, as root")
    return path


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
