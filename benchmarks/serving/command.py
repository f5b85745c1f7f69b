"""The command line of ``benchmarks/serving.py``: what is measured, in which order, and for how long."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import itertools
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.serving import models, report, servers
from benchmarks.serving.load import (
    JSON,
    MSGPACK,
    AnySession,
    Sessions,
    Target,
    baseline,
    thick_grpc,
    thick_http,
)
from benchmarks.serving.measure import Pace, Row, bare, cell, machine
from benchmarks.serving.servers import Bare, Server

CLIENTS = (1, 8, 32, 128)
TRIAL_STEPS = 3
"""acts that are compared between all servers before anything is measured"""


@dataclass
class Bench:
    """What is running."""

    thick: Server
    memory: Server
    logged: Server
    bare: Bare
    endpoints: Server
    """bare: what decodes the same bodies"""
    targets: dict[str, tuple[Target, Server]]

    def named(self, *names: str) -> list[tuple[Target, Server]]:
        """Those of these targets that are here: a peer that is not installed is left out."""
        return [self.targets[name] for name in names if name in self.targets]


@dataclass(frozen=True)
class Part:
    """Some cells of one table."""

    title: str
    model: str
    method: str
    clients: tuple[int, ...]
    targets: tuple[str, ...]
    pace: Pace | None = None
    """where acts take seconds: however little time is left"""


OVERHEAD = 24
"""windows that the first table is given"""
SHORT_ROUNDS = 8
"""rounds into which they are divided: what else the machine does comes in bursts, which should fall on all alike"""
OURS = ("THICK, JSON", "THICK, msgpack", "THICK, gRPC unary", "THICK, gRPC stream")
THEIRS = ("LitServe, JSON", "FastAPI, JSON", "FastAPI, msgpack")
ENDPOINTS = {
    "bare FastAPI endpoint, JSON": "THICK, JSON",
    "bare FastAPI endpoint, msgpack": "THICK, msgpack",
    "bare grpc.aio method, unary": "THICK, gRPC unary",
    "bare grpc.aio method, stream": "THICK, gRPC stream",
}
"""what decodes the same bodies as the service, over the same transport"""
BEST = ("THICK, JSON", "THICK, msgpack", "THICK, gRPC stream")
FEATURES = ("THICK, msgpack", "without the store", "with the access log", "with plan and timing")


def parts(quick: bool) -> list[Part]:
    """The tables of load."""
    if quick:
        return [
            Part("image policy", "image", "policy", (1, 32), OURS + THEIRS),
            Part("image flat", "image", "flat", (32,), (*BEST[1:], *THEIRS[:2])),
            Part("grid policy", "grid", "policy", (32,), (*BEST, *THEIRS[:2])),
        ]
    return [
        Part("image policy", "image", "policy", CLIENTS, OURS + THEIRS),
        Part("image flat", "image", "flat", (1, 8), (*BEST[1:], *THEIRS[:2])),
        Part("image flat", "image", "flat", (32,), OURS + THEIRS),
        Part("image flat", "image", "flat", (128,), (*BEST[1:], THEIRS[0]), Pace(2.0, 0.2, 1, 9.0)),
        Part("grid policy", "grid", "policy", CLIENTS, (*BEST, *THEIRS[:2])),
        Part("grid flat", "grid", "flat", (1, 8), (*BEST[1:], *THEIRS[:2])),
    ]


@contextlib.contextmanager
def running(folder: Path, say: Any) -> Iterator[Bench]:
    """Everything that is compared, started at once and ended at the end."""
    repository = folder / "models"
    repository.mkdir()
    # In a process of its own: this one stays small, it makes the load.
    writer = multiprocessing.get_context("spawn").Process(target=models.write, args=(repository,))
    writer.start()
    writer.join()
    if writer.exitcode:
        raise RuntimeError("the models could not be written")
    began = time.perf_counter()
    started: list[Any] = []
    try:
        ours, grpc_port = servers.thick(repository, folder)
        started.append(ours)
        memory, _ = servers.thick(repository, folder, store="memory://", name="thick-memory")
        started.append(memory)
        logged, _ = servers.thick(repository, folder, access_log=True, name="thick-logged")
        started.append(logged)
        lit = servers.litserve(repository, folder) if importlib.util.find_spec("litserve") else None
        plain = servers.fastapi(repository, folder)
        started += [each for each in (lit, plain) if each is not None]
        endpoints, echo_grpc = servers.echo(repository, folder)
        started.append(endpoints)
        alone = Bare(repository, folder)
        started.append(alone)
        for each in started:
            each.wait_ready()
        say(f"servers ready after {time.perf_counter() - began:.0f} s")
        sessions = Sessions(ours.port)
        anybody = AnySession(endpoints.port)
        bare_json, bare_msgpack, bare_unary, bare_stream = ENDPOINTS
        targets = {
            bare_json: (thick_http(bare_json, endpoints.port, anybody, JSON), endpoints),
            bare_msgpack: (thick_http(bare_msgpack, endpoints.port, anybody, MSGPACK), endpoints),
            bare_unary: (thick_grpc(bare_unary, echo_grpc, anybody, stream=False), endpoints),
            bare_stream: (thick_grpc(bare_stream, echo_grpc, anybody, stream=True), endpoints),
            "THICK, JSON": (thick_http("THICK, JSON", ours.port, sessions, JSON), ours),
            "THICK, msgpack": (thick_http("THICK, msgpack", ours.port, sessions, MSGPACK), ours),
            "THICK, gRPC unary": (thick_grpc("THICK, gRPC unary", grpc_port, sessions, stream=False), ours),
            "THICK, gRPC stream": (thick_grpc("THICK, gRPC stream", grpc_port, sessions, stream=True), ours),
            "FastAPI, JSON": (baseline("FastAPI, JSON", plain.port, "/act", JSON), plain),
            "FastAPI, msgpack": (baseline("FastAPI, msgpack", plain.port, "/act", MSGPACK), plain),
            "without the store": (
                thick_http("without the store", memory.port, Sessions(memory.port), MSGPACK),
                memory,
            ),
            "with the access log": (
                thick_http("with the access log", logged.port, Sessions(logged.port), MSGPACK),
                logged,
            ),
            "with plan and timing": (
                thick_http(
                    "with plan and timing", ours.port, Sessions(ours.port), MSGPACK, ("plan", "timing")
                ),
                ours,
            ),
        }
        if lit is None:
            say("LitServe is not installed (pip install litserve): its rows are left out")
        else:
            targets["LitServe, JSON"] = (baseline("LitServe, JSON", lit.port, "/predict", JSON), lit)
        yield Bench(ours, memory, logged, alone, endpoints, targets)
    finally:
        for each in started:
            each.stop()


async def same_answers(bench: Bench, wanted: Sequence[Part]) -> None:
    """All servers give the same actions for the same observations: they are measured doing the same thing.

    Raises:
        RuntimeError: they do not.
    """
    for model, method in sorted({(part.model, part.method) for part in wanted}):
        names = sorted({name for part in wanted if part.model == model for name in part.targets})
        targets = {target.name: target for target, _ in bench.named(*names)}
        given = {name: await target.trial(model, method, TRIAL_STEPS) for name, target in targets.items()}
        first = given[min(given)]
        for name, actions in given.items():
            # Batches of another size may round differently; these are all of one session.
            if not all(np.allclose(a, b, atol=1e-4) for a, b in zip(first, actions, strict=True)):
                raise RuntimeError(f"{name} acts differently from {min(given)} on {model} {method}: {given}")


async def overhead(bench: Bench, pace: Pace) -> list[Row]:
    """What the service adds to an act, one client at a time."""
    levels = {"model": "model called directly", "engine": "engine called directly"}
    rows = [Row(title, "image", "policy", 1) for title in levels.values()]
    names = (*OURS, *ENDPOINTS)
    found = {name: Row(name, "image", "policy", 1) for name in names}
    seconds = max(0.15, pace.seconds * max(2, pace.rounds) / SHORT_ROUNDS)
    once = Pace(seconds, min(0.1, pace.warm), 1, pace.most_s)
    work: list[float] = []
    for _ in range(SHORT_ROUNDS):
        for row, level in zip(rows, levels, strict=True):
            await bare(bench.bare, level, row, once)
        await asyncio.to_thread(servers.work, bench.endpoints)  # of what came before
        for more in await cell(bench.named(*names), "image", "policy", 1, once):
            _add(found[more.target], more)
        work += await asyncio.to_thread(servers.work, bench.endpoints)
    for row in found.values():
        row.work_s = statistics.median(work)
    return rows + list(found.values())


async def floor(bench: Bench, wanted: Sequence[Part], pace: Pace) -> list[Row]:
    """What the models take by themselves: the bound of every server that runs them on one core."""
    rows = []
    most: dict[tuple[str, str], int] = {}
    for part in wanted:
        most[part.model, part.method] = min(32, max(most.get((part.model, part.method), 1), *part.clients, 1))
    for (model, method), largest in most.items():
        for sessions in (1, largest):
            row = Row("model called directly", model, method, sessions)
            await bare(bench.bare, "model", row, pace)
            rows.append(row)
    return rows


def _add(row: Row, more: Row) -> None:
    row.latencies += more.latencies
    row.seconds += more.seconds
    row.answered += more.answered
    row.server_cpu_s += more.server_cpu_s
    row.client_cpu_s += more.client_cpu_s
    row.other_cpu_s += more.other_cpu_s
    row.elapsed_s += more.elapsed_s
    row.failures += more.failures


class Budget:
    """Divides the time that is left among the windows that are left."""

    def __init__(self, until: float, windows: float) -> None:
        self._until, self._left = until, windows

    def pace(self, windows: float, usual: Pace) -> Pace:
        """The pace of the next ``windows`` (of one round), shortened where time is running out."""
        left = self._until - time.perf_counter()
        each = max(0.15, left / max(1.0, self._left) - usual.warm - 0.05)
        self._left -= windows * usual.rounds
        seconds = min(usual.seconds, each)
        return Pace(seconds, usual.warm, usual.rounds, min(usual.most_s, max(2 * each, seconds)))


async def measure(bench: Bench, given: argparse.Namespace, until: float, say: Any) -> dict[str, Any]:
    """Everything, in order; prints each table as it is done."""
    wanted = parts(given.quick)
    usual = Pace(0.6, 0.2, 1, 2.0) if given.quick else Pace(1.0, 0.25, 2, 4.0)
    await same_answers(bench, wanted)
    say("all servers give the same actions\n")
    windows = (
        sum(len(part.clients) * len(part.targets) for part in wanted)
        + len(FEATURES)
        + OVERHEAD
        + 2 * len(wanted)
    )
    budget = Budget(until, windows * usual.rounds)
    results: dict[str, Any] = {"machine": machine(), "tables": {}}

    rows = await overhead(bench, budget.pace(OVERHEAD, usual))
    results["tables"]["overhead"] = [row.to_json() for row in rows]
    say(report.overhead(rows, ENDPOINTS))
    bound = await floor(bench, wanted, budget.pace(2 * len(wanted), usual))
    results["tables"]["floor"] = [row.to_json() for row in bound]
    say(report.floor(bound))
    for title, same in itertools.groupby(wanted, key=lambda part: part.title):
        rows = []
        for part in same:
            for clients in part.clients:
                pace = part.pace or budget.pace(len(part.targets), usual)
                rows += await cell(bench.named(*part.targets), part.model, part.method, clients, pace)
        results["tables"][title] = [row.to_json() for row in rows]
        say(report.load(rows[0].model, rows[0].method, rows))
    pace = budget.pace(len(FEATURES), usual)
    rows = await cell(bench.named(*FEATURES), "image", "policy", 32, pace)
    results["tables"]["features"] = [row.to_json() for row in rows]
    say(report.features(rows))
    goals = report.goals(results["tables"], ENDPOINTS)
    results["missed"] = [goal.what for goal in goals if goal.bar and not goal.met]
    say(report.verdict(goals))
    for target, _ in bench.targets.values():
        target.close()
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 where a request failed, or with ``--check`` a bar was missed."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/serving.py", description="Throughput and latency of the service."
    )
    parser.add_argument("--quick", action="store_true", help="fewer cells and short windows: under 90 s")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument(
        "--minutes", type=float, help="time for everything; windows get shorter to keep it (5.5; quick 1.3)"
    )
    given = parser.parse_args(argv)
    until = time.perf_counter() + 60 * (given.minutes or (1.3 if given.quick else 5.5))

    def say(text: str) -> None:
        print(text, flush=True)

    say(f"{machine()}")
    with tempfile.TemporaryDirectory(prefix="thick-serving-") as name:
        with running(Path(name), say) as bench:
            results = uvloop.run(measure(bench, given, until, say))
    say(f"\n{machine()}")
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")
    failures = [
        f"{row['target']}, {row['clients']} clients: {row['failures'][0]}"
        for rows in results["tables"].values()
        for row in rows
        if row["failures"]
    ]
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    for missed in results["missed"]:
        print(f"missed: {missed}", file=sys.stderr)
    return 1 if failures or (given.check and results["missed"]) else 0
