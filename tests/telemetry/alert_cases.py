"""For each alert the series over which it fires, and the nearest ones over which it does not."""

from collections.abc import Mapping
from typing import NamedTuple

HERE = 'job="notifier", instance="a"'
UP = {f"notifier_build_info{{{HERE}}}": "1x40"}
Series = Mapping[str, str]


class Case(NamedTuple):
    firing: Series
    calm: Series


def _one(name: str, values: str, labels: str = "") -> dict[str, str]:
    return {f"{name}{{{HERE}{labels and ', ' + labels}}}": values}


def _gauge(name: str, bad: float, good: float) -> Case:
    return Case(_one(name, f"{bad}x40"), _one(name, f"{good}x40"))


def _rate(name: str, *, bad: float, good: float = 0, labels: str = "") -> Case:
    """A counter that grows so much a minute."""
    return Case(_one(name, f"0+{bad}x40", labels), _one(name, f"0+{good}x40", labels))


def _spread(name: str, *, under: str, over: str) -> Case:
    """A histogram with ten looks a minute: all at most `under` seconds, or one in ten over it and up to `over`."""

    def buckets(low: int) -> dict[str, str]:
        counts = {under: low, over: 10, "+Inf": 10}
        return {
            key: value
            for le, n in counts.items()
            for key, value in _one(f"{name}_bucket", f"0+{n}x40", f'le="{le}"').items()
        }

    return Case(buckets(9), buckets(10))


def _share(name: str, part: str, rest: str, *, bad: tuple[int, int], good: tuple[int, int]) -> Case:
    """Two series of one counter that grow so much a minute each."""

    def grow(pair: tuple[int, int]) -> dict[str, str]:
        return _one(name, f"0+{pair[0]}x40", part) | _one(name, f"0+{pair[1]}x40", rest)

    return Case(grow(bad), grow(good))


def _ratio(part: str, whole: str, *, bad: float, good: float) -> Case:
    """Two gauges, the second one 100."""
    rest = _one(whole, "100x40") | UP
    return Case(_one(part, f"{bad}x40") | rest, _one(part, f"{good}x40") | rest)


CASES: Mapping[str, Case] = {
    "NotifierAbsent": Case({"up": "1x40"}, UP),
    "NotifierNotReady": Case(
        _one("notifier_ready", "0x40") | _one("notifier_draining", "0x40"),
        _one("notifier_ready", "0x40") | _one("notifier_draining", "1x40"),
    ),
    "NotifierRestarts": Case(
        _one("process_start_time_seconds", "100x20 200x5 300x5 400x10") | UP,
        _one("process_start_time_seconds", "100x20 200x20") | UP,
    ),
    "NotifierDrainStuck": Case(_one("notifier_draining", "1x40"), _one("notifier_draining", "0x34 1x6")),
    "NotifierReloadRefused": Case(
        _one("notifier_reloads_total", "0x35 1x5", 'result="refused"'),
        _one("notifier_reloads_total", "0x35 1x5", 'result="taken"'),
    ),
    "NotifierKeysMissing": Case(
        _one("notifier_jwks_keys", "0x40", 'issuer="i"'), _one("notifier_jwks_keys", "1x40", 'issuer="i"')
    ),
    "NotifierKeysStale": Case(
        _one("notifier_jwks_age_seconds", "0+300x40", 'issuer="i"') | _one("notifier_jwks_keys", "1x40", 'issuer="i"'),
        _one("notifier_jwks_age_seconds", "600x40", 'issuer="i"') | _one("notifier_jwks_keys", "1x40", 'issuer="i"'),
    ),
    "NotifierErrors": _share(
        "notifier_http_request_seconds_count", 'status="503"', 'status="202"', bad=(2, 98), good=(0, 100)
    ),
    "NotifierCallersLimited": _rate(
        "notifier_refused_total", bad=120, good=30, labels='door="http", reason="rate_limited"'
    ),
    "NotifierJournalUnreachable": Case(
        _one("notifier_journal_writable", "1x40") | _one("notifier_journal_following", "0x40"),
        _one("notifier_journal_writable", "1x40") | _one("notifier_journal_following", "1x40"),
    ),
    "NotifierJournalBlocked": _gauge("notifier_journal_blocked", 1, 0),
    "NotifierDeaf": _gauge("notifier_journal_deaf", 1, 0),
    "NotifierCanaryMissing": _gauge("notifier_canary_missing", 1, 0),
    "NotifierRevocationsUnheard": _gauge("notifier_control_following", 0, 1),
    "NotifierJournalLag": _spread("notifier_journal_lag_seconds", under="1.0", over="2.5"),
    "NotifierAppendSlow": _spread("notifier_journal_append_seconds", under="0.5", over="1.0"),
    "NotifierAppendsRefused": _rate("notifier_journal_appends_refused_total", bad=1),
    "NotifierRecordsSkipped": Case(
        _one("notifier_journal_skipped_records_total", "0x35 1x5"),
        _one("notifier_journal_skipped_records_total", "1x40"),
    ),
    "NotifierDeliverySlow": _spread("notifier_delivery_seconds", under="1.0", over="2.5"),
    "NotifierLoopLag": _spread("notifier_loop_lag_seconds", under="0.1", over="0.25"),
    "NotifierResetStorm": _share(
        "notifier_resumes_total",
        'outcome="reset", reason="epoch_changed"',
        'outcome="resumed", reason=""',
        bad=(120, 10),
        good=(120, 600),
    ),
    "NotifierSlowClientsClosed": _rate("notifier_sessions_closed_total", bad=30, good=2, labels='reason="fell_behind"'),
    "NotifierSessionsBehind": _ratio("notifier_sessions_behind", "notifier_sessions", bad=30, good=9),
    "NotifierSessionsFull": _ratio("notifier_sessions", "notifier_sessions_limit", bad=95, good=80),
    "NotifierHandshakesRefused": _share(
        "notifier_handshakes_total", 'result="token_invalid"', 'result="admitted"', bad=(120, 10), good=(120, 600)
    ),
    "NotifierShedding": _rate("notifier_limited_total", bad=60, labels='limit="loop_lag"'),
    "NotifierSharedCountsLost": _gauge("notifier_shared_counts_reached", 0, 1),
    "NotifierWindowShort": _rate("notifier_window_evictions_total", bad=1, labels='reason="size"'),
    "NotifierQueueNotConsumed": Case(
        _one("notifier_queue_consuming", "0x40"),
        _one("notifier_queue_consuming", "0x40") | {'notifier_queue_consuming{job="notifier", instance="b"}': "1x40"},
    ),
    "NotifierDeadLetters": Case(
        _one("notifier_queue_dead_lettered_total", "0x35 3x5"), _one("notifier_queue_dead_lettered_total", "3x40")
    ),
    "NotifierDescriptors": _ratio("process_open_fds", "process_max_fds", bad=90, good=70),
    "NotifierMemory": _ratio("process_resident_memory_bytes", "notifier_memory_limit_bytes", bad=95, good=70),
}
