"""Fixtures for the tests of the chart: Helm, and every case rendered once."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helm.chart import CASES, NO_HELM, Helm, Object, case, find_helm, parse


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The real command. Skips where there is none; with CI=true that is a failure."""
    command = find_helm()
    if command is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(NO_HELM)
    return Helm(command, tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def texts(helm: Helm) -> dict[str, str]:
    """What Helm prints for each case."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(zip(CASES, pool.map(lambda name: helm.text(case(name)), CASES), strict=True))


@pytest.fixture(scope="session")
def rendered(texts: dict[str, str]) -> dict[str, list[Object]]:
    """The objects of each case."""
    return {name: parse(text) for name, text in texts.items()}
