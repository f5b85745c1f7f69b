"""What the service counts: Prometheus metrics by the contract's names, and the recent past for ``GET
/v1/stats``."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.999, 1.0)
PHASES = (
    "decode",
    "queue",
    "observe",
    "high_plan",
    "low_plan",
    "imagine",
    "dream",
    "ponder",
    "store",
    "encode",
)
"""the phases of ``thick_phase_seconds``"""
RECENT = 512
"""samples of each figure kept for ``GET /v1/stats``"""


class Distribution:
    """Samples of one figure: counted in buckets for Prometheus, the latest kept for ``GET /v1/stats``.

    Every act adds several from different threads: one lock and one search, in place of a histogram of the library
    (a lock for the sum, another for the bucket) and a list of our own next to it.
    """

    __slots__ = ("_bounds", "_buckets", "_lock", "_recent", "_sum", "created")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.created = time.time()
        self._bounds = (*map(float, bounds), float("inf"))
        self._buckets = [0] * len(self._bounds)
        self._sum = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        """One sample."""
        bucket = bisect_left(self._bounds, value)
        with self._lock:
            self._buckets[bucket] += 1
            self._sum += value
            self._recent.append(value)

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """Samples up to each bound, as Prometheus writes them, and the sum of all."""
        with self._lock:
            upto, total = list(accumulate(self._buckets)), self._sum
        return [(floatToGoString(bound), n) for bound, n in zip(self._bounds, upto, strict=True)], total

    def recent(self) -> list[float]:
        """The latest samples, smallest first."""
        with self._lock:
            return sorted(self._recent)


class Distributions(Collector):
    """A histogram of Prometheus: one distribution for each value of its label, or a single one without.

    Args:
        label: its name; None for a single distribution.
    """

    def __init__(
        self, name: str, about: str, bounds: Sequence[float], label: str | None, registry: CollectorRegistry
    ) -> None:
        self._name, self._about, self._bounds, self._label = name, about, bounds, label
        self._known: dict[str, Distribution] = {}
        registry.register(self)

    def of(self, value: str = "") -> Distribution:
        """The distribution of one value of the label."""
        found = self._known.get(value)
        return self._known.setdefault(value, Distribution(self._bounds)) if found is None else found

    def recent(self) -> dict[str, list[float]]:
        """The latest samples by value of the label, of those that have any."""
        return {value: latest for value, each in sorted(self._known.items()) if (latest := each.recent())}

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        family = HistogramMetricFamily(self._name, self._about, labels=[self._label] if self._label else [])
        for value, each in list(self._known.items()):
            family.add_metric([value] if self._label else [], *each.buckets())
            labels = {self._label: value} if self._label else {}
            family.add_sample(f"{self._name}_created", labels, each.created)
        yield family


class Metrics:
    """All counters of one server, in a registry of their own (several servers may share a process in
    tests)."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._requests = Counter(
            "thick_requests", "Requests answered", ["route", "status"], registry=registry
        )  # exposed as thick_requests_total
        self._request_seconds = Distributions(
            "thick_request_seconds", "Time to answer a request", SECONDS, "route", registry
        )
        self._phase_seconds = Distributions(
            "thick_phase_seconds", "Time in each phase of acting", SECONDS, "phase", registry
        )
        self._batch_size = Distributions(
            "thick_batch_size", "Acts observed together", SIZES, None, registry
        ).of()
        self.queue_depth = Gauge("thick_queue_depth", "Acts that wait for their turn", registry=registry)
        self.sessions = Gauge("thick_sessions", "Live sessions", registry=registry)
        self.adoptions = Counter(
            "thick_adoptions", "Sessions taken up from another replica", registry=registry
        )  # exposed as thick_adoptions_total
        self.dreams = Gauge("thick_dreams", "Imagined environments of live dreams", registry=registry)
        self._budget_ratio = Distributions(
            "thick_plan_budget_ratio",
            "Share of the asked search that was done before the deadline",
            SHARES,
            None,
            registry,
        ).of()
        self.model_loaded = Gauge(
            "thick_model_loaded",
            "Whether a model is loaded and ready",
            ["model", "version"],
            registry=registry,
        )
        self.started = time.time()
        self._answered: dict[tuple[str, int | str], tuple[Counter, Distribution]] = {}
        self._phases = {name: self._phase_seconds.of(name) for name in PHASES}

    def request(self, route: str, status: int | str, seconds: float) -> None:
        """Count one answered request; ``route`` is the template (``/v1/sessions/{session_id}/act``)."""
        known = self._answered.get((route, status))
        if known is None:
            known = self._requests.labels(route, str(status)), self._request_seconds.of(route)
            self._answered[route, status] = known
        count, distribution = known
        count.inc()
        distribution.add(seconds)

    def phase(self, name: str, seconds: float) -> None:
        """Count the time that one phase took, one of :data:`PHASES`."""
        self._phases[name].add(seconds)

    def batch(self, size: int) -> None:
        """Count a batch of acts."""
        self._batch_size.add(size)

    def budget(self, ratio: float) -> None:
        """Count the share of its search that an act got."""
        self._budget_ratio.add(ratio)

    def exposition(self) -> bytes:
        """The Prometheus text format, version 0.0.4."""
        return generate_latest(self._registry)

    def summary(self) -> dict[str, Any]:
        """Counts, and quantiles over the recent past, for people."""
        counts = {
            f"{sample.labels['route']} {sample.labels['status']}": int(sample.value)
            for family in self._requests.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        }
        batches, budgets = self._batch_size.recent(), self._budget_ratio.recent()
        return {
            "uptime_s": round(time.time() - self.started, 1),
            "requests": dict(sorted(counts.items())),
            "latency": _described(self._request_seconds),
            "phases": _described(self._phase_seconds),
            "batch_size": {"mean": round(sum(batches) / len(batches), 2), "largest": batches[-1]}
            if batches
            else None,
            "budget_ratio": {"mean": round(sum(budgets) / len(budgets), 3), "smallest": budgets[0]}
            if budgets
            else None,
        }


def _described(times: Distributions) -> dict[str, Any]:
    return {
        value: {
            "p50_ms": round(1e3 * _quantile(latest, 0.5), 3),
            "p95_ms": round(1e3 * _quantile(latest, 0.95), 3),
            "p99_ms": round(1e3 * _quantile(latest, 0.99), 3),
        }
        for value, latest in times.recent().items()
    }


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
