"""What Ray's proxy costs: acts of the bundled room through one replica under Ray Serve, beside ``thick serve``.

    python benchmarks/cluster.py [--seconds 3] [--rounds 4]

The same search by a process itself, by one over a Redis of its own, and by a replica over another, behind Ray's
proxies: HTTP with msgpack, and gRPC with a call an act. They take turns; p50 and p95 of an act, and acts a second, with
one and with eight clients.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.bars import resets
from benchmarks.serving.measure import machine
from clients.demo import free_ports, service
from clients.grpc_client import GrpcPlanningClient
from clients.http_client import PlanningClient
from examples.cluster_demo import ROOT, cluster, redis

MODEL = "doorkey6"
QUICK = {"method": "flat", "samples": 16, "iterations": 1, "elites": 4, "horizon": 4}
"""a search of a millisecond or two: what is around it shows"""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of a window")
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    seen = resets(8)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folders = [Path(name) / way for way in ("alone", "redis", "ray")]
        for folder in folders:
            folder.mkdir()
        alone = stack.enter_context(service(ROOT / "checkpoints", folders[0] / "log"))
        store = stack.enter_context(redis(folders[1]))
        over = stack.enter_context(service(ROOT / "checkpoints", folders[1] / "log", store=store))
        (grpc_port,) = free_ports(1)
        behind = stack.enter_context(cluster(folders[2], 1, grpc_port))
        ways: dict[str, Callable[[], Any]] = {
            "thick serve, in memory": partial(PlanningClient, alone.connection.url),
            "thick serve, Redis": partial(PlanningClient, over.connection.url),
            "one replica behind Ray's HTTP proxy, Redis": partial(PlanningClient, behind),
            "one replica behind Ray's gRPC proxy, Redis": partial(
                GrpcPlanningClient, f"127.0.0.1:{grpc_port}", stream_acts=False
            ),
        }
        found: dict[tuple[str, int], list[float]] = {(way, count): [] for way in ways for count in (1, 8)}
        for _ in range(options.rounds):
            for way, count in found:
                found[way, count] += window(ways[way], count, options.seconds, seen)
    print(f"\n{machine()}\n\n| | clients | p50 | p95 | acts a second |\n|---|---|---|---|---|")
    for (way, count), times in found.items():
        p50, p95 = 1e3 * np.quantile(times, [0.5, 0.95])
        rate = len(times) / (options.rounds * options.seconds)
        print(f"| {way} | {count} | {p50:.2f} ms | {p95:.2f} ms | {rate:.0f} |")
    return 0


def window(client_of: Callable[[], Any], count: int, seconds: float, seen: list[object]) -> list[float]:
    """What each act took that so many clients made in a window, s."""
    times: list[float] = []

    def act(seed: int) -> None:
        with client_of() as client, client.session(MODEL, seed=seed, planner=QUICK) as session:
            session.act(seen[0])
            until, step = time.perf_counter() + seconds, 0
            while (began := time.perf_counter()) < until:
                session.act(seen[step % len(seen)])
                times.append(time.perf_counter() - began)
                step += 1

    threads = [threading.Thread(target=act, args=(seed,)) for seed in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


if __name__ == "__main__":
    sys.exit(main())
