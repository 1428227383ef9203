"""Mosquitto, in C: MQTT 3.1.1 at QoS 0, by WebSocket for subscribers and by TCP for the publisher."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from tests.benchmarks.load import Load, Target
from tests.benchmarks.peers.messages import CHANNEL, PAYLOAD, client_frame
from tests.benchmarks.peers.process import free_ports, is_root, program, running, temporary_directory

CONFIGURATION = """\
{user}
allow_anonymous true
persistence false
log_dest stderr
log_type error
sys_interval 0
set_tcp_nodelay true
listener {port} 127.0.0.1
listener {websocket_port} 127.0.0.1
protocol websockets
"""
OPENING_MESSAGES = 2  # CONNACK and SUBACK.
BINARY = 2
CONNECT, PUBLISH, SUBSCRIBE = 0x10, 0x30, 0x82  # First bytes of packets, with the flags that they must have.


@contextmanager
def mosquitto() -> Iterator[Load]:
    """Run the broker on the servers' core."""
    port, websocket_port = free_ports(2)
    with temporary_directory() as directory:
        configuration, log = directory / "mosquitto.conf", directory / "mosquitto.log"
        user = "user root" if is_root() else ""
        configuration.write_text(CONFIGURATION.format(user=user, port=port, websocket_port=websocket_port))
        with running([program("mosquitto"), "-c", configuration], log, [port, websocket_port]) as process:
            subscribe = _packet(SUBSCRIBE, struct.pack("!H", 1) + _text(CHANNEL) + b"\0")
            target = Target(
                [websocket_port],
                [process],
                _packet(PUBLISH, _text(CHANNEL) + PAYLOAD),
                path="/mqtt",
                header="Sec-WebSocket-Protocol: mqtt",
                greeting=client_frame(_connect(), opcode=BINARY) + client_frame(subscribe, opcode=BINARY),
                opening_messages=OPENING_MESSAGES,
                post_port=port,
                introduction=_connect(),
                is_answered=False,
                log_paths=[log],
            )
            yield Load(target, directory)


def _connect() -> bytes:
    """A clean session without a keep-alive, under a name that the broker makes up."""
    clean_session, keep_alive_seconds = 0x02, 0
    return _packet(CONNECT, _text("MQTT") + struct.pack("!BBH", 4, clean_session, keep_alive_seconds) + _text(""))


def _packet(first_byte: int, content: bytes) -> bytes:
    """Seven bits of the length in each byte, the lowest first, and a mark that more follow."""
    length, left = b"", len(content)
    while left >= 128:
        length += bytes([0x80 | left % 128])
        left //= 128
    return bytes([first_byte]) + length + bytes([left]) + content


def _text(text: str) -> bytes:
    return struct.pack("!H", len(text)) + text.encode()
