"""`notifier` commands in this process: what they print, and how they end."""

import asyncio
import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from notifier import cli


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has run."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


async def run(*arguments: str) -> Ended:
    """Run a command in a thread of its own, as it brings its own event loop; one at a time."""
    raw, err = io.BytesIO(), io.StringIO()
    out = io.TextIOWrapper(raw, "utf-8")
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = await asyncio.to_thread(cli.main, arguments)
        except SystemExit as ended:  # argparse's way to say that an argument is wrong
            code = int(ended.code or 0)
        out.flush()
    return Ended(code, raw.getvalue().decode(), err.getvalue())
