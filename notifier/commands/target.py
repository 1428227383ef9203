"""What commands are told alike: where the service is, whom to trust there, and as whom to come."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

DEFAULT_URL: Final = "http://127.0.0.1:8000"


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the options of one who comes with a token."""
    add_url(parser)
    parser.add_argument("--token", help="a token; - reads it from standard input; default: a development token")
    parser.add_argument("--as", dest="user", default="demo", metavar="USER", help="whose development token to use")


def add_url(parser: argparse.ArgumentParser) -> None:
    """Add where the service is."""
    parser.add_argument("--url", default=DEFAULT_URL, help=f"default {DEFAULT_URL}")
    add_ca_file(parser)


def add_ca_file(parser: argparse.ArgumentParser) -> None:
    """Add whom to trust there."""
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="trust these authorities, in PEM, and no others")


def given_tls(options: argparse.Namespace) -> "ssl.SSLContext | None":
    """Whom to trust; None for the usual authorities. Raises ValueError for a file that does not say it."""
    from notifier.clients.tls import trusting

    try:
        return None if options.ca_file is None else trusting(options.ca_file)
    except ValueError as error:
        raise ValueError(f"--ca-file: {error}") from None


def given_token(options: argparse.Namespace, scopes: list[str]) -> str:
    """The token that was given; else one of the development key, which has the scopes.

    Raises ValueError, without the token, for what can be none.
    """
    from notifier.clients.credentials import checked
    from notifier.clients.errors import Unauthenticated

    if options.token:
        try:
            return checked(sys.stdin.read() if options.token == "-" else options.token)
        except Unauthenticated as error:
            raise ValueError(f"--token: {error.detail}") from None
    from notifier.trust import development_token

    return development_token(user=options.user, roles=getattr(options, "role", []), topics=["#"], scopes=scopes)
