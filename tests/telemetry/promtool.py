"""Prometheus' own judge of rules: what they say, and which alerts fire over given series."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

RULES = Path(__file__).parents[2] / "helm" / "notifier" / "files" / "alerts.yaml"


@dataclass(frozen=True, slots=True)
class Situation:
    """Series in promtool's notation, one value a minute, and the alerts that fire at the end of it, with any others."""

    series: Mapping[str, str]
    fire: Sequence[str] = ()
    calm: Sequence[str] = ()
    minutes: int = 40


def promtool() -> str:
    """The tool. Skips where there is none; with CI=true that is a failure."""
    found = shutil.which(os.environ.get("NOTIFIER_TEST_PROMTOOL") or "promtool")
    if found is None:
        missing = "no promtool: set NOTIFIER_TEST_PROMTOOL to one, or put promtool on PATH"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    return found


def check_rules(file: Path) -> None:
    """Raise AssertionError unless Prometheus takes the file."""
    _run("check", "rules", "--lint-fatal", str(file))


def check_situations(situations: Sequence[Situation], directory: Path) -> None:
    """Raise AssertionError unless exactly those alerts fire that are said to."""
    file = directory / "situations.json"  # Which is YAML, too.
    tests = [_test(situation) for situation in situations]
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    _run("test", "rules", str(file))


def _test(situation: Situation) -> object:
    at = f"{situation.minutes}m"
    firing = [
        {"expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) > 0 and vector(1)', "eval_time": at}
        | {"exp_samples": [{"labels": "{}", "value": 1}]}
        for name in situation.fire
    ]
    calm = [
        {"expr": f'ALERTS{{alertname="{name}", alertstate="firing"}}', "eval_time": at, "exp_samples": []}
        for name in situation.calm
    ]
    series = [{"series": name, "values": values} for name, values in situation.series.items()]
    return {"interval": "1m", "input_series": series, "promql_expr_test": [*firing, *calm]}


def _run(*arguments: str) -> None:
    ended = subprocess.run([promtool(), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
