"""The dashboard: its queries are PromQL, it leaves no metric out, and its panels stand beside each other."""

import json
from itertools import combinations
from pathlib import Path

from notifier.telemetry.catalogue import FAMILIES
from tests.telemetry.dashboard import BOARD, PANELS, expressions
from tests.telemetry.expressions import selected
from tests.telemetry.promtool import check_rules


def test_prometheus_takes_each_query(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(expressions())]
    file = tmp_path / "queries.json"  # Which is YAML, too.
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))

    check_rules(file)


def test_every_metric_has_its_place() -> None:
    """Traces tell of themselves where they are looked at."""
    shown = {used.name for expression in expressions() for used in selected(expression)}

    missing = [
        family.name
        for family in FAMILIES.values()
        if family.part != "traces" and not any(name.startswith(family.name) for name in shown)
    ]
    assert missing == []


def test_panels_have_ids_of_their_own_and_do_not_cover_each_other() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


def test_where_the_data_comes_from_is_the_viewers_choice() -> None:
    names = {variable["name"] for variable in BOARD["templating"]["list"]}

    assert names == {"datasource", "job", "instance"}
    for panel in PANELS:
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel.get("targets", ()))
