"""`notifier health`: asks a running replica how it is, for orchestrators whose probes are commands.

It needs neither a shell nor curl, and starts in a moment: the standard library only, and no settings but two.
"""

import argparse
import os
from typing import Final

from notifier.commands.failure import fail

TIMEOUT_SECONDS: Final = 3.0
HOST: Final = "NOTIFIER_OPERATIONS__HOST"
PORT: Final = "NOTIFIER_OPERATIONS__PORT"
# Where the replica listens on every address, a probe beside it takes loopback.
ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  # nothing is bound here


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("health", help="ask the operations port of a replica whether it is ready; 0 is yes")
    parser.set_defaults(command=_health)
    parser.add_argument("--live", action="store_true", help="ask only whether the process turns")
    parser.add_argument("--host", help=f"as {HOST}; every address becomes loopback")
    parser.add_argument("--port", type=int, help=f"as {PORT}")


def _health(options: argparse.Namespace) -> int:
    """Print the answer. Returns 0 for 200, 1 for anything else, 2 for settings that say no address."""
    from http.client import HTTPConnection, HTTPException

    from notifier.setting_files import with_files

    settings, _, problems = with_files(os.environ, {HOST, PORT})
    if problems:
        return fail(problems[0], code=2)
    given = settings.get(HOST, "127.0.0.1") if options.host is None else options.host
    host = ANY_ADDRESS.get(given, given)
    try:
        port = int(settings.get(PORT, "9000")) if options.port is None else options.port
    except ValueError:
        return fail(f"{PORT} is not a number", code=2)
    connection = HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/livez" if options.live else "/readyz")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace").rstrip()
    except (OSError, OverflowError, HTTPException) as error:
        return fail(f"{host} port {port} cannot be reached: {error}")
    finally:
        connection.close()
    print(text)
    return 0 if answer.status == 200 else 1
