"""The image, built once for all its tests; what it runs has all of the system taken away that it must not need."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.builder import Image, build_image, find_buildah

NO_BUILDAH = "no image: it takes root, and buildah and mmdebstrap (scripts/find_buildah.sh)"
CANARY = f"canary-{secrets.token_hex(8)}"


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """The image of this checkout. Skips where it cannot be built; with CI=true that is a failure."""
    buildah = find_buildah()
    if buildah is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(NO_BUILDAH)
    directory = Path(tempfile.mkdtemp(prefix="notifier-image-"))
    try:
        yield build_image(buildah, directory, canary=CANARY, arguments={"REVISION": "0123abc"})
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def bare_image(image: Image) -> Image:
    """The same, with no program left in its system but Python: no shell, no compiler, no kill."""
    for folder in ("bin", "sbin", "usr/bin", "usr/sbin"):
        for path in (image.root / folder).iterdir():
            if not path.name.startswith("python3"):
                path.unlink()
    return image
