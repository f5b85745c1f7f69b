"""What the service counts: Prometheus metrics by the contract's names, and the recent past for ``GET
/v1/stats``."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
PHASES = ("decode", "queue", "observe", "high_plan", "low_plan", "imagine", "store", "encode")
"""the phases of ``thick_phase_seconds``"""
RECENT = 512
"""samples of each figure kept for ``GET /v1/stats``"""


class Metrics:
    """All counters of one server, in a registry of their own (several servers may share a process in
    tests)."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.requests = Counter(
            "thick_requests", "Requests answered", ["route", "status"], registry=registry
        )  # exposed as thick_requests_total
        self.request_seconds = Histogram(
            "thick_request_seconds", "Time to answer a request", ["route"], buckets=SECONDS, registry=registry
        )
        self.phase_seconds = Histogram(
            "thick_phase_seconds",
            "Time in each phase of acting",
            ["phase"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "thick_batch_size",
            "Acts observed together",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )
        self.queue_depth = Gauge("thick_queue_depth", "Acts that wait for their turn", registry=registry)
        self.sessions = Gauge("thick_sessions", "Live sessions", registry=registry)
        self.plan_budget_ratio = Histogram(
            "thick_plan_budget_ratio",
            "Share of the asked search that was done before the deadline",
            buckets=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.999, 1.0),
            registry=registry,
        )
        self.model_loaded = Gauge(
            "thick_model_loaded",
            "Whether a model is loaded and ready",
            ["model", "version"],
            registry=registry,
        )
        self.started = time.time()
        self._lock = threading.Lock()
        self._recent: dict[str, deque[float]] = {}
        self._counts: dict[str, int] = {}
        self._phases = {name: self.phase_seconds.labels(name) for name in PHASES}

    def request(self, route: str, status: int | str, seconds: float) -> None:
        """Count one answered request; ``route`` is the template (``/v1/sessions/{session_id}/act``)."""
        self.requests.labels(route, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)
        with self._lock:
            name = f"{route} {status}"
            self._counts[name] = self._counts.get(name, 0) + 1
        self._remember(f"request {route}", seconds)

    def phase(self, name: str, seconds: float) -> None:
        """Count the time that one phase took, one of :data:`PHASES`."""
        self._phases[name].observe(seconds)
        self._remember(f"phase {name}", seconds)

    def batch(self, size: int) -> None:
        """Count a batch of acts."""
        self.batch_size.observe(size)
        self._remember("batch", size)

    def budget(self, ratio: float) -> None:
        """Count the share of its search that an act got."""
        self.plan_budget_ratio.observe(ratio)
        self._remember("budget", ratio)

    def exposition(self) -> bytes:
        """The Prometheus text format, version 0.0.4."""
        return generate_latest(self._registry)

    def summary(self) -> dict[str, Any]:
        """Counts, and quantiles over the recent past, for people."""
        with self._lock:
            recent = {name: sorted(values) for name, values in self._recent.items()}
            counts = dict(self._counts)

        def described(prefix: str) -> dict[str, Any]:
            return {
                name.removeprefix(prefix + " "): {
                    "p50_ms": round(1e3 * _quantile(values, 0.5), 3),
                    "p95_ms": round(1e3 * _quantile(values, 0.95), 3),
                    "p99_ms": round(1e3 * _quantile(values, 0.99), 3),
                }
                for name, values in sorted(recent.items())
                if name.startswith(prefix + " ")
            }

        batches, budgets = recent.get("batch", []), recent.get("budget", [])
        return {
            "uptime_s": round(time.time() - self.started, 1),
            "requests": dict(sorted(counts.items())),
            "latency": described("request"),
            "phases": described("phase"),
            "batch_size": {"mean": round(sum(batches) / len(batches), 2), "largest": batches[-1]}
            if batches
            else None,
            "budget_ratio": {"mean": round(sum(budgets) / len(budgets), 3), "smallest": budgets[0]}
            if budgets
            else None,
        }

    def _remember(self, name: str, value: float) -> None:
        with self._lock:
            values = self._recent.get(name)
            if values is None:
                values = self._recent[name] = deque(maxlen=RECENT)
            values.append(value)


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
