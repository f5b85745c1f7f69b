"""The tables, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.serving.measure import Row
from benchmarks.serving.models import MODELS

GOAL_HTTP_MS, GOAL_STREAM_MS, GOAL_RATIO = 2.0, 1.0, 2.0


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


def overhead(rows: Sequence[Row]) -> str:
    """What the service adds to the bare engine call."""
    engine = next(row for row in rows if row.target.startswith("engine"))
    lines = [
        [
            row.target,
            *(f"{row.quantile_ms(share):.2f}" for share in (0.5, 0.95, 0.99)),
            f"{row.quantile_ms(0.5) - engine.quantile_ms(0.5):+.2f}",
            f"{row.server_cpu_ms:.2f}",
            f"{row.server_cpu_ms - engine.server_cpu_ms:+.2f}",
        ]
        for row in rows
    ]
    header = [
        "one client, `policy`, 64x64x3", "p50 ms", "p95 ms", "p99 ms", "above the engine, p50 ms", "CPU ms/act",
        "above the engine, CPU ms",
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


def verdict(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The goals, and whether this run met them."""
    alone = {row["target"]: row["p50_ms"] for row in tables["overhead"]}
    engine = alone["engine called directly"]
    lines = [
        _goal("HTTP msgpack above the engine, p50", alone["THICK, msgpack"] - engine, GOAL_HTTP_MS, " ms"),
        _goal(
            "gRPC stream above the engine, p50", alone["THICK, gRPC stream"] - engine, GOAL_STREAM_MS, " ms"
        ),
    ]
    for title, rows in tables.items():
        if title in ("overhead", "features", "floor"):
            continue
        rates = {row["target"]: row["acts_per_s"] for row in rows if row["clients"] == 32}
        lit = rates.get("LitServe, JSON")
        if lit:
            for name in ("THICK, JSON", "THICK, msgpack", "THICK, gRPC unary", "THICK, gRPC stream"):
                if name in rates:
                    what = f"{title}, 32 clients: {name} over LitServe"
                    lines.append(_goal(what, rates[name] / lit, GOAL_RATIO, "x", least=True))
    return "### Goals\n\n" + table(["goal", "this run", "wanted", "met"], lines)


def _goal(what: str, value: float, goal: float, unit: str, *, least: bool = False) -> list[str]:
    met = value >= goal if least else value <= goal
    sign = "at least" if least else "at most"
    return [what, f"{value:.2f}{unit}", f"{sign} {goal:g}{unit}", "yes" if met else "no"]
