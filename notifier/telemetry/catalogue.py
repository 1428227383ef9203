"""Every metric of the service, by the name under which Prometheus finds it. `docs/metrics.md` is made of this.

Labels have few values: `reason` and `result` are codes that stand in the code, a route is one of the service's, and a
method that HTTP does not know is `other`. No label holds a tenant, a user, a topic or an address;
`issuer` is one that the settings name.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]
Part = Literal["always", "canary", "journal", "queue", "counts", "traces"]


class Family(NamedTuple):
    """A metric. `part`: of every replica, or only with canaries, a journal on RabbitMQ, a request queue or traces."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    part: Part = "always"


_FAMILIES: Final = (
    Family("notifier_build_info", "gauge", "1; the labels say what runs.", ("version", "python", "journal")),
    Family("notifier_ready", "gauge", "1 while /readyz says that clients may come."),
    Family("notifier_draining", "gauge", "1 from the signal that ends the process."),
    Family("notifier_memory_limit_bytes", "gauge", "What the control group allows; +Inf without a limit."),
    Family("notifier_tasks", "gauge", "Tasks of the event loop."),
    Family(
        "notifier_loop_lag_seconds", "histogram", "How late a callback is that was due; looked at four times a second."
    ),
    Family("notifier_reloads_total", "counter", "Times SIGHUP had settings read anew, by the result.", ("result",)),
    # The keys of issuers that publish them.
    Family(
        "notifier_jwks_fetches_total",
        "counter",
        "Fetches of an issuer's keys: changed, unchanged, failed (nothing came), refused (what came is not taken).",
        ("issuer", "result"),
    ),
    Family(
        "notifier_jwks_age_seconds",
        "gauge",
        "Since the keys in force were fetched; +Inf without any.",
        ("issuer",),
    ),
    Family("notifier_jwks_keys", "gauge", "Keys of an issuer that tokens may be signed with.", ("issuer",)),
    # What comes in.
    Family("notifier_accepted_total", "counter", "Notifications that the journal took from here, by door.", ("door",)),
    Family(
        "notifier_refused_total",
        "counter",
        "Requests, items of a batch and messages that were refused, by the code of the problem.",
        ("door", "reason"),
    ),
    Family("notifier_repeats_total", "counter", "Notifications dropped since their idempotency key was used before."),
    Family(
        "notifier_http_request_seconds",
        "histogram",
        "Time to answer an HTTP request.",
        ("method", "route", "status"),
    ),
    Family("notifier_journal_append_seconds", "histogram", "Until the journal has confirmed what was appended."),
    Family(
        "notifier_journal_appends_refused_total", "counter", "Appends that the journal did not take, or not in time."
    ),
    # What goes out.
    Family(
        "notifier_journal_lag_seconds",
        "histogram",
        "From the acceptance of a notification, on any replica, until this one read it: one look per record.",
    ),
    Family(
        "notifier_delivery_seconds",
        "histogram",
        "From the acceptance of a notification (the POST, or its message being taken from the queue) until all live "
        "sessions here have it written.",
    ),
    Family("notifier_deliveries_total", "counter", "Notification frames written to sessions."),
    Family(
        "notifier_unreached_total",
        "counter",
        "Notifications that were for no session of this replica when it read them; who comes later may still get them.",
    ),
    Family("notifier_dropped_total", "counter", "Notifications that had expired before they were read."),
    # Proof of life, unless NOTIFIER_OPERATIONS__CANARY_SECONDS is 0.
    Family(
        "notifier_canary_round_trip_seconds",
        "histogram",
        "From a replica through the journal and the hub back to itself: a canary each few seconds.",
        part="canary",
    ),
    Family(
        "notifier_canary_missed_total", "counter", "Canaries that were not back when the next was due.", part="canary"
    ),
    Family(
        "notifier_canary_rebuilds_total",
        "counter",
        "Times that missing canaries had the journal read anew.",
        part="canary",
    ),
    Family(
        "notifier_canary_missing", "gauge", "1 while so many are missing that the replica is not ready.", part="canary"
    ),
    # Sessions.
    Family("notifier_sessions", "gauge", "Sessions open now."),
    Family("notifier_sessions_limit", "gauge", "Sessions that this replica takes at most."),
    Family(
        "notifier_sessions_behind", "gauge", "Sessions that are a cursor now: they resume, or take less than comes."
    ),
    Family("notifier_fallen_behind_total", "counter", "Times a live session could not take a delivery."),
    Family(
        "notifier_sessions_closed_total",
        "counter",
        "Sessions ended from this side: fell_behind, drain, rebalance, token_expired, token_invalid, another_user, "
        "token_revoked, superseded, shutdown, silent.",
        ("reason",),
    ),
    Family(
        "notifier_handshakes_total",
        "counter",
        "Requests for a session (websocket, sse): admitted, client_gone, or the code of the refusal.",
        ("transport", "result"),
    ),
    Family(
        "notifier_resumes_total",
        "counter",
        "Admitted sessions: new, resumed, or reset for a reason.",
        ("outcome", "reason"),
    ),
    # Limits.
    Family(
        "notifier_limited_total",
        "counter",
        "Refusals by the limit: address, send, batch, broadcast, tenant (also what has to wait in the queue); "
        "of handshakes: address_handshakes, handshakes, process, loop_lag, memory; sessions_user, sessions_tenant, "
        "sessions_address.",
        ("limit",),
    ),
    Family(
        "notifier_sessions_evicted_total",
        "counter",
        "Sessions closed for a newer one, by the limit; shared: as all replicas count.",
        ("limit",),
    ),
    Family("notifier_shared_counts_reached", "gauge", "1 while Redis counts for all replicas.", part="counts"),
    Family("notifier_shared_counts_lost_total", "counter", "Times that it did not answer in time.", part="counts"),
    # The window.
    Family("notifier_window_entries", "gauge", "Notifications that can be replayed."),
    Family("notifier_window_bytes", "gauge", "Their sealed bytes."),
    Family("notifier_window_age_seconds", "gauge", "Age of the oldest of them; 0 for none."),
    Family(
        "notifier_window_evictions_total",
        "counter",
        "Notifications that left the window: age is the rule, size is before their time.",
        ("reason",),
    ),
    # Revocations.
    Family("notifier_revocations_held", "gauge", "Revocations that hold now."),
    Family(
        "notifier_revocations_total",
        "counter",
        "Revocations taken in, from whichever replica: of a token, a user, everyone of a tenant.",
        ("by",),
    ),
    Family(
        "notifier_control_skipped_records_total",
        "counter",
        "Control records of a kind that this version does not know, or that say nothing that can be read.",
    ),
    Family("notifier_control_following", "gauge", "1 while control records can be read.", part="journal"),
    Family(
        "notifier_control_connections_lost_total", "counter", "Connections to the broker that failed.", part="journal"
    ),
    Family(
        "notifier_control_skipped_messages_total",
        "counter",
        "Messages of the control stream passed over because they cannot be decoded, or break the connection.",
        part="journal",
    ),
    # The journal on RabbitMQ.
    Family("notifier_journal_writable", "gauge", "1 while records can be published.", part="journal"),
    Family("notifier_journal_following", "gauge", "1 while records can be read.", part="journal"),
    Family("notifier_journal_blocked", "gauge", "1 while an alarm of the broker blocks us.", part="journal"),
    Family("notifier_journal_deaf", "gauge", "1 while nothing is heard though the broker is there.", part="journal"),
    Family(
        "notifier_journal_silent_seconds",
        "gauge",
        "Since the last record was read; every replica ticks each five seconds.",
        part="journal",
    ),
    Family(
        "notifier_journal_epoch_changes_total",
        "counter",
        "Times that another stream took the place of the one before; 1 at the start.",
        part="journal",
    ),
    Family(
        "notifier_journal_connections_lost_total", "counter", "Connections to the broker that failed.", part="journal"
    ),
    Family(
        "notifier_journal_skipped_records_total",
        "counter",
        "Records passed over because they cannot be decoded, or break the connection.",
        part="journal",
    ),
    Family(
        "notifier_journal_skipped_items_total", "counter", "Items and header names of a newer version.", part="journal"
    ),
    # The queue of requests.
    Family(
        "notifier_queue_consuming",
        "gauge",
        "1 while requests are asked for; with one active consumer, of all.",
        part="queue",
    ),
    Family("notifier_queue_accepted_total", "counter", "Messages sent on.", part="queue"),
    Family("notifier_queue_held", "gauge", "Messages set aside while their tenant is over its limit.", part="queue"),
    Family(
        "notifier_queue_dead_lettered_total", "counter", "Messages given up because of what they say.", part="queue"
    ),
    Family("notifier_queue_connections_lost_total", "counter", "Connections to the broker that failed.", part="queue"),
    # Traces.
    Family(
        "notifier_spans_ended_total",
        "counter",
        "Spans to export; what is neither exported nor lost waits, or was dropped by a full queue.",
        part="traces",
    ),
    Family("notifier_spans_exported_total", "counter", "Spans that a collector has taken.", part="traces"),
    Family(
        "notifier_spans_lost_total",
        "counter",
        "Spans that were sent in vain, and ones that were never made since too many waited for it.",
        part="traces",
    ),
)

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({family.name: family for family in _FAMILIES})
