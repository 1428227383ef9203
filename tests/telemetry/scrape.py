"""A page of `/metrics`, read as Prometheus reads it."""

import json
from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.replica import Replica

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
TARGET = (("job", "notifier"), ("instance", "a"))


class Scrape:
    """One page: its samples, and the labels of each name."""

    def __init__(self, page: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(page)}
        samples = [sample for family in self.families.values() for sample in family.samples]
        self.samples: Samples = {(each.name, frozenset(each.labels.items())): each.value for each in samples}
        self.labels: dict[str, set[str]] = {}
        for each in samples:
            self.labels.setdefault(each.name, set()).update(each.labels)

    def value(self, name: str, **labels: str) -> float:
        """The sample with exactly these labels."""
        return self.samples[name, frozenset(labels.items())]

    def lasting(self, minutes: int) -> dict[str, str]:
        """The series that Prometheus has when it reads this page once a minute, for promtool."""
        series = {}
        for (name, labels), value in self.samples.items():
            inside = ", ".join(f"{label}={json.dumps(text)}" for label, text in sorted([*labels, *TARGET]))
            series[f"{name}{{{inside}}}"] = " ".join([repr(value)] * (minutes + 1))  # Its `x` knows no infinity.
        return series


async def scrape(replica: Replica) -> Scrape:
    """The page of this moment."""
    async with httpx.AsyncClient(base_url=replica.operations_url, verify=False) as operator:
        return Scrape((await operator.get("/metrics")).raise_for_status().text)
