"""Runs a private RabbitMQ node to try things on, until Ctrl-C, which removes it and its data: `make rabbitmq`."""

import argparse
import signal
import sys
from pathlib import Path

from tests.rabbitmq import RabbitMQ

BUILD = Path(__file__).parent.parent / "build"
SAID = """\
RabbitMQ listens on amqp://guest:guest@127.0.0.1:{port}/ for this machine only. Ctrl-C ends it, with all that it holds.

In other terminals, so that rabbitmqctl speaks to it:

export PATH={programs}:$PATH
"""


def main() -> None:
    """Run the node in the foreground."""
    parser = argparse.ArgumentParser(prog="make rabbitmq", description="Run a private RabbitMQ node.")
    parser.add_argument("--port", type=int, default=5672, help="default 5672")
    port = parser.parse_args().port
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: sys.exit(0))
    with RabbitMQ(port=port) as node:
        programs = BUILD / f"rabbitmq-{port}"
        node.write_programs(programs)
        sys.stdout.write(SAID.format(port=port, programs=programs))
        sys.stdout.flush()
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
