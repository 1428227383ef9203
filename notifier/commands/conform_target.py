"""`notifier conform-target`: a server whose sessions echo, for a conformance suite such as Autobahn's."""

import argparse
from typing import TYPE_CHECKING

from notifier.commands.failure import fail

if TYPE_CHECKING:
    import uvicorn

    from notifier.settings import Settings


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("conform-target", help="echo on loopback, for a conformance suite of WebSocket")
    parser.set_defaults(command=_conform_target)
    parser.add_argument("--port", type=int, default=9001, help="default 9001; 0 takes a free one")
    parser.add_argument(
        "--path",
        choices=("detached", "ordinary"),
        default="detached",
        help="detached: as our server keeps sessions; ordinary: as any other ASGI server does",
    )
    parser.add_argument("--deflate", action="store_true", help="offer permessage-deflate")


def _conform_target(options: argparse.Namespace) -> int:
    """Serve until a signal. Returns 0, or 1 when the port is taken."""
    import uvloop

    from notifier.server import listen_in_public, spare_the_collector
    from notifier.settings import Settings
    from notifier.telemetry.logs import configure_logging
    from notifier.transports.echo import FRAME_LIMIT_BYTES

    settings = Settings.model_validate(
        {
            "insecure": True,
            "http": {"port": options.port},
            "sessions": {"frame_limit_bytes": FRAME_LIMIT_BYTES, "deflate": options.deflate},
        }
    )
    configure_logging("warning", "text")

    async def run() -> int:
        server = _build(settings, is_ordinary=options.path == "ordinary")
        listener = listen_in_public(settings)
        spare_the_collector()
        print(f"ws://127.0.0.1:{listener.getsockname()[1]} echoes, {options.path}", flush=True)
        await server.serve([listener])
        return 0

    try:
        return uvloop.run(run())
    except OSError as error:
        return fail(error.strerror or str(error))


def _build(settings: "Settings", *, is_ordinary: bool) -> "uvicorn.Server":
    """The server of real sessions, with an echo behind it."""
    import uvicorn

    from notifier.core.envelope import Position
    from notifier.core.hub import Hub
    from notifier.core.window import Window
    from notifier.server import public_config
    from notifier.transports.echo import Echo
    from notifier.transports.frames import Frames
    from notifier.transports.socket_protocol import OrdinarySocket

    hub = Hub(Window(Position("conformance", 1, 0), opened_at_ms=0), Frames())
    config = public_config(settings, Echo(hub, write_limit_bytes=settings.sessions.write_limit_bytes))
    config.lifespan = "off"
    if is_ordinary:
        config.ws = OrdinarySocket
    return uvicorn.Server(config)
