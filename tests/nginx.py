"""A real nginx in front of a replica, as people set it up for WebSockets."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CONFIGURATION = """\
{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream replica {{ server 127.0.0.1:{upstream_port}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://replica;
            proxy_http_version 1.1;
            proxy_request_buffering {buffering};
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https;
        }}
    }}
}}
"""
# Debian's nginx.conf and one location, for a process without privileges: what differs is where it writes.
AS_SHIPPED = """\
{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 768; }}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    default_type application/octet-stream;
    gzip on;
    access_log {directory}/access.txt;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{upstream_port}; }}
    }}
}}
"""
BOOT_SECONDS = 10.0


@contextmanager
def nginx(
    upstream_port: int, directory: Path, *, template: str = CONFIGURATION, buffering: bool = False
) -> Iterator[int]:
    """Run it; yields its port. Requests pass as they come in, unless `buffering`. Skips where there is no nginx."""
    program = os.environ.get("NOTIFIER_TEST_NGINX") or shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if not program:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no nginx: see scripts/find_nginx.sh")
    port = _free_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        template.format(
            user="user root;" if os.getuid() == 0 else "",
            directory=directory,
            upstream_port=upstream_port,
            port=port,
            buffering="on" if buffering else "off",
        )
    )
    process = subprocess.Popen([program, "-e", "stderr", "-p", directory, "-c", configuration])
    try:
        _await_listening(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(BOOT_SECONDS)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _await_listening(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("nginx did not start")
