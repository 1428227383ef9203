"""The image: what a runtime reads of it, its files, and that it serves and drains, with no program but Python.

One module, since the modules go to different processes, and each would build an image of its own.
"""

import json
import os
import secrets
import signal
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from notifier.access.development import mint
from tests.image.builder import ROOT, Image
from tests.image.conftest import CANARY
from tests.image.container import Container

# The first test of a run builds the image; on a machine that does much else, that takes longer than a test may.
pytestmark = pytest.mark.timeout(400)

EPOCH = 315_532_800  # the default of SOURCE_DATE_EPOCH in the Dockerfile
UNCHECKED = 0b01  # PEP 552: made from a hash of the source, and never compared with it
SECRET = secrets.token_hex(32)
ISSUER = {"issuer": "tests", "audiences": ["notifier"], "algorithms": ["HS256"], "keys": [{"secret": SECRET}]}
WRITABLE = """
import os
print([top for top, folders, files in os.walk("/") if not top.startswith("/proc") and any(
    os.access(os.path.join(top, name), os.W_OK) and not os.path.islink(os.path.join(top, name)) for name in [""] + files
) and top != "/dev"])
"""
StartContainer = Callable[..., Container]


def test_a_runtime_reads_how_to_run_it(image: Image) -> None:
    user, _, group = image.config["User"].partition(":")

    assert int(user) > 0
    assert int(group) > 0
    assert image.config["Entrypoint"] == ["/opt/notifier/bin/notifier"]
    assert image.config["Cmd"] == ["serve"]
    assert image.config["ExposedPorts"].keys() == {"8000/tcp", "9000/tcp"}
    assert image.environment["NOTIFIER_HTTP__HOST"] == image.environment["NOTIFIER_OPERATIONS__HOST"] == "0.0.0.0"


def test_labels_say_version_and_revision(image: Image) -> None:
    labels = image.config["Labels"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert labels["org.opencontainers.image.version"] == version
    assert labels["org.opencontainers.image.revision"] == "0123abc"


def test_the_configuration_of_pip_stays_outside(image: Image) -> None:
    kept = [path for path in image.root.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]

    assert kept == []
    assert CANARY not in image.metadata
    assert not (image.root / "etc/pip.conf").exists()


def test_it_has_what_is_locked_and_neither_sources_nor_installers(image: Image) -> None:
    """Checklist 3.4.33."""
    packages = next((image.root / "opt/notifier/lib").glob("python3*/site-packages"))
    names = {path.name for path in packages.iterdir()}

    assert {"notifier", "uvicorn", "aio_pika", "opentelemetry"} <= names
    assert not {"pip", "setuptools", "hatchling", "pytest"} & names
    assert not {"source", "build", "wheels"} & {path.name for path in image.root.iterdir()}


def test_no_file_tells_when_it_was_built(image: Image) -> None:
    """Equal sources, locks and base make equal files; the folder that holds them all is made by the last stage."""
    files = list((image.root / "opt/notifier").rglob("*"))
    compiled = [path for path in files if path.suffix == ".pyc"]

    assert {int(path.lstat().st_mtime) for path in files} == {EPOCH}
    assert {int.from_bytes(path.read_bytes()[4:8], "little") for path in compiled} == {UNCHECKED}


def test_every_module_has_its_bytecode(image: Image) -> None:
    """Nothing can write it at run time, and without it each start compiles anew."""
    modules = set((image.root / "opt/notifier/lib").rglob("notifier/**/*.py"))

    compiled = {path.parent.parent / f"{path.name.split('.')[0]}.py" for path in image.root.rglob("notifier/**/*.pyc")}

    assert modules
    assert modules <= compiled


def test_nothing_belongs_to_its_user(image: Image) -> None:
    """Any other number is as good: one of OpenShift's, for example."""
    files = list((image.root / "opt/notifier").rglob("*"))

    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in files} == {(0, 0)}
    assert all(path.lstat().st_mode & 0o004 for path in files)
    assert all(path.stat().st_mode & 0o001 for path in files if path.is_dir() or os.access(path, os.X_OK))


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
    """On the ports and addresses that the image sets; group 0, as on OpenShift. Checklist 3.4.31."""
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
