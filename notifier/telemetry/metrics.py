"""What is counted: the names, in one place, and the way Prometheus reads them."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector


class Reading(NamedTuple):
    """A number that its owner keeps anyway, read when Prometheus asks, so that the hot path pays nothing for it."""

    help: str
    read: Callable[[], float]
    is_counter: bool = False


class Metrics:
    """The counters of one process, in a registry of its own."""

    content_type: Final = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._requests = Histogram(
            "notifier_http_request_seconds",
            "Time to answer an HTTP request.",
            ["method", "route", "status"],
            registry=self._registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 4),
        )
        self._series = lru_cache(maxsize=256)(self._requests.labels)  # Finding one takes as long as observing twice.
        self._handshakes = Counter(
            "notifier_handshakes", "WebSocket handshakes, by how they ended.", ["result"], registry=self._registry
        )
        self._reloads = Counter(
            "notifier_reloads",
            "Times SIGHUP had settings read anew, by the result.",
            ["result"],
            registry=self._registry,
        )
        for result in ("taken", "refused"):
            self._reloads.labels(result)

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one HTTP request. `route` is the path of the route, empty when none matched."""
        # A method is the client's free choice: only known ones become labels.
        known = method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
        self._series(known, route or "none", str(status)).observe(seconds)

    def count_handshake(self, result: str) -> None:
        """Count one handshake; `result` is `admitted` or the code of the refusal."""
        self._handshakes.labels(result).inc()

    def count_reload(self, result: str) -> None:
        """Count settings that were read anew; `result` is `taken` or `refused`."""
        self._reloads.labels(result).inc()

    def watch(self, readings: Mapping[str, Reading]) -> None:
        """Add numbers that others keep, by metric name."""
        self._registry.register(_Readings(readings))

    def render(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _Readings(Collector):
    def __init__(self, readings: Mapping[str, Reading]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        for name, reading in self._readings.items():
            family = CounterMetricFamily if reading.is_counter else GaugeMetricFamily
            yield family(name, reading.help, value=reading.read())
