"""What is in the image: what a runtime reads of it, its files, and what must not be there. Built, not run."""

import os
import tomllib

import pytest

from tests.image.builder import ROOT, Image
from tests.image.conftest import CANARY

# The first test of a run builds the image; on a machine that does much else, that takes longer than a test may.
pytestmark = pytest.mark.timeout(400)

EPOCH = 315_532_800  # the default of SOURCE_DATE_EPOCH in the Dockerfile
UNCHECKED = 0b01  # PEP 552: made from a hash of the source, and never compared with it


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
