"""`notifier send`: sends a notification, over HTTP or through the request queue."""

import argparse
import json
from typing import Any

from notifier.commands import send_amqp
from notifier.commands.failure import fail
from notifier.commands.target import add_target, given_tls, given_token


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    send = commands.add_parser("send", help="send a notification")
    send.set_defaults(command=_send)
    add_target(send)
    send.add_argument("--user", action="append", default=[], dest="users", help="to this user; may be repeated")
    send.add_argument("--topic", action="append", default=[], dest="topics")
    send.add_argument("--role", action="append", default=[], dest="roles")
    send.add_argument("--everyone", action="store_true")
    send.add_argument("--type", default="notifier-cli.message")
    send.add_argument("--title")
    send.add_argument("--body")
    send.add_argument("--link")
    send.add_argument("--data", help="a JSON object")
    send.add_argument("--ttl-seconds", type=int)
    send.add_argument("--collapse-key")
    send.add_argument("--idempotency-key")
    send_amqp.add_options(send)


def _send(options: argparse.Namespace) -> int:
    import httpx

    from notifier.clients.tls import told

    try:
        body = _body(options)
    except ValueError as error:
        return fail(f"--data takes a JSON object: {error}", code=2)
    if options.amqp:
        return send_amqp.send(options, body)
    try:
        tls = given_tls(options)
        headers = {"Authorization": f"Bearer {given_token(options, ['notify:send', 'notify:broadcast'])}"}
    except ValueError as error:
        return fail(str(error), code=2)
    if options.idempotency_key:
        headers["Idempotency-Key"] = options.idempotency_key
    try:
        answer = httpx.post(f"{options.url}/notify", json=body, headers=headers, timeout=10, verify=tls or True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return fail(f"{options.url} cannot be reached: {told(error)}")
    print(answer.text)
    return 0 if answer.status_code == 202 else 1


def _body(options: argparse.Namespace) -> dict[str, Any]:
    """What was given, and nothing else: the service has its own defaults. Raises ValueError for wrong JSON."""
    audience = {
        "users": options.users,
        "topics": options.topics,
        "roles": options.roles,
        "everyone": options.everyone,
    }
    wanted = {
        "to": {name: value for name, value in audience.items() if value},
        "type": options.type,
        "title": options.title,
        "body": options.body,
        "link": options.link,
        "data": json.loads(options.data) if options.data else None,
        "ttl_seconds": options.ttl_seconds,
        "collapse_key": options.collapse_key,
    }
    return {name: value for name, value in wanted.items() if value is not None}
