"""What is counted, and the way Prometheus reads it. The names are in the catalogue."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from notifier.core.durations import Durations
from notifier.telemetry.catalogue import FAMILIES, Family

Value = float | Durations
Reading = Callable[[], Value | Mapping[tuple[str, ...], Value]]
"""A number that its owner keeps anyway, or several by the values of the labels. Read when Prometheus asks, so that the
hot path pays nothing for it."""

REQUEST_BOUNDS_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 4)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """The metrics of one process, in a registry of its own."""

    content_type: Final = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._requests: dict[tuple[str, ...], Durations] = {}
        self._handshakes: Counter[tuple[str, ...]] = Counter()
        self._refused: Counter[tuple[str, ...]] = Counter()
        self._reloads: dict[tuple[str, ...], int] = {("taken",): 0, ("refused",): 0}
        self.watch(
            {
                "notifier_http_request_seconds": lambda: self._requests,
                "notifier_handshakes_total": lambda: self._handshakes,
                "notifier_reloads_total": lambda: self._reloads,
            }
        )

    def observe_request(self, method: str, route: str, status: int, seconds: float, code: str | None) -> None:
        """Count one HTTP request. `route` is the path of the route, empty when none matched; `code` is of a refusal."""
        # A method is the client's free choice: only known ones become labels.
        labels = (method if method in _METHODS else "other", route or "none", str(status))
        durations = self._requests.get(labels)
        if durations is None:
            durations = self._requests[labels] = Durations(REQUEST_BOUNDS_SECONDS)
        durations.note(seconds)
        if code is not None:
            self.count_refusal(code)

    def count_refusal(self, code: str) -> None:
        """Count something that the HTTP door refused, by the code of the problem."""
        self._refused["http", code] += 1

    def refusals(self) -> Mapping[tuple[str, ...], int]:
        """What was refused at the HTTP door, by door and code."""
        return self._refused

    def count_handshake(self, transport: str, result: str) -> None:
        """Count one handshake, by transport; `result` is `admitted` or the code of the refusal."""
        self._handshakes[transport, result] += 1

    def count_reload(self, result: str) -> None:
        """Count settings that were read anew; `result` is `taken` or `refused`."""
        self._reloads[(result,)] += 1

    def watch(self, readings: Mapping[str, Reading]) -> None:
        """Add numbers that others keep, by metric name. Raises KeyError for a name that the catalogue does not have."""
        self._registry.register(_Readings({FAMILIES[name]: read for name, read in readings.items()}))

    def render(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _Readings(Collector):
    def __init__(self, readings: Mapping[Family, Reading]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        for family, read in self._readings.items():
            value = read()
            yield _metric(family, value if isinstance(value, Mapping) else {(): value})


def _metric(family: Family, values: Mapping[tuple[str, ...], Value]) -> Metric:
    metric: CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
    if family.kind == "histogram":
        metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    elif family.kind == "counter":
        metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
    else:
        metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for labels, value in values.items():
        if isinstance(value, Durations):
            assert isinstance(metric, HistogramMetricFamily)
            metric.add_metric(labels, _buckets(value), value.total_seconds)
        else:
            assert not isinstance(metric, HistogramMetricFamily)
            metric.add_metric(labels, value)
    return metric


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    """How many took up to each bound, as Prometheus has it: each bucket holds those before it."""
    bounds = [*(str(float(bound)) for bound in durations.bounds), "+Inf"]
    return list(zip(bounds, accumulate(durations.counts), strict=True))
