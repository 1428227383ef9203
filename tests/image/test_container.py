"""The image at work: it serves, and drains, as any user, with no program but Python and nothing writable but /tmp."""

import json
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from notifier.access.development import mint
from tests.image.builder import Image
from tests.image.container import Container

pytestmark = pytest.mark.timeout(400)  # as in test_image.py

SECRET = secrets.token_hex(32)
ISSUER = {"issuer": "tests", "audiences": ["notifier"], "algorithms": ["HS256"], "keys": [{"secret": SECRET}]}
WRITABLE = """
import os
print([top for top, folders, files in os.walk("/") if not top.startswith("/proc") and any(
    os.access(os.path.join(top, name), os.W_OK) and not os.path.islink(os.path.join(top, name)) for name in [""] + files
) and top != "/dev"])
"""
StartContainer = Callable[..., Container]


@pytest.fixture
def start_container(bare_image: Image, tmp_path: Path) -> Iterator[StartContainer]:
    """A function that starts the image; settings are keyword arguments without the NOTIFIER_ prefix."""
    started: list[Container] = []

    def start(user: str = "", **settings: str) -> Container:
        defaults = {"ACCESS__ISSUERS": json.dumps([ISSUER]), "HTTP__DRAIN_DELAY_SECONDS": "0"}
        defaults["HTTP__DRAIN_WINDOW_SECONDS"] = "1"
        named = {f"NOTIFIER_{name}": value for name, value in {**defaults, **settings}.items()}
        started.append(Container(bare_image, tmp_path / "container.log", settings=named, user=user))
        return started[-1]

    yield start
    for container in started:
        container.kill()


def token(user: str, *scopes: str) -> str:
    return mint(issuer="tests", audience="notifier", key=SECRET, algorithm="HS256", user=user, scopes=scopes)


def test_it_serves_as_any_user_with_nothing_writable_but_an_empty_folder(
    start_container: StartContainer, tmp_path: Path
) -> None:
    """On the ports and addresses that the image sets; group 0, as on OpenShift."""
    container = start_container(user=f"{1_000_000 + secrets.randbelow(1_000_000)}:0")
    container.wait_ready()
    heard = tmp_path / "heard"
    listener = container.start("notifier", "listen", "--token", token("alice"), output=heard)
    try:
        container.wait_until(lambda: "listening as alice" in heard.read_text(), "alice listens")
        sending = ("notifier", "send", "--token", token("shop", "notify:send"), "--user", "alice", "--title", "Hello")

        sent = container.execute(*sending)

        assert sent.returncode == 0, sent
        container.wait_until(lambda: json.loads(sent.stdout)["id"] in heard.read_text(), "it arrives")
    finally:
        listener.kill()
        listener.wait()
    assert container.execute("python", "-c", WRITABLE).stdout == "['/tmp']\n"
    assert container.execute("python", "-c", "import os; print(os.listdir('/tmp'))").stdout == "[]\n"


def test_it_drains_on_sigterm(start_container: StartContainer, tmp_path: Path) -> None:
    """As process 1, as its own user: an open session is told, and the exit code is 0."""
    container = start_container()
    container.wait_ready()
    heard = tmp_path / "heard"
    listener = container.start("notifier", "listen", "--all", "--token", token("alice"), output=heard)
    try:
        container.wait_until(lambda: '"welcome"' in heard.read_text(), "alice listens")

        container.signal(signal.SIGTERM)

        assert container.ended() == 0
        container.wait_until(lambda: '"disconnected"' in heard.read_text(), "alice notices")
        frames = [json.loads(line) for line in heard.read_text().splitlines() if line.startswith("{")]
        assert "drain" in [frame.get("reason") for frame in frames if frame["type"] == "reconnect"]
    finally:
        listener.kill()
        listener.wait()


def test_a_signal_during_the_boot_is_heard(start_container: StartContainer) -> None:
    """The kernel keeps from process 1 what it has no handler for: a pod that is deleted at once would linger."""
    container = start_container()

    while not container.has_ended:  # at the latest, once it serves
        container.signal(signal.SIGTERM)
        time.sleep(0.005)

    assert container.ended() == 128 + signal.SIGTERM
    assert "listening" not in container.log_path.read_text()


def test_health_tells_a_container_that_is_no_more_ready(start_container: StartContainer) -> None:
    container = start_container(HTTP__DRAIN_DELAY_SECONDS="20")
    container.wait_ready()

    container.signal(signal.SIGTERM)

    container.wait_until(lambda: container.execute("notifier", "health").returncode == 1, "it is not ready")
    assert container.execute("notifier", "health", "--live").returncode == 0
