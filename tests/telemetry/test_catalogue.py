"""The names of the metrics: by Prometheus' conventions, and all of them in the docs."""

import re

import pytest

from notifier.telemetry.catalogue import FAMILIES, Family
from notifier.telemetry.metrics import Metrics
from scripts.write_metrics_page import PAGE, page

UNITS = ("_seconds", "_bytes", "_info")


def test_the_page_is_the_one_that_the_catalogue_makes() -> None:
    """`make metrics` writes it."""
    assert PAGE.read_text() == page()


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_a_name_follows_the_conventions(family: Family) -> None:
    """https://prometheus.io/docs/practices/naming/"""
    assert re.fullmatch(r"notifier_[a-z]+(_[a-z]+)*", family.name)
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert family.kind != "histogram" or family.name.endswith(UNITS)
    assert all(re.fullmatch(r"[a-z]+", label) and label not in ("le", "job", "instance") for label in family.labels)
    assert family.help.endswith(".")


def test_a_name_that_is_not_in_the_catalogue_is_refused() -> None:
    with pytest.raises(KeyError):
        Metrics().watch({"notifier_unheard_of": lambda: 1})
