"""`notifier revoke`: shuts out a session, a token, a user, or everyone of a tenant, by what they hold now."""

import argparse
from typing import Any

from notifier.commands.failure import fail
from notifier.commands.target import add_target, given_tls, given_token

EPILOG = """\
Tokens that are issued later still count. Examples:

  notifier revoke --user alice
  notifier revoke --everyone --issued-before 2026-11-26T09:30:00Z --token - < security.txt
"""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    revoke = commands.add_parser(
        "revoke",
        help="close sessions and refuse their tokens, on every replica",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    revoke.set_defaults(command=_revoke)
    add_target(revoke)
    subject = revoke.add_mutually_exclusive_group(required=True)
    subject.add_argument("--user", dest="revoked_user", metavar="USER", help="every token that this user has by now")
    subject.add_argument("--session", help="this session, and the token it holds")
    subject.add_argument("--token-id", metavar="ID", help="the jti, or what notifier check --token calls its id")
    subject.add_argument("--everyone", action="store_true", help="of the tenant; needs --issued-before")
    revoke.add_argument("--issued-before", metavar="TIME", help="such as 2026-11-26T09:30:00Z; default for a user: now")
    revoke.add_argument("--tenant", help="another tenant than the token's")


def _revoke(options: argparse.Namespace) -> int:
    import httpx

    from notifier.clients.tls import told

    try:
        tls = given_tls(options)
        headers = {"Authorization": f"Bearer {given_token(options, ['notify:revoke', 'notify:any-tenant'])}"}
    except ValueError as error:
        return fail(str(error), code=2)
    wanted: dict[str, Any] = {
        "session": options.session,
        "token_id": options.token_id,
        "user": options.revoked_user,
        "everyone": options.everyone or None,
        "issued_before": options.issued_before,
        "tenant": options.tenant,
    }
    body = {name: value for name, value in wanted.items() if value is not None}
    try:
        answer = httpx.post(f"{options.url}/revocations", json=body, headers=headers, timeout=10, verify=tls or True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return fail(f"{options.url} cannot be reached: {told(error)}")
    print(answer.text)
    return 0 if answer.status_code == 202 else 1
