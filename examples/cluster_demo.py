"""Drives sessions through replicas under Ray Serve, kills one of them, and says what was lost.

    make cluster-demo
    python examples/cluster_demo.py --sessions 32 --replicas 2 --steps 20

Starts a Redis and a Ray of its own. Each session's actions are compared with those of an undisturbed service.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from clients import PlanningClient
from clients.demo import free_ports, service, stop
from clients.retries import Retries

ROOT = Path(__file__).resolve().parents[1]
MODEL = "cartpole"
PLANNER = {"samples": 64, "iterations": 1, "elites": 8}
PATIENT = Retries(attempts=10_000, total_s=300.0, first_pause_s=0.05, longest_pause_s=0.5)


def main(argv: Sequence[str] | None = None) -> int:
    """0 where nothing was lost, repeated or different."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        print("what an undisturbed service does ...")
        with service(ROOT / "checkpoints", folder / "alone.log") as client:
            expected = [episode(client, seed, options.steps, []) for seed in range(options.sessions)]
        print(f"starting Redis, Ray and {options.replicas} replicas ...")
        url = stack.enter_context(cluster(folder, options.replicas))
        answered: list[float] = []
        found: dict[int, list[bytes]] = {}
        threads = [
            threading.Thread(target=play, args=(url, seed, options.steps, answered, found))
            for seed in range(options.sessions)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        while len(answered) < options.sessions * options.steps // 3:
            time.sleep(0.01)
        victim = replicas()[0]
        print(f"{len(answered)} steps are answered; kill -9 of replica {victim.pid}")
        victim.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
    wrong = [seed for seed in range(options.sessions) if found.get(seed) != expected[seed]]
    steps = options.sessions * options.steps
    gaps = np.diff(sorted(answered))
    print(
        f"{steps} steps of {options.sessions} sessions in {took:.1f} s; the longest time without an answer was "
        f"{1e3 * gaps.max():.0f} ms"
    )
    print(
        f"lost, repeated or different: {len(wrong)} sessions"
        + (f" ({wrong})" if wrong else ": nothing was lost")
    )
    return 1 if wrong else 0


def episode(client: PlanningClient, seed: int, steps: int, answered: list[float]) -> list[bytes]:
    """What a session does, as bytes."""
    rng = np.random.default_rng(seed)
    made = []
    with client.session(MODEL, seed=seed, planner=PLANNER) as session:
        for _ in range(steps):
            seen = {
                "position": rng.standard_normal(3).astype(np.float32),
                "velocity": rng.standard_normal(2).astype(np.float32),
            }
            made.append(np.asarray(session.act(seen)).tobytes())
            answered.append(time.monotonic())
    return made


def play(url: str, seed: int, steps: int, answered: list[float], found: dict[int, Any]) -> None:
    """One session through the cluster."""
    with PlanningClient(url, retries=PATIENT) as client:
        found[seed] = episode(client, seed, steps, answered)


@contextlib.contextmanager
def cluster(folder: Path, count: int, grpc_port: int | None = None) -> Iterator[str]:
    """Redis and replicas; their address once all of them answer.

    Args:
        grpc_port: port of Ray's gRPC proxy, on every address of this machine; None starts none.
    """
    (port,) = free_ports(1)
    command = [
        sys.executable,
        "-m",
        "thick",
        "serve",
        "--models",
        str(ROOT / "checkpoints"),
        "--threads",
        "1",
    ]
    command += ["--ray", "local", "--replicas", str(count), "--port", str(port)]
    if grpc_port is not None:
        command += ["--grpc-port", str(grpc_port), "--allow-anonymous"]
    with redis(folder) as store, (folder / "serve.log").open("wb") as log:
        command += ["--store", store]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        url = f"http://127.0.0.1:{port}"
        try:
            began = time.monotonic()
            while not ready(url, count):
                if process.poll() is not None or time.monotonic() - began > 180:
                    raise SystemExit(
                        "the cluster did not start:\n" + (folder / "serve.log").read_text()[-3000:]
                    )
                time.sleep(0.5)
            print(f"ready after {time.monotonic() - began:.0f} s")
            yield url
        finally:
            stop(process)


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis of its own, which keeps every write; its address as a store."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is missing: as root, apt-get install redis-server")
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [program, "--port", str(port), "--dir", str(folder), "--appendonly", "yes", "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


def ready(url: str, count: int) -> bool:
    """Whether so many replicas answer."""
    names = set()
    for attempt in range(8 * count):
        try:
            answer = httpx.get(
                url + "/health/ready", headers={"x-session-id": str(attempt)}, trust_env=False, timeout=10
            )
        except httpx.HTTPError:
            return False
        if answer.status_code == 200:
            names.add(answer.headers["thick-replica"])
    return len(names) == count


def replicas() -> list[psutil.Process]:
    """The processes of the replicas on this machine."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "ServeReplica:thick" in " ".join(process.info["cmdline"] or [])
    ]


if __name__ == "__main__":
    sys.exit(main())
