"""Measuring: windows of load, taken from one server after the other, round after round, so that whatever else
the machine does falls on all of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from benchmarks.serving.load import Target, press
from benchmarks.serving.servers import Bare, Server


@dataclass
class Row:
    """Everything that was seen of one target in one cell (model, method, clients)."""

    target: str
    model: str
    method: str
    clients: int
    latencies: list[float] = field(default_factory=list)
    """s"""
    seconds: float = 0.0
    answered: int = 0
    server_cpu_s: float = 0.0
    client_cpu_s: float = 0.0
    other_cpu_s: float = 0.0
    """of programs that have nothing to do with the measurement"""
    elapsed_s: float = 0.0
    failures: list[str] = field(default_factory=list)
    work_s: float = 0.0
    """of each act: what the model takes, or what stands for it; the rest is the server's"""

    @property
    def rate(self) -> float:
        """Acts a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def quantile_ms(self, share: float) -> float:
        """Latency below which this share of the acts stayed, ms."""
        if not self.latencies:
            return float("nan")
        ordered = sorted(self.latencies)
        return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def added_ms(self) -> float:
        """What the server adds to its work, p50, ms."""
        return self.quantile_ms(0.5) - 1e3 * self.work_s

    @property
    def server_cpu_ms(self) -> float:
        """CPU time of the server for one act, ms: depends little on what else the machine does."""
        return 1e3 * self.server_cpu_s / self.answered if self.answered else float("nan")

    @property
    def client_cpu_ms(self) -> float:
        """CPU time of the load generator for one act, ms."""
        return 1e3 * self.client_cpu_s / self.answered if self.answered else float("nan")

    @property
    def others(self) -> float:
        """Share of the machine that other programs took meanwhile."""
        cores = psutil.cpu_count() or 1
        return max(0.0, self.other_cpu_s) / (self.elapsed_s * cores) if self.elapsed_s else 0.0

    def to_json(self) -> dict[str, Any]:
        """The figures, without the single latencies."""
        return {
            "target": self.target,
            "model": self.model,
            "method": self.method,
            "clients": self.clients,
            "acts": len(self.latencies),
            "acts_per_s": round(self.rate, 1),
            "p50_ms": round(self.quantile_ms(0.50), 3),
            "p95_ms": round(self.quantile_ms(0.95), 3),
            "p99_ms": round(self.quantile_ms(0.99), 3),
            "work_ms": round(1e3 * self.work_s, 3),
            "server_cpu_ms_per_act": round(self.server_cpu_ms, 3),
            "client_cpu_ms_per_act": round(self.client_cpu_ms, 3),
            "other_programs": round(self.others, 3),
            "failures": self.failures[:3],
        }


@dataclass(frozen=True)
class Pace:
    """How long to look."""

    seconds: float
    """of a window"""
    warm: float
    """before it, not counted"""
    rounds: int
    most_s: float
    """a window with few answers may get that long"""


async def cell(
    targets: Sequence[tuple[Target, Server]], model: str, method: str, clients: int, pace: Pace
) -> list[Row]:
    """One row for each target, its windows interleaved with the others'."""
    rows = [Row(target.name, model, method, clients) for target, _ in targets]
    for round_ in range(pace.rounds):
        order = list(zip(targets, rows, strict=True))
        for (target, server), row in order if round_ % 2 == 0 else reversed(order):
            await _window(target, server, row, pace)
    return rows


async def _window(target: Target, server: Server, row: Row, pace: Pace) -> None:
    clients = target.clients(row.model, row.method, row.clients)
    for client in clients:
        await client.connect()
    busy, served, mine, began = _busy_s(), server.cpu_s(), time.process_time(), time.perf_counter()
    window = await press(
        clients,
        seconds=pace.seconds,
        warm=pace.warm,
        least=min(2 * row.clients, 200),
        most_s=pace.most_s,
    )
    elapsed, own = time.perf_counter() - began, time.process_time() - mine
    used = server.cpu_s() - served
    row.latencies += window.latencies
    row.seconds += window.seconds
    row.answered += window.answered
    row.failures += window.failures
    row.server_cpu_s += used
    row.client_cpu_s += own
    row.other_cpu_s += _busy_s() - busy - used - own
    row.elapsed_s += elapsed


async def bare(process: Bare, level: str, row: Row, pace: Pace) -> None:
    """Acts without a server, into a row."""
    latencies, cpu_s = await asyncio.to_thread(
        process.run, row.model, row.method, level, row.clients, pace.warm + pace.seconds
    )
    dropped = min(len(latencies) // 2, int(len(latencies) * pace.warm / (pace.warm + pace.seconds)))
    row.latencies += latencies[dropped:]
    row.seconds += sum(latencies[dropped:])
    row.answered += len(latencies)
    row.server_cpu_s += cpu_s


def _busy_s() -> float:
    """CPU seconds that the whole machine was busy, niced programs included."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def machine() -> str:
    """One line about where this runs, and how busy it is."""
    name = "unknown processor"
    try:
        with open("/proc/cpuinfo") as file:
            names = {line.partition(":")[2].strip() for line in file if line.startswith("model name")}
        name = ", ".join(sorted(names)) or name
    except OSError:
        name = os.uname().machine
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return f"{psutil.cpu_count()} cores ({name}), load average {load}, niceness {os.nice(0)}"
