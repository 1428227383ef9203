"""Builds the image without an engine: by buildah, in a store of the tests' own, on a base made of Debian's packages."""

import ast
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent.parent
TOOLS: Final = ("mmdebstrap", "unshare", "nsenter", "setpriv", "chroot", "ip")
BUILD_SECONDS: Final = 300.0
BASE: Final = "localhost/notifier-base"
IMAGE: Final = "localhost/notifier"
# What the build asks of its base, and Debian's Python. They are unpacked and not set up: not even a user is there.
PACKAGES: Final = "base-files,coreutils,dash,findutils,python3-venv"
# What is of this machine in pip's configuration, and a build on it needs as well.
PIP_OPTIONS: Final = ("index-url", "extra-index-url", "proxy", "trusted-host", "timeout", "default-timeout")
CERTIFICATES: Final = "/run/notifier-test/certificates.pem"


@dataclass(frozen=True, slots=True)
class Image:
    """A built image, its files laid out in a folder of its own.

    Attributes:
        root: a working copy of its root file system.
        config: what a container runtime reads, as in the OCI image specification: Env, User, Entrypoint and so on.
        metadata: everything that is stored with it, the history included, as JSON.
    """

    root: Path
    config: dict[str, Any]
    metadata: str

    @property
    def environment(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.config["Env"])


def find_buildah() -> Path | None:
    """The program of NOTIFIER_TEST_BUILDAH, else the one on PATH; None also where what goes with it is missing."""
    found = shutil.which(os.environ.get("NOTIFIER_TEST_BUILDAH") or "buildah")
    return Path(found) if found and os.geteuid() == 0 and all(shutil.which(tool) for tool in TOOLS) else None


def build_image(buildah: Path, directory: Path, *, canary: str, arguments: Mapping[str, str]) -> Image:
    """Build from the checkout.

    Args:
        directory: takes the store; empty, and the caller's to remove.
        canary: a comment in pip's configuration, which no layer may keep.
        arguments: build arguments.
    """
    store = _Store(buildah, directory)
    base = directory / "base"
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    store.run("mmdebstrap", "--quiet", "--variant=extract", "--mode=root", f"--include={PACKAGES}", suite, str(base))
    container = store.buildah("from", "scratch")
    store.buildah("add", container, str(base), "/")
    store.buildah("commit", "--quiet", "--rm", container, BASE)
    shutil.rmtree(base)
    options = [f"--build-arg={name}={value}" for name, value in {"BASE": BASE, **arguments}.items()]
    options += _pip_options(directory / "pip.conf", canary)
    store.buildah("bud", "--quiet", "--isolation=chroot", *options, f"--tag={IMAGE}", str(ROOT))
    metadata = store.buildah("inspect", "--type=image", IMAGE)
    root = Path(store.buildah("mount", store.buildah("from", IMAGE)))
    return Image(root, json.loads(metadata)["OCIv1"]["config"], metadata)


@dataclass(frozen=True, slots=True)
class _Store:
    program: Path
    directory: Path

    def buildah(self, *arguments: str) -> str:
        places = [f"--root={self.directory}/store", f"--runroot={self.directory}/run", "--storage-driver=vfs"]
        return self.run(str(self.program), *places, *arguments)

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            env={**os.environ, "TMPDIR": str(self.directory)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,  # an assertion tells more
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout.strip()


def _pip_options(path: Path, canary: str) -> list[str]:
    """Hand this machine's mirror, proxy and certificates to pip in the build, as a secret and a mounted file."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    # From the weakest to the strongest: the environment wins.
    ordered = sorted((line for line in listed if "=" in line), key=lambda line: line.startswith(":env:"))
    given = {line.partition("=")[0].rpartition(".")[2]: ast.literal_eval(line.partition("=")[2]) for line in ordered}
    certificates = given.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE")
    lines = [f"# {canary}", "[global]", *(f"{name} = {given[name]}" for name in PIP_OPTIONS if name in given)]
    options = [f"--secret=id=pip,src={path}"]
    if certificates:
        lines.append(f"cert = {CERTIFICATES}")
        options.append(f"--volume={certificates}:{CERTIFICATES}:ro")
    path.write_text("\n".join(lines) + "\n")
    return options
