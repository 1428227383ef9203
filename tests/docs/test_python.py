"""The programs of docs/python.md and the lines of the README, run as they stand but for the address."""

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.rabbitmq import RabbitMQ
from tests.replica import Replica
from tests.service.client import session
from tests.tokens import token

PROGRAMS = [block.text for block in blocks("docs/python.md") if block.kind == "python"]
(LINES,) = [block.text for block in blocks("README.md") if block.text.startswith("async with Notifier(")]
# What the README leaves to its reader.
AROUND_LINES = """
import asyncio, os
from notifier.clients import Notifier, users

token = os.environ["TOKEN"]

async def main():
{lines}

asyncio.run(main())
"""
WITH_QUEUE = [program for program in PROGRAMS if "AMQP_URL" in program]


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ) -> Iterator[Replica]:
    replica = Replica(tmp_path_factory.mktemp("python") / "replica.log", {"NOTIFIER_QUEUE__URL": rabbitmq.url()})
    yield replica
    replica.stop()


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_the_programs_run(program: str, replica: Replica, rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    done = run(program, replica, tmp_path, AMQP_URL=rabbitmq.url())

    assert (done.returncode, done.stderr) == (0, "")
    assert "refused" not in done.stdout


def test_there_is_a_program_for_each_door() -> None:
    assert 0 < len(WITH_QUEUE) < len(PROGRAMS)


async def test_the_lines_of_the_readme_reach_their_user(replica: Replica, tmp_path: Path) -> None:
    program = AROUND_LINES.format(lines=textwrap.indent(LINES, "    "))
    async with session(replica.ws_url, "alice") as alice:
        done = await asyncio.to_thread(run, program, replica, tmp_path)
        heard = await alice.notification()

    assert (done.returncode, done.stderr) == (0, "")
    assert (heard["type"], heard["title"]) == ("order.shipped", "Order shipped")


def run(program: str, replica: Replica, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program, with a token that may send, against a replica."""
    path = directory / "send.py"
    path.write_text(program.replace("http://127.0.0.1:8000", replica.url))
    return subprocess.run(
        [sys.executable, path],
        check=False,
        cwd=ROOT,
        env={**os.environ, "TOKEN": token("backend", scopes=["notify:send"]), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
