"""The command line: `notifier serve`, `demo`, `token`, `send`, `listen`, `check`, `openapi`.

Imports wait for the command that needs them: the base install has only what `send` needs.
"""

import argparse
import asyncio
import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from notifier.commands import dead_letters, health, prove, send_amqp, smoke, topology, why

SERVER_HINT: Final = "this command needs the service: pip install 'notifier-push[server]'"
DEFAULT_URL: Final = "http://127.0.0.1:8000"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 for a failure, 2 for wrong settings or arguments."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("notifier"):
            raise
        return _fail(f"{SERVER_HINT} ({error.name} is missing)")
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

    token = commands.add_parser("token", help="mint a token, with the development key unless another is given")
    token.set_defaults(command=_token)
    _add_token_options(token)

    send = commands.add_parser("send", help="send a notification")
    send.set_defaults(command=_send)
    _add_send_options(send)

    listen = commands.add_parser("listen", help="print what arrives, one JSON object per line; reconnect and resume")
    listen.set_defaults(command=_listen)
    _add_target(listen)
    listen.add_argument("--topic", action="append", default=[], help="subscribe to it; may be repeated")
    listen.add_argument("--role", action="append", default=[], help="a role of the development token")
    listen.add_argument("--position", help="resume from it, or earliest")
    listen.add_argument("--all", action="store_true", help="print every frame, not only notifications")

    check = commands.add_parser("check", help="explain the settings, or a token")
    check.set_defaults(command=_check)
    check.add_argument("--token", metavar="TOKEN", help="explain this token; - reads it from standard input")
    check.add_argument("--connect", action="store_true", help="try on RabbitMQ what the service will do there")

    health.add_to(commands)
    topology.add_to(commands)
    dead_letters.add_to(commands)
    prove.add_to(commands)
    smoke.add_to(commands)
    why.add_to(commands)

    openapi = commands.add_parser("openapi", help="print the OpenAPI document")
    openapi.set_defaults(command=_openapi)
    return parser


def _add_addresses(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="as NOTIFIER_HTTP__HOST")
    parser.add_argument("--port", type=int, help="as NOTIFIER_HTTP__PORT")
    parser.add_argument("--operations-host", help="as NOTIFIER_OPERATIONS__HOST")
    parser.add_argument("--operations-port", type=int, help="as NOTIFIER_OPERATIONS__PORT")


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default=DEFAULT_URL, help=f"default {DEFAULT_URL}")
    parser.add_argument("--token", help="a token; - reads it from standard input; default: a development token")
    parser.add_argument("--as", dest="user", default="demo", metavar="USER", help="whose development token to use")


def _add_token_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", default="demo")
    parser.add_argument("--tenant")
    parser.add_argument("--role", action="append", default=[])
    parser.add_argument("--topic", action="append", default=[], help="a pattern: * one segment, # any number")
    parser.add_argument("--scope", action="append", default=[], help="such as notify:send, notify:broadcast")
    parser.add_argument("--into-tenant", action="append", default=[], help="another tenant it may send into")
    parser.add_argument("--lifetime-seconds", type=int, default=3_600)
    parser.add_argument("--claim", action="append", default=[], metavar="NAME=JSON", help="any other claim")
    parser.add_argument("--issuer")
    parser.add_argument("--audience")
    parser.add_argument("--algorithm", default="HS256")
    parser.add_argument("--key-file", help="the secret, or the private key in PEM")


def _add_send_options(parser: argparse.ArgumentParser) -> None:
    _add_target(parser)
    parser.add_argument("--user", action="append", default=[], dest="users", help="to this user; may be repeated")
    parser.add_argument("--topic", action="append", default=[], dest="topics")
    parser.add_argument("--role", action="append", default=[], dest="roles")
    parser.add_argument("--everyone", action="store_true")
    parser.add_argument("--type", default="notifier-cli.message")
    parser.add_argument("--title")
    parser.add_argument("--body")
    parser.add_argument("--link")
    parser.add_argument("--data", help="a JSON object")
    parser.add_argument("--ttl-seconds", type=int)
    parser.add_argument("--collapse-key")
    parser.add_argument("--idempotency-key")
    send_amqp.add_options(parser)


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
        return _fail(*error.problems, code=2)
    except OSError as error:
        is_taken = demo and error.errno == errno.EADDRINUSE
        hint = f'; take another port: make demo ARGS="--port {settings.http.port + 1}"' if is_taken else ""
        return _fail(f"{error.strerror or error}{hint}")


