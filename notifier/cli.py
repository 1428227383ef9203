"""The command line: `notifier serve`, `demo`, `check` and `openapi`, and those of `commands/`.

Imports wait for the command that needs them: the base install has only what `send` needs.
"""

import argparse
import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from notifier.commands import (
    conform,
    conform_target,
    dead_letters,
    health,
    listen,
    prove,
    revoke,
    send,
    smoke,
    token,
    topology,
    why,
)
from notifier.commands.failure import fail

SERVER_HINT: Final = "this command needs the service: pip install '.[server]' in the project's folder"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 for a failure, 2 for wrong settings or arguments."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("notifier"):
            raise
        return fail(f"{SERVER_HINT} ({error.name} is missing)")
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough (`| head`); what is left of it must not fail once more at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="notifier", description="A notification push service.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the service, configured by NOTIFIER_ variables")
    serve.set_defaults(command=_serve)
    _add_addresses(serve)
    serve.add_argument("--reuse-port", action="store_true", default=None, help="share the public port with replicas")

    demo = commands.add_parser("demo", help="run the service on loopback with a demo page and development keys")
    demo.set_defaults(command=_demo)
    _add_addresses(demo)

    token.add_to(commands)
    send.add_to(commands)
    revoke.add_to(commands)
    listen.add_to(commands)

    check = commands.add_parser("check", help="explain the settings, or a token")
    check.set_defaults(command=_check)
    check.add_argument("--token", metavar="TOKEN", help="explain this token; - reads it from standard input")
    check.add_argument(
        "--connect",
        action="store_true",
        help="try on RabbitMQ and Redis what the service will do there, and fetch the keys of issuers",
    )

    health.add_to(commands)
    topology.add_to(commands)
    dead_letters.add_to(commands)
    prove.add_to(commands)
    smoke.add_to(commands)
    why.add_to(commands)
    conform.add_to(commands)
    conform_target.add_to(commands)

    openapi = commands.add_parser("openapi", help="print the OpenAPI document")
    openapi.set_defaults(command=_openapi)
    return parser


def _add_addresses(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="as NOTIFIER_HTTP__HOST")
    parser.add_argument("--port", type=int, help="as NOTIFIER_HTTP__PORT")
    parser.add_argument("--operations-host", help="as NOTIFIER_OPERATIONS__HOST")
    parser.add_argument("--operations-port", type=int, help="as NOTIFIER_OPERATIONS__PORT")


def _serve(options: argparse.Namespace) -> int:
    if os.getpid() == 1:
        # The kernel keeps from process 1 what it has no handler for. Until the service has its own, half a second from
        # here, SIGTERM would be lost, and a container that is deleted as it starts would last until it is killed.
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    return _run(_overrides(options), demo=False)


def _demo(options: argparse.Namespace) -> int:
    quiet = {"NOTIFIER_TELEMETRY__LOG_FORMAT": "text", "NOTIFIER_TELEMETRY__LOG_LEVEL": "warning"}
    # Any free port: a second demo, on another public port, needs no more than that one.
    defaults = {"NOTIFIER_HTTP__OPENAPI": "true", "NOTIFIER_OPERATIONS__PORT": "0"} | quiet
    unset = {name: value for name, value in defaults.items() if name not in os.environ}
    return _run({"NOTIFIER_INSECURE": "true"} | unset | _overrides(options), demo=True)


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {
        "NOTIFIER_HTTP__HOST": options.host,
        "NOTIFIER_HTTP__PORT": options.port,
        "NOTIFIER_OPERATIONS__HOST": options.operations_host,
        "NOTIFIER_OPERATIONS__PORT": options.operations_port,
        "NOTIFIER_HTTP__REUSE_PORT": getattr(options, "reuse_port", None),
    }
    return {name: value for name, value in given.items() if value is not None}


def _run(overrides: dict[str, Any], *, demo: bool) -> int:
    import uvloop

    from notifier.app import Service
    from notifier.reload import Reloader
    from notifier.server import listen, serve
    from notifier.settings import SettingsError, read_settings
    from notifier.telemetry.logs import configure_logging

    try:
        settings = read_settings(overrides)
        configure_logging(settings.telemetry.log_level, settings.telemetry.log_format)

        async def run() -> int:
            service = Service(settings)
            listening = listen(settings)
            if demo:
                from notifier.demo import add_demo

                print(add_demo(service, settings, listening), flush=True)
                return await serve(settings, service, listening)  # A terminal that is closed ends the demo.
            reloader = Reloader(settings, service, lambda: read_settings(overrides))
            return await serve(settings, service, listening, on_hang_up=reloader)

        return uvloop.run(run())
    except SettingsError as error:
        return fail(*error.problems, code=2)
    except OSError as error:
        is_taken = demo and error.errno == errno.EADDRINUSE
        hint = f'; take another port: make demo ARGS="--port {settings.http.port + 1}"' if is_taken else ""
        return fail(f"{error.strerror or error}{hint}")


def _check(options: argparse.Namespace) -> int:
    from notifier.counts import shared_of
    from notifier.settings import SettingsError, describe_settings, read_settings
    from notifier.tracing import why_not
    from notifier.trust import build_key_pool, build_origins, build_verifier

    try:
        settings = read_settings()
        verifier = build_verifier(settings, build_key_pool(settings))
        build_origins(settings)
        shared_of(settings)
        traces_are_off = why_not(settings)
    except SettingsError as error:
        return fail(*error.problems, code=2)
    for reason in traces_are_off:
        print(f"notifier: traces are off: {reason}", file=sys.stderr)
    if options.connect:
        from notifier.commands.connect import connect

        return connect(settings, verifier.remotes)
    if options.token is None:
        print("\n".join(describe_settings(settings)))
        return 0
    if verifier.remotes:
        from notifier.commands.issuer_keys import fetch_all

        fetch_all(verifier.remotes)
    explained = verifier.explain(sys.stdin.read().strip() if options.token == "-" else options.token)
    print("\n".join(explained))
    return 1 if explained[0].startswith("refused") else 0


def _openapi(_: argparse.Namespace) -> int:
    from notifier.app import create_app
    from notifier.settings import Settings

    print(json.dumps(create_app(Settings(insecure=True)).openapi(), indent=2, ensure_ascii=False))
    return 0
