"""The Grafana dashboard, as far as it can be judged without Grafana."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "helm" / "notifier" / "files" / "dashboard.json"
BOARD: Mapping[str, Any] = json.loads(FILE.read_text())
PANELS: Sequence[Mapping[str, Any]] = BOARD["panels"]


def expressions() -> Iterator[str]:
    """Each query, with something for the variables that Grafana would put in."""
    for panel in PANELS:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "5m").replace("$job", ".*").replace("$instance", ".*")
