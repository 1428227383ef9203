"""The real command with its sessions left in ASGI, as any other server than ours keeps them.

python -m tests.ordinary serve: for tests that hold both ways to keep a session to the same behaviour.
"""

import sys

import uvicorn
from starlette.types import ASGIApp

from notifier import cli, server
from notifier.settings import Settings
from notifier.transports.http_protocol import STREAM, HttpProtocol
from notifier.transports.socket_protocol import OrdinarySocket

make_config = server.public_config


class OrdinaryHttp(HttpProtocol):
    """The same for streams of events."""

    def on_headers_complete(self) -> None:
        """Withhold the extension."""
        super().on_headers_complete()
        self.scope.get("extensions", {}).pop(STREAM, None)


def ordinary_config(settings: Settings, app: ASGIApp) -> uvicorn.Config:
    """The configuration of the public port, with pings by the server."""
    config = make_config(settings, app)
    config.ws, config.http = OrdinarySocket, OrdinaryHttp
    config.ws_ping_interval = config.ws_ping_timeout = settings.sessions.heartbeat_seconds
    return config


if __name__ == "__main__":
    server.public_config = ordinary_config
    sys.exit(cli.main(sys.argv[1:]))
