"""Dashboard and alerts over what a replica really shows: well, and with its broker cut off."""

import asyncio
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import yaml  # type: ignore[import-untyped]

from notifier.telemetry.catalogue import FAMILIES
from tests.service.conftest import StartReplica
from tests.tcp_proxy import TcpProxy
from tests.telemetry.dashboard import expressions
from tests.telemetry.expressions import unknown
from tests.telemetry.promtool import RULES, Situation, check_situations
from tests.telemetry.scrape import Scrape, scrape

ALERTS = {rule["alert"]: rule["expr"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
MINUTES = 40


async def test_dashboard_and_alerts_hold_good_for_a_replica_and_tell_of_its_broker(
    amqp_url: str, start_replica: StartReplica, tmp_path: Path
) -> None:
    parts = urlsplit(amqp_url)
    async with TcpProxy(parts.hostname or "", parts.port or 5672) as proxy:
        prefix = f"s{uuid.uuid4().hex[:8]}"
        settings = {"JOURNAL__URL": proxy.url(amqp_url), "BROKER__PREFIX": prefix}
        replica = await asyncio.to_thread(start_replica, **settings)  # The proxy is on this event loop.
        well = await scrape(replica)
        while not well.value("notifier_queue_consuming"):
            well = await scrape(replica)
        proxy.cut()
        lost = well
        heard = ("notifier_journal_writable", "notifier_queue_consuming", "notifier_control_following")
        while any(lost.value(name) for name in heard):
            lost = await scrape(replica)

    problems = {text: unknown(text, labels_of(well)) for text in [*ALERTS.values(), *expressions()]}
    assert {text: found for text, found in problems.items() if found} == {}
    told = ["NotifierJournalUnreachable", "NotifierQueueNotConsumed", "NotifierRevocationsUnheard"]
    check_situations(
        [
            Situation(well.lasting(MINUTES), calm=list(ALERTS)),
            Situation(lost.lasting(MINUTES), fire=told, calm=[name for name in ALERTS if name not in told]),
        ],
        tmp_path,
    )


def labels_of(page: Scrape) -> dict[str, set[str]]:
    """What the page shows; a counter that has counted nothing yet has only its name there, and its labels elsewhere."""
    shown = {name: set(labels) for name, labels in page.labels.items()}
    for family in FAMILIES.values():
        is_shown = family.name in page.families or family.name.removesuffix("_total") in page.families
        if is_shown or family.part == "counts":  # There is no Redis here.
            for suffix in ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",):
                shown.setdefault(family.name + suffix, set()).update(family.labels)
                if suffix == "_bucket":
                    shown[family.name + suffix].add("le")
    return shown


def test_what_nobody_shows_is_found_out() -> None:
    """The check can fail."""
    shown = {"notifier_sessions": set[str](), "notifier_refused_total": {"door", "reason"}}

    assert unknown('sum by (door) (rate(notifier_refused_total{reason="x", job="y"}[5m]))', shown) == []
    assert unknown("notifier_session", shown) == ["notifier_session"]
    assert unknown('notifier_sessions{tenant="x"}', shown) == ["notifier_sessions{tenant}"]
    assert unknown("sum by (tenant) (notifier_sessions)", shown) == ["by (tenant)"]
