"""`notifier token`: mints a token, with the development key unless another is given."""

import argparse
import json

from notifier.commands.failure import fail


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    token = commands.add_parser("token", help="mint a token, with the development key unless another is given")
    token.set_defaults(command=_token)
    token.add_argument("--user", default="demo")
    token.add_argument("--tenant")
    token.add_argument("--role", action="append", default=[])
    token.add_argument("--topic", action="append", default=[], help="a pattern: * one segment, # any number")
    token.add_argument("--scope", action="append", default=[], help="such as notify:send, notify:broadcast")
    token.add_argument("--into-tenant", action="append", default=[], help="another tenant it may send into")
    token.add_argument("--lifetime-seconds", type=int, default=3_600)
    token.add_argument("--claim", action="append", default=[], metavar="NAME=JSON", help="any other claim")
    token.add_argument("--issuer")
    token.add_argument("--audience")
    token.add_argument("--algorithm", default="HS256")
    token.add_argument("--key-file", help="the secret, or the private key in PEM")


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
        return fail(f"--claim takes NAME=JSON: {error}", code=2)
    except (ValueError, OSError) as error:
        return fail(str(error), code=2)
    print(token)
    return 0
