"""What `notifier send` and `notifier listen` are told alike: where the service is, and as whom."""

import argparse
import sys
from typing import Final

DEFAULT_URL: Final = "http://127.0.0.1:8000"


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--url", default=DEFAULT_URL, help=f"default {DEFAULT_URL}")
    parser.add_argument("--token", help="a token; - reads it from standard input; default: a development token")
    parser.add_argument("--as", dest="user", default="demo", metavar="USER", help="whose development token to use")


def given_token(options: argparse.Namespace, scopes: list[str]) -> str:
    """The token that was given; else one of the development key, which has the scopes."""
    if options.token == "-":
        return sys.stdin.read().strip()
    if options.token:
        return str(options.token)
    from notifier.trust import development_token

    return development_token(user=options.user, roles=getattr(options, "role", []), topics=["#"], scopes=scopes)
