"""The programs of docs/python.md, run as they stand but for the address."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.rabbitmq import RabbitMQ
from tests.replica import Replica
from tests.tokens import token

PROGRAMS = [block.text for block in blocks("docs/python.md") if block.kind == "python"]
WITH_QUEUE = [program for program in PROGRAMS if "AMQP_URL" in program]


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ) -> Iterator[Replica]:
    replica = Replica(tmp_path_factory.mktemp("python") / "replica.log", {"NOTIFIER_QUEUE__URL": rabbitmq.url()})
    yield replica
    replica.stop()


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_the_programs_run(program: str, replica: Replica, rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    path = tmp_path / "send.py"
    path.write_text(program.replace("http://127.0.0.1:8000", replica.url))
    sending = token("backend", scopes=["notify:send"])

    done = subprocess.run(
        [sys.executable, path],
        check=False,
        cwd=ROOT,
        env={**os.environ, "TOKEN": sending, "AMQP_URL": rabbitmq.url()},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "refused" not in done.stdout


def test_there_is_a_program_for_each_door() -> None:
    assert 0 < len(WITH_QUEUE) < len(PROGRAMS)
