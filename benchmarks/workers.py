"""Several processes on one machine: ``thick serve --workers N`` beside LitServe with its own N workers, same cores.

    python benchmarks/workers.py [--workers 2] [--clients 32] [--seconds 2] [--rounds 4]

Acts of the image model's actor (``policy``), a closed loop of clients. THICK's workers share sessions through a Redis
of their own, exactly once; one process of it, as it starts without the flag, is measured too, over SQLite. LitServe
keeps states in each worker, so that a session's acts are of several tables: it is measured at its quickest, not at
being right. Needs litserve (``pip install litserve``) and redis-server.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import uvloop

from benchmarks.serving import models, report, servers
from benchmarks.serving.load import JSON, MSGPACK, Sessions, Target, baseline, thick_grpc, thick_http
from benchmarks.serving.measure import Pace, Row, cell, machine
from benchmarks.serving.servers import Server
from examples.cluster_demo import redis

MODEL, METHOD = "image", "policy"


def main() -> int:
    """Measure and print; 1 where a request failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a window")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="thick-workers-") as name, ExitStack() as stack:
        repository, folder = Path(name) / "models", Path(name)
        repository.mkdir()
        # In a process of its own: this one stays small, it makes the load.
        writer = multiprocessing.get_context("spawn").Process(target=models.write, args=(repository,))
        writer.start()
        writer.join()
        store = stack.enter_context(redis(folder))
        ours, grpc_port = servers.thick(repository, folder, store=store, workers=given.workers)
        stack.callback(ours.stop)
        one, one_grpc_port = servers.thick(repository, folder, name="one")
        stack.callback(one.stop)
        lit = servers.litserve(repository, folder, workers=given.workers)
        stack.callback(lit.stop)
        for each in (ours, one, lit):
            each.wait_ready()
        pace = Pace(given.seconds, 0.5, given.rounds, 4 * given.seconds)
        found = transports(f"{given.workers} workers", ours, grpc_port)
        found += transports("one process", one, one_grpc_port)
        found.append((baseline("LitServe, JSON", lit.port, "/predict", JSON), lit))
        rows = uvloop.run(cell(found, MODEL, METHOD, given.clients, pace))
        for target, _ in found:
            target.close()
    print(f"{given.workers} workers of LitServe\n\n{report.load(MODEL, METHOD, rows)}\n{machine()}")
    if given.json:
        given.json.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n")
    return report_failures(rows)


def transports(name: str, server: Server, grpc_port: int) -> list[tuple[Target, Server]]:
    """Every transport of the service."""
    sessions = Sessions(server.port)
    return [
        (thick_http(f"THICK, {name}, JSON", server.port, sessions, JSON), server),
        (thick_http(f"THICK, {name}, msgpack", server.port, sessions, MSGPACK), server),
        (thick_grpc(f"THICK, {name}, gRPC unary", grpc_port, sessions, stream=False), server),
        (thick_grpc(f"THICK, {name}, gRPC stream", grpc_port, sessions, stream=True), server),
    ]


def report_failures(rows: list[Row]) -> int:
    """Say which requests failed."""
    for row in rows:
        for failure in row.failures[:1]:
            print(f"failed: {row.target}: {failure}", file=sys.stderr)
    return 1 if any(row.failures for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
