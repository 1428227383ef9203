"""Values as AMQP 0-9-1 writes them, those included that no library would write."""

import struct


def short(text: bytes) -> bytes:
    """A short string."""
    return bytes([len(text)]) + text


def table(*entries: bytes) -> bytes:
    """A table, an array or a long string: their content after its length."""
    content = b"".join(entries)
    return struct.pack(">I", len(content)) + content


def nested(levels: int) -> bytes:
    """A table in a table in a table."""
    inner = table()
    for _ in range(levels):
        inner = table(short(b"a") + b"F" + inner)
    return inner


def time(seconds: int) -> bytes:
    """A timestamp."""
    return struct.pack(">Q", seconds)
