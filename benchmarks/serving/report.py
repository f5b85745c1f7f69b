"""The tables, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.serving.measure import Row
from benchmarks.serving.models import MODELS

MOST_OVERHEAD = 1.5
"""what msgpack and gRPC streams may add to the engine, over what a bare endpoint takes"""
LEAST_OF_LITSERVE = 2.0


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first to the left, the others to the right."""
    widths = [max(len(line[column]) for line in [header, *lines]) for column in range(len(header))]

    def row(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        return "| " + " | ".join([first[0].ljust(first[1]), *(c.rjust(w) for c, w in rest)]) + " |"

    rule = (
        "|"
        + "|".join([":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])])
        + "|"
    )
    return "\n".join([row(header), rule, *(row(line) for line in lines)])


def load(model: str, method: str, rows: Sequence[Row]) -> str:
    """Throughput and latencies, grouped by the number of clients."""
    served = MODELS[model]
    search = ", ".join(f"{key} {served.planner[key]}" for key in ("samples", "iterations", "horizon"))
    title = (
        f"### `{method}` acts, {model} model ({served.about}{'; ' + search if method == 'flat' else ''})\n"
    )
    lines = []
    for row in rows:
        lit = next((r for r in rows if r.clients == row.clients and r.target.startswith("LitServe")), None)
        ratio = f"{row.rate / lit.rate:.2f}" if lit is not None and lit.rate else "-"
        lines.append(
            [
                row.target,
                str(row.clients),
                f"{row.rate:,.0f}" if row.rate >= 100 else f"{row.rate:.1f}",
                *(f"{row.quantile_ms(share):.1f}" for share in (0.5, 0.95, 0.99)),
                ratio,
                f"{row.server_cpu_ms:.2f}",
                f"{row.client_cpu_ms:.2f}",
                f"{row.others:.0%}",
            ]
        )
    header = [
        "server", "clients", "acts/s", "p50 ms", "p95 ms", "p99 ms", "x LitServe", "server CPU ms/act",
        "client CPU ms/act", "other programs",
    ]  # fmt: skip
    return f"{title}\n{table(header, lines)}\n"


def overhead(rows: Sequence[Row], endpoints: Mapping[str, str]) -> str:
    """What the service adds to the bare engine call, compared with a bare endpoint of the same transport that runs the
    same engine.

    Args:
        endpoints: the service's row for the row of each bare endpoint.
    """
    named = {row.target: row for row in rows}
    bare = {ours: named[name].added_ms for name, ours in endpoints.items()}
    lines = []
    for row in rows:
        lines.append(
            [
                row.target,
                *(f"{row.quantile_ms(share):.2f}" for share in (0.5, 0.95, 0.99)),
                f"{row.added_ms:.2f}" if row.work_s else "-",
                f"{row.added_ms / bare[row.target]:.2f}" if row.target in bare else "-",
                f"{row.server_cpu_ms:.2f}",
            ]
        )
    header = [
        "one client, `policy`, 64x64x3", "p50 ms", "p95 ms", "p99 ms", "above its work, p50 ms",
        "that over the bare endpoint", "CPU ms/act",
    ]  # fmt: skip
    return f"### What the service adds\n\n{table(header, lines)}\n"


def floor(rows: Sequence[Row]) -> str:
    """What the models take without any server."""
    lines = [
        [
            f"{row.model}, `{row.method}`",
            str(row.clients),
            f"{1e3 * row.seconds / len(row.latencies):.3f}",
            f"{row.rate:,.0f}" if row.rate >= 100 else f"{row.rate:.1f}",
        ]
        for row in rows
    ]
    header = ["model alone, one core", "sessions at once", "ms/act", "acts/s at most"]
    return f"### The bound: the model alone\n\n{table(header, lines)}\n"


def features(rows: Sequence[Row]) -> str:
    """What parts of the service cost."""
    usual = rows[0]
    lines = [
        [
            row.target if row is not usual else "as above (SQLite store, no access log)",
            f"{row.rate:,.0f}",
            f"{row.rate / usual.rate:.2f}" if usual.rate else "-",
            f"{row.quantile_ms(0.5):.1f}",
            f"{row.quantile_ms(0.99):.1f}",
            f"{row.server_cpu_ms:.2f}",
        ]
        for row in rows
    ]
    header = [
        "32 clients, `policy`, image, msgpack",
        "acts/s",
        "ratio",
        "p50 ms",
        "p99 ms",
        "server CPU ms/act",
    ]
    return f"### What parts of it cost\n\n{table(header, lines)}\n"


@dataclass(frozen=True)
class Goal:
    """Something wanted of the service, and what this run found."""

    what: str
    value: float
    goal: float
    least: bool
    """whether more is better"""
    bar: bool
    """whether missing it is a failure (``--check``)"""

    @property
    def met(self) -> bool:
        """Whether this run reached it."""
        return self.value >= self.goal if self.least else self.value <= self.goal


def goals(tables: Mapping[str, Sequence[Mapping[str, Any]]], endpoints: Mapping[str, str]) -> list[Goal]:
    """All that is wanted, with this run's figures: ratios within the run, since processors differ."""
    added = {row["target"]: row["p50_ms"] - row["work_ms"] for row in tables["overhead"]}
    found = []
    for bare, ours in endpoints.items():
        what = f"{ours}: what it adds to the engine, over a {bare}"
        bar = ours in ("THICK, msgpack", "THICK, gRPC stream")
        found.append(Goal(what, added[ours] / added[bare], MOST_OVERHEAD, least=False, bar=bar))
    for title, rows in tables.items():
        if title in ("overhead", "features", "floor"):
            continue
        rates = {row["target"]: row["acts_per_s"] for row in rows if row["clients"] == 32}
        lit = rates.get("LitServe, JSON")
        if lit:
            for name in endpoints.values():
                if name in rates:
                    what = f"{title}, 32 clients: {name} over LitServe"
                    found.append(Goal(what, rates[name] / lit, LEAST_OF_LITSERVE, least=True, bar=False))
    return found


def verdict(found: Sequence[Goal]) -> str:
    """The goals, and whether this run met them."""
    lines = [
        [
            goal.what,
            f"{goal.value:.2f}x",
            f"{'at least' if goal.least else 'at most'} {goal.goal:g}x",
            "bar" if goal.bar else "goal",
            "yes" if goal.met else "no",
        ]
        for goal in found
    ]
    return "### Bars and goals\n\n" + table(["what", "this run", "wanted", "kind", "met"], lines)
