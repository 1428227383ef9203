"""The alert rules: each fires when it should and not before, and its runbook says what to do."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.telemetry.alert_cases import CASES
from tests.telemetry.promtool import RULES, Situation, check_rules, check_situations

ROOT = Path(__file__).parents[2]
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}
RUNBOOK = (ROOT / "docs" / "alerts.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))


def test_prometheus_takes_the_rules() -> None:
    check_rules(RULES)


def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    situations = [Situation(case.firing, fire=[name]) for name, case in CASES.items()]
    situations += [Situation(case.calm, calm=[name]) for name, case in CASES.items()]

    check_situations(situations, tmp_path)


def test_a_situation_that_is_told_wrong_is_found_out(tmp_path: Path) -> None:
    """The check can fail, in both directions."""
    case = CASES["NotifierDeaf"]

    for wrong in (Situation(case.calm, fire=["NotifierDeaf"]), Situation(case.firing, calm=["NotifierDeaf"])):
        with pytest.raises(AssertionError, match="FAILED"):
            check_situations([wrong], tmp_path)


def test_there_is_a_case_for_each_alert() -> None:
    assert CASES.keys() == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_whom_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]

    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert all(text.strip().endswith(".") for key, text in rule["annotations"].items() if key != "runbook_url")
    # From the root of the repository, and the heading's anchor as GitHub makes it.
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{name.lower()}"


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    assert list(SECTIONS) == list(ALERTS)
    for name, text in SECTIONS.items():
        assert all(f"**{part}.**" in text for part in ("Means", "Look", "Do")), name
