"""The chart as Helm sees it: renders with the real command, and says what it refuses."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]  # it has no types

ROOT: Final = Path(__file__).parent.parent.parent
CHART: Final = ROOT / "helm" / "notifier"
CASES: Final = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}
# The oldest that Chart.yaml allows, up to the newest there is. A Helm that was not built by its release takes 1.20.
VERSIONS: Final = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
NO_HELM: Final = "no Helm: scripts/find_helm.sh builds it where Go is, or name it in NOTIFIER_TEST_HELM"

Object = dict[str, Any]


def find_helm() -> str | None:
    """The command that the tests take; None where there is none."""
    names = (os.environ.get("NOTIFIER_TEST_HELM"), "helm", str(ROOT / "build" / "helm" / "helm"))
    return next((found for name in names if name and (found := shutil.which(name))), None)


class Refused(Exception):
    """Helm does not render it; the text is what it says."""


class Helm:
    """Runs the command on the chart, with values from a mapping."""

    def __init__(self, command: str, folder: Path) -> None:
        self._command = command
        self._folder = folder

    def text(self, values: Mapping[str, Any], *options: str) -> str:
        """Render. Raises Refused."""
        return self._run("template", "push", str(CHART), values, "--kube-version", VERSIONS[-1], *options)

    def objects(self, values: Mapping[str, Any]) -> list[Object]:
        """Render to objects, hooks included. Raises Refused."""
        return parse(self.text(values))

    def lint(self, values: Mapping[str, Any]) -> None:
        """Raises Refused with what is wrong."""
        self._run("lint", str(CHART), values, "--strict", "--kube-version", VERSIONS[-1])

    def _run(self, *arguments: str | Mapping[str, Any]) -> str:
        words: list[str] = []
        for argument in arguments:
            words += [argument] if isinstance(argument, str) else ["--values", "-"]
        (values,) = (argument for argument in arguments if not isinstance(argument, str))
        ended = subprocess.run(
            [self._command, *words],
            input=yaml.safe_dump(dict(values)),
            # Without the caller's own repositories, plugins and cluster.
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder), "KUBECONFIG": "/dev/null"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if ended.returncode:
            raise Refused(ended.stderr + ended.stdout)
        printed: str = ended.stdout
        return printed


def parse(text: str) -> list[Object]:
    """The objects of a rendering."""
    return [each for each in yaml.safe_load_all(text) if each]


def case(name: str) -> Object:
    """The values of a case."""
    values: Object = yaml.safe_load(CASES[name].read_text())
    return values


def changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> Object:
    """The values with others laid over them, as Helm does with a second file."""
    merged = dict(values)
    for name, change in changes.items():
        before = merged.get(name)
        merged[name] = changed(before, change) if isinstance(before, dict) and isinstance(change, dict) else change
    return merged


def of_kind(objects: Sequence[Object], kind: str, suffix: str = "") -> Object:
    """The one object of a kind, whose name ends so."""
    (found,) = (each for each in objects if each["kind"] == kind and each["metadata"]["name"].endswith(suffix))
    return found


def pod_of(each: Object) -> Object | None:
    """The pod that an object makes, if any."""
    if each["kind"] == "Pod":
        return each
    template: Object | None = (
        each.get("spec", {}).get("template") if each["apiVersion"] in ("apps/v1", "batch/v1") else None
    )
    return template
