"""NATS, in Go: its own text protocol, by WebSocket for subscribers and by TCP for the publisher."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.benchmarks.load import Load, Target
from tests.benchmarks.peers.messages import CHANNEL, PAYLOAD, client_frame
from tests.benchmarks.peers.process import CONNECTIONS, free_ports, program, running, temporary_directory

# No log file, no JetStream, so nothing is kept; no pings, as for the others. Go takes as many threads as it has cores.
CONFIGURATION = """\
listen: "127.0.0.1:{port}"
max_connections: {connections}
ping_interval: "1h"
websocket {{
  listen: "127.0.0.1:{websocket_port}"
  no_tls: true
  compression: false
}}
"""
OPENING_MESSAGES = 2  # INFO, and PONG: everything before it was understood.
BINARY = 2


@contextmanager
def nats() -> Iterator[Load]:
    """Run the server on the servers' core."""
    port, websocket_port = free_ports(2)
    with temporary_directory() as directory:
        configuration, log = directory / "nats.conf", directory / "nats.log"
        configuration.write_text(
            CONFIGURATION.format(port=port, websocket_port=websocket_port, connections=CONNECTIONS)
        )
        with running([program("nats-server"), "-c", configuration], log, [port, websocket_port]) as process:
            target = Target(
                [websocket_port],
                [process],
                b"PUB %s %d\r\n%s\r\n" % (CHANNEL.encode(), len(PAYLOAD), PAYLOAD),
                greeting=client_frame(_connect() + f"SUB {CHANNEL} 1\r\nPING\r\n".encode(), opcode=BINARY),
                opening_messages=OPENING_MESSAGES,
                post_port=port,
                introduction=_connect(),
                is_answered=False,
                log_paths=[log],
            )
            yield Load(target, directory)


def _connect() -> bytes:
    options = {"verbose": False, "pedantic": False, "lang": "c", "version": "1", "protocol": 1}
    return f"CONNECT {json.dumps(options)}\r\n".encode()