def _token(options: argparse.Namespace) -> int:
    from pathlib import Path

    from notifier.access.development import mint
    from notifier.settings import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER, DEVELOPMENT_SECRET

    try:
        extra = {name: json.loads(value) for name, _, value in (claim.partition("=") for claim in options.claim)}
        token = mint(
            issuer=options.issuer or DEVELOPMENT_ISSUER,
            audience=options.audience or DEVELOPMENT_AUDIENCE,
            key=Path(options.key_file).read_text().strip() if options.key_file else DEVELOPMENT_SECRET,
            algorithm=options.algorithm,
            user=options.user,
            tenant=options.tenant,
            roles=options.role,
            topics=options.topic,
            scopes=options.scope,
            tenants=options.into_tenant,
            lifetime_seconds=options.lifetime_seconds,
            extra=extra,
        )
    except json.JSONDecodeError as error:
        return _fail(f"--claim takes NAME=JSON: {error}", code=2)
    except (ValueError, OSError) as error:
        return _fail(str(error), code=2)
    print(token)
    return 0


def _send(options: argparse.Namespace) -> int:
    import httpx

    try:
        data = json.loads(options.data) if options.data else None
    except ValueError as error:
        return _fail(f"--data takes a JSON object: {error}", code=2)
    wanted = {
        "to": {
            "users": options.users,
            "topics": options.topics,
            "roles": options.roles,
            "everyone": options.everyone or None,
        },
        "type": options.type,
        "title": options.title,
        "body": options.body,
        "link": options.link,
        "data": data,
        "ttl_seconds": options.ttl_seconds,
        "collapse_key": options.collapse_key,
    }
    wanted["to"] = {name: value for name, value in wanted["to"].items() if value}
    body = {name: value for name, value in wanted.items() if value is not None}
    if options.amqp:
        return send_amqp.send(options, body)
    headers = {"Authorization": f"Bearer {_given_token(options, ['notify:send', 'notify:broadcast'])}"}
    if options.idempotency_key:
        headers["Idempotency-Key"] = options.idempotency_key
    try:
        answer = httpx.post(f"{options.url}/notify", json=body, headers=headers, timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _fail(f"{options.url} cannot be reached: {error}")
    print(answer.text)
    return 0 if answer.status_code == 202 else 1


def _listen(options: argparse.Namespace) -> int:
    from websockets.exceptions import InvalidURI

    from notifier.clients.listen import Listener, Refused

    url = options.url.replace("http", "ws", 1) + "/ws"
    given = _given_token(options, [])
    listener = Listener(
        url,
        # A development token is minted anew for each attempt, so that a night of listening does not end at its expiry.
        (lambda: given) if options.token else (lambda: _given_token(options, [])),
        topics=options.topic,
        position=options.position,
    )

    async def run() -> None:
        async for frame in listener:
            if frame["type"] == "notification":
                print(json.dumps(frame["notification"], ensure_ascii=False), flush=True)
            elif options.all:
                print(json.dumps(frame, ensure_ascii=False), flush=True)
            elif frame["type"] in ("welcome", "disconnected"):
                print(_said(frame, options.url), file=sys.stderr, flush=True)

    try:
        asyncio.run(run())
    except (Refused, InvalidURI) as error:
        return _fail(str(error))
    return 0


def _said(frame: dict[str, Any], url: str) -> str:
    if frame["type"] == "disconnected":
        return f"{url}: {frame['reason']}; trying again ..."
    return f"{url}: listening as {frame['user']} of {frame['tenant']} ({frame['resume']['status']})"


def _check(options: argparse.Namespace) -> int:
    from notifier.settings import SettingsError, describe_settings, read_settings
    from notifier.tracing import why_not
    from notifier.trust import build_origins, build_verifier

    try:
        settings = read_settings()
        verifier = build_verifier(settings)
        build_origins(settings)
        traces_are_off = why_not(settings)
    except SettingsError as error:
        return _fail(*error.problems, code=2)
    for reason in traces_are_off:
        print(f"notifier: traces are off: {reason}", file=sys.stderr)
    if options.connect:
        from notifier.commands.connect import connect

        return connect(settings)
    if options.token is None:
        print("\n".join(describe_settings(settings)))
        return 0
    explained = verifier.explain(sys.stdin.read().strip() if options.token == "-" else options.token)
    print("\n".join(explained))
    return 1 if explained[0].startswith("refused") else 0


def _openapi(_: argparse.Namespace) -> int:
    from notifier.app import create_app
    from notifier.settings import Settings

    print(json.dumps(create_app(Settings(insecure=True)).openapi(), indent=2, ensure_ascii=False))
    return 0


def _given_token(options: argparse.Namespace, scopes: list[str]) -> str:
    if options.token == "-":
        return sys.stdin.read().strip()
    if options.token:
        return str(options.token)
    from notifier.trust import development_token

    return development_token(user=options.user, roles=getattr(options, "role", []), topics=["#"], scopes=scopes)


def _fail(*problems: str, code: int = 1) -> int:
    for problem in problems:
        print(f"notifier: {problem}", file=sys.stderr)
    return code
