"""Two replicas under Ray Serve on this machine, over a Redis of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from clients.demo import free_ports, stop, tail
from tests.faults.stores import RedisServer
from tests.service.support import write_model

READY_S = 180.0


@dataclass
class Cluster:
    """Where it answers, and what it runs on."""

    url: str
    grpc: str
    redis: RedisServer
    log: Path

    def replicas(self) -> list[psutil.Process]:
        """Their processes."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if "ServeReplica:thick" in " ".join(process.info["cmdline"] or []):
                found.append(process)
        return found

    def ready(self, replicas: int) -> bool:
        """Whether so many replicas answer."""
        names = set()
        with httpx.Client(base_url=self.url, trust_env=False, timeout=10) as http:
            for attempt in range(8 * replicas):
                try:
                    answer = http.get("/health/ready", headers={"x-session-id": str(attempt)})
                except httpx.HTTPError:
                    return False
                if answer.status_code == 200:
                    names.add(answer.headers["thick-replica"])
        return len(names) == replicas

    def wait_ready(self, replicas: int, within_s: float = 120) -> None:
        """Returns when so many replicas answer, such as after Ray has started another one."""
        until = time.monotonic() + within_s
        while not self.ready(replicas):
            assert time.monotonic() < until, tail(self.log, 40)
            time.sleep(1)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``arm`` alone, which is quick to load."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "arm", observation="vector", action="continuous")
    return folder


@pytest.fixture(scope="package")
def cluster(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """``thick serve --ray local --replicas 2``."""
    folder = tmp_path_factory.mktemp("cluster")
    port, grpc_port = free_ports(2)
    log = folder / "serve.log"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("THICK_", "RAY_"))
    }
    environment["RAY_ADDRESS"] = "127.0.0.1:1"  # of another cluster, which --ray local does not ask
    with RedisServer(folder) as redis, log.open("wb") as sink:
        command = [sys.executable, "-m", "thick", "serve", "--models", str(repository), "--ray", "local"]
        command += ["--replicas", "2", "--threads", "1", "--store", redis.url, "--port", str(port)]
        command += ["--grpc-port", str(grpc_port), "--allow-anonymous", "--watch-sessions"]
        process = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        made = Cluster(f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}", redis, log)
        try:
            until = time.monotonic() + READY_S
            while not made.ready(2):
                assert process.poll() is None and time.monotonic() < until, tail(log, 40)
                time.sleep(0.5)
            yield made
        finally:
            stop(process)
