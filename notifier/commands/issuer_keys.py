"""The keys that issuers publish, for `notifier check`: fetched once, with a sentence for each."""

import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from notifier.access.remote_keys import RemoteKeys


def try_all(remotes: "Sequence[RemoteKeys]") -> bool:
    """Fetch the keys of each issuer, and print what came. Returns whether all have some."""
    for keys in remotes:
        began = time.perf_counter()
        _fetch([keys])
        name = f"keys of {keys.place.issuer}"
        if keys.trouble is not None:
            print(f"missing: {name}: {keys.trouble}")
            continue
        kids = ", ".join(repr(key.kid) for key in keys.published)
        line = f"ok: {name}: {kids} for {', '.join(keys.algorithms)}, in {(time.perf_counter() - began) * 1000:.0f} ms"
        print("; ".join([line, *(f"passed over: {reason}" for reason in keys.passed_over)]))
    return all(keys.trouble is None for keys in remotes)


def fetch_all(remotes: "Sequence[RemoteKeys]") -> None:
    """Fetch the keys of all issuers, and say on standard error whose did not come."""
    _fetch(remotes)
    for keys in remotes:
        if keys.trouble is not None:
            print(f"notifier: no keys of {keys.place.issuer}: {keys.trouble}", file=sys.stderr)


def _fetch(remotes: "Sequence[RemoteKeys]") -> None:
    async def run() -> None:
        await asyncio.gather(*(keys.fetch() for keys in remotes))

    logging.disable(logging.CRITICAL)  # What a service would log is said here in words.
    asyncio.run(run())
    logging.disable(logging.NOTSET)
