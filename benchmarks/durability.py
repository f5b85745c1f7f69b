"""What it costs that an answered step is never lost: the same load on every session store.

    python benchmarks/durability.py [--seconds 5] [--clients 1 8 32] [--sessions 1000]

Prints the tables of docs/operations/reliability.md: acts a second, their latency, and the share of it that
waits for the store; then how long a server takes to start with that many sessions in its store. Closed loop
over loopback, msgpack, ``policy`` acts (the cheapest, so that the store shows most). Needs
``pip install -e '.[service]'`` and, for its rows, ``redis-server``.
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.serving import models
from benchmarks.serving.servers import ROOT, Server, free_port
from clients.asynchronous import AsyncPlanningClient
from clients.retries import Retries

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
    port = free_port()
    settings = {
        "THICK_MODELS": repository,
        "THICK_PORT": port,
        "THICK_GRPC_PORT": free_port(),
        "THICK_THREADS": 1,
        "THICK_STORE": store.address.format(folder=folder, redis=redis),
        "THICK_STORE_SYNC": store.sync,
        "THICK_ACCESS_LOG": 0,
        "PYTHONPATH": ROOT,
    }
    environment = {name: str(value) for name, value in settings.items()}
    began = time.monotonic()
    server = Server(
        "serve",
        ["-m", "thick", "serve"],
        port=port,
        health="/health/ready",
        folder=folder,
        environment=environment,
    )
    server.wait_ready()
    return server, time.monotonic() - began


async def load(server: Server, clients: int, seconds: float) -> dict[str, float]:
    """What so many clients get, each with a session, one request at a time."""
    rng = np.random.default_rng(0)
    seen = [models.GRID.observation(rng) for _ in range(32)]
    times: list[float] = []
    acts = 0
    async with AsyncPlanningClient(f"http://127.0.0.1:{server.port}", retries=Retries(attempts=1)) as client:

        async def drive(number: int) -> None:
            nonlocal acts
            async with client.session("grid", seed=number, planner=POLICY) as session:
                while time.monotonic() < end:
                    began = time.monotonic()
                    await session.act(seen[(number + session.step) % len(seen)])
                    acts += 1
                    if began > start:
                        times.append(time.monotonic() - began)

        start = time.monotonic() + 0.2 * seconds  # what comes before is for warming up
        end = start + seconds
        used = server.cpu_s()
        await asyncio.gather(*(drive(number) for number in range(clients)))
        used = server.cpu_s() - used
    times.sort()
    phase = _stats(server)["phases"]["store"]
    return {
        "acts/s": len(times) / seconds,
        "p50 ms": 1e3 * times[len(times) // 2],
        "p99 ms": 1e3 * times[min(len(times) - 1, len(times) * 99 // 100)],
        "store p50 ms": phase["p50_ms"],
        "store p99 ms": phase["p99_ms"],
        "server CPU ms/act": 1e3 * used / max(1, acts),
    }


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
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "|".join("---" for _ in names) + "|"]
    for row in rows:
        cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of load for each cell (5)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="clients at once (1 8 32)")
    parser.add_argument("--sessions", type=int, default=1000, help="in the store at a start (1000)")
    given = parser.parse_args(argv)
    stores = [store for store in STORES if not store.redis or shutil.which("redis-server")]
    if len(stores) < len(STORES):
        print("redis-server is missing: its rows are left out", file=sys.stderr)
    cells: list[dict[str, Any]] = []
    starts: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        repository = Path(name) / "models"
        models.write(repository)
        for number, store in enumerate(stores):
            folder = Path(name) / str(number)
            folder.mkdir()
            with redis_server(folder, store.redis) as redis:
                server, empty_s = started(store, repository, folder, redis)
                for clients in given.clients:
                    cell = asyncio.run(load(server, clients, given.seconds))
                    cells.append({"store": store.name, "clients": clients, **cell})
                    print(f"{store.name}, {clients} clients: {cell['acts/s']:.0f} acts/s", file=sys.stderr)
                if store.address != "memory://":
                    asyncio.run(fill(server, given.sessions))
                    server.stop()
                    server, full_s = started(store, repository, folder, redis)
                    starts.append(
                        {
                            "store": store.name,
                            "start without sessions, s": empty_s,
                            f"with {given.sessions}, s": full_s,
                            "sessions taken up": _stats(server)["sessions"],
                        }
                    )
                server.stop()
    print(table(cells), "", table(starts), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
