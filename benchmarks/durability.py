"""What it costs that an answered step is never lost: the same load on every session store.

    python benchmarks/durability.py [--rounds 4] [--clients 1 8 32] [--sessions 1000]

Prints the tables of docs/operations/reliability.md: acts a second, their latency, and how long they wait for the
store; then how long a server takes to start with that many sessions in its store. Closed loop over loopback,
msgpack, ``policy`` acts of a small model (the cheapest, so that the store shows most). One server a store; all run
at once and are asked in turn, round after round, so that whatever else the machine does falls on all. Needs
``pip install -e '.[service,dev]'`` and, for its rows, ``redis-server``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.serving import models, report
from benchmarks.serving.load import MSGPACK, Sessions, thick_http
from benchmarks.serving.measure import Pace, cell, machine
from benchmarks.serving.servers import Server, free_port
from benchmarks.serving.servers import thick as thick_server
from clients.asynchronous import AsyncPlanningClient

POLICY = {"method": "policy"}


@dataclass(frozen=True)
class Store:
    """One way to keep sessions."""

    name: str
    address: str
    """``THICK_STORE``; ``{folder}`` and ``{redis}`` are filled in"""
    sync: str = "process"
    redis: tuple[str, ...] = ()
    """flags of the ``redis-server`` that it needs"""


STORES = (
    Store("memory", "memory://"),
    Store("SQLite, survives kill -9", "sqlite:///{folder}/sessions.sqlite"),
    Store("SQLite, survives power loss", "sqlite:///{folder}/sessions.sqlite", sync="power"),
    Store("Redis, without a file", "redis://127.0.0.1:{redis}/0", redis=("--appendonly", "no")),
    Store(
        "Redis, fsync every second",
        "redis://127.0.0.1:{redis}/0",
        redis=("--appendonly", "yes", "--appendfsync", "everysec"),
    ),
    Store(
        "Redis, fsync every write",
        "redis://127.0.0.1:{redis}/0",
        redis=("--appendonly", "yes", "--appendfsync", "always"),
    ),
)


@contextlib.contextmanager
def redis_server(folder: Path, flags: Sequence[str]) -> Iterator[int]:
    """The port of a ``redis-server`` of its own; 0 where none is needed."""
    if not flags:
        yield 0
        return
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    process = subprocess.Popen([*command, *flags], stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), contextlib.closing(_connect(port)):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _connect(port: int) -> Any:
    return socket.create_connection(("127.0.0.1", port), timeout=1)


def started(store: Store, repository: Path, folder: Path, redis: int) -> tuple[Server, float]:
    """A server with that store, and the seconds until it was ready."""
    began = time.monotonic()
    address = store.address.format(folder=folder, redis=redis)
    server, _ = thick_server(repository, folder, store=address, sync=store.sync)
    server.wait_ready()
    return server, time.monotonic() - began


async def load(servers: Mapping[Store, Server], clients: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each store: what so many clients get, each with a session, one request at a time."""
    targets = [
        (thick_http(store.name, server.port, Sessions(server.port), MSGPACK), server)
        for store, server in servers.items()
    ]
    rows = await cell(targets, "grid", "policy", clients, Pace(1.0, 0.25, rounds, 4.0))
    for target, _ in targets:
        target.close()
    found = []
    for row, server in zip(rows, servers.values(), strict=True):
        if row.failures:
            raise RuntimeError(f"{row.target}: {row.failures[0]}")
        phase = _stats(server)["phases"]["store"]
        found.append(
            {
                "store": row.target,
                "clients": clients,
                "acts/s": row.rate,
                "of memory": row.rate / rows[0].rate,
                "p50 ms": row.quantile_ms(0.5),
                "p99 ms": row.quantile_ms(0.99),
                "in the store p50 ms": phase["p50_ms"],
                "p99 ms of it": phase["p99_ms"],
                "server CPU ms/act": row.server_cpu_ms,
            }
        )
    return found


def _stats(server: Server) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/v1/stats") as answer:
        return json.load(answer)


async def fill(server: Server, sessions: int) -> None:
    """Make that many sessions that have acted."""
    observation = models.GRID.observation(np.random.default_rng(1))
    async with AsyncPlanningClient(f"http://127.0.0.1:{server.port}") as client:

        async def make(numbers: range) -> None:
            for number in numbers:
                session = await client.session("grid", seed=number, planner=POLICY)
                await session.act(observation)

        await asyncio.gather(*(make(range(first, sessions, 16)) for first in range(16)))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    shown = [
        [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows
    ]
    return report.table(list(rows[0]), shown)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4, help="windows of a second for each cell (4)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="clients at once (1 8 32)")
    parser.add_argument("--sessions", type=int, default=1000, help="in the store at a start (1000)")
    given = parser.parse_args(argv)
    stores = [store for store in STORES if not store.redis or shutil.which("redis-server")]
    if len(stores) < len(STORES):
        print("redis-server is missing: its rows are left out", file=sys.stderr)
    print(machine())
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as running:
        repository = Path(name) / "models"
        models.write(repository)
        servers: dict[Store, Server] = {}
        ports: dict[Store, int] = {}
        for number, store in enumerate(stores):
            folder = Path(name) / str(number)
            folder.mkdir()
            ports[store] = running.enter_context(redis_server(folder, store.redis))
            servers[store], _ = started(store, repository, folder, ports[store])
            running.callback(lambda store=store: servers[store].stop())
        for clients in given.clients:
            print("", table(asyncio.run(load(servers, clients, given.rounds))), sep="\n", flush=True)
        starts = []
        for number, store in enumerate(stores):
            folder = Path(name) / str(number)
            before = _stats(servers[store])["sessions"]
            asyncio.run(fill(servers[store], given.sessions - before))
            servers[store].stop()
            servers[store], seconds = started(store, repository, folder, ports[store])
            kept = _stats(servers[store])["sessions"]
            starts.append({"store": store.name, "start, s": seconds, "sessions taken up": kept})
        print("", table(starts), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
