"""What a stranger does first works as it is written: the README's send and receive, and how operations begin."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, commands_in
from tests.rabbitmq import RabbitMQ
from tests.replica import Replica

PROGRAMS = Path(sys.executable).parent
WALK_SECONDS = 60
HEAR = "notifier listen --as alice --position earliest"
UNTIL_TWO = "until [ $(wc -l <heard) = 2 ]; do sleep 0.05; done; kill $!"


def walk(script: str, folder: Path) -> str:
    """Run it in a shell of its own, until the first command that fails. Returns what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
    path = os.pathsep.join((str(PROGRAMS), os.environ["PATH"]))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=inherited | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=WALK_SECONDS,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_readme_sends_and_receives(tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text()
    curl = next(block.text for block in blocks("README.md") if "curl" in block.text)
    send = re.search(r"`(notifier send --user alice [^`]*)`", page)
    assert send is not None
    assert "`notifier listen --as alice`" in page
    assert "`--position earliest`" in page
    replica = Replica(tmp_path / "log")

    try:
        script = f"{curl}\n{send[1]} --url {replica.url}\n{HEAR} --url {replica.url} >heard 2>said & {UNTIL_TWO}"
        said = walk(script.replace("http://127.0.0.1:8000", replica.url), tmp_path)
    finally:
        replica.stop()

    assert said.count('"status":"queued"') == 2
    assert (tmp_path / "heard").read_text().count('"title": "Order shipped", "link": "/orders/1234"') == 2


@pytest.fixture
def broker(rabbitmq: RabbitMQ) -> Iterator[RabbitMQ]:
    """Without what the page creates, afterwards."""
    yield rabbitmq
    rabbitmq.evaluate(
        'rabbit_vhost:delete(<<"push">>, <<>>), rabbit_auth_backend_internal:delete_user(<<"notifier">>, <<>>)'
    )


def test_operations_begin(broker: RabbitMQ, tmp_path: Path) -> None:
    """Up to the tokens. What comes then takes minutes, and was done by hand."""
    first, second = [block for block in blocks("docs/operations.md") if block.kind == "console"][:2]
    clone, *begin = [*commands_in(first), *commands_in(second)]
    assert clone == ". .venv/bin/activate"
    (tmp_path / "etc").mkdir()
    broker.write_programs(tmp_path / "build/rabbitmq-5672")

    script = "\n".join(begin).replace("127.0.0.1:5672", f"127.0.0.1:{broker.port}")
    said = walk(script.replace("/etc/notifier", str(tmp_path / "etc")), tmp_path)

    assert "ok: publish to notifier.ingest\n" in said
    assert "user: backend\n" in said
    assert "scopes: notify:send\n" in said
