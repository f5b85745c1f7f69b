"""Servers as processes of their own: started, waited for, their CPU time read, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
START_S = 180.0
"""how long a server may take to start (a loaded machine is slow)"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One server process (and its children).

    Args:
        name: for messages and the log's name.
        command: what follows the interpreter.
        port: HTTP port.
        health: path that answers 200 when the server is ready.
        folder: where its output goes.
        environment: variables in addition to this process's own.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        port: int,
        health: str,
        folder: Path,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self.log = folder / f"{name}.log"
        self._url = f"http://127.0.0.1:{port}{health}"
        # The same number of threads for everybody.
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                cwd=folder,
                env={**os.environ, **threads, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._tree: list[psutil.Process] = []

    def wait_ready(self) -> None:
        """Returns once the server answers.

        Raises:
            RuntimeError: it ended, or took too long; the message has the end of its log.
        """
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(self._url, timeout=5):
                    root = psutil.Process(self._process.pid)
                    self._tree = [root, *root.children(recursive=True)]
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        tail = self.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{self.name} did not start ({self._url}); its log ends:\n{tail}")

    def cpu_s(self) -> float:
        """CPU seconds that the server used so far, in all its processes."""
        total = 0.0
        for process in self._tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def rss_mb(self) -> float:
        """Memory of all its processes, in MB (pages that they share count more than once)."""
        total = 0
        for process in self._tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total / 1e6

    def stop(self) -> None:
        """End the server and what it started."""
        tree = {process.pid: process for process in self._tree}
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._process.pid)
            tree |= {process.pid: process for process in [root, *root.children(recursive=True)]}
        for process in tree.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(list(tree.values()), timeout=5)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)


def thick(
    models: Path,
    folder: Path,
    *,
    store: str | None = None,
    sync: str = "process",
    access_log: bool = False,
    workers: int = 1,
    name: str = "thick",
) -> tuple[Server, int]:
    """``thick serve`` and its gRPC port.

    Args:
        store: ``THICK_STORE``; None takes an SQLite file in the folder.
        sync: what its writes survive.
        workers: processes behind the same ports; more than one need Redis as the store.
    """
    port, grpc_port = free_port(), free_port()
    settings = {
        "THICK_MODELS": models,
        "THICK_PORT": port,
        "THICK_GRPC_PORT": grpc_port,
        "THICK_THREADS": 1,
        "THICK_WORKERS": workers,
        "THICK_STORE": store or f"sqlite:////{str(folder / name).lstrip('/')}.sqlite",
        "THICK_STORE_SYNC": sync,
        "THICK_ACCESS_LOG": int(access_log),
        "PYTHONPATH": ROOT,
    }
    server = Server(
        name,
        ["-m", "thick.cli", "serve"],
        port=port,
        health="/health/ready",
        folder=folder,
        environment={key: str(value) for key, value in settings.items()},
    )
    return server, grpc_port


def litserve(models: Path, folder: Path, *, workers: int = 1) -> Server:
    """LitServe, with batching.

    Args:
        workers: processes that run models, and as many that answer HTTP.
    """
    port = free_port()
    command = [str(HERE / "litserve_app.py"), "--models", str(models), "--port", str(port)]
    command += ["--workers", str(workers)]
    return Server(f"litserve-{workers}", command, port=port, health="/health", folder=folder)


def fastapi(models: Path, folder: Path) -> Server:
    """The plain FastAPI application."""
    port = free_port()
    command = [str(HERE / "fastapi_app.py"), "--models", str(models), "--port", str(port)]
    return Server("fastapi", command, port=port, health="/health", folder=folder)


def echo(models: Path, folder: Path) -> tuple[Server, int]:
    """The bare endpoints of ``echo_app.py`` and their gRPC port."""
    port, grpc_port = free_port(), free_port()
    command = [str(HERE / "echo_app.py"), "--models", str(models)]
    command += ["--port", str(port), "--grpc-port", str(grpc_port)]
    return Server("echo", command, port=port, health="/health", folder=folder), grpc_port


def work(endpoints: Server) -> list[float]:
    """What the engine took in the bare endpoints since this was asked last, s."""
    request = urllib.request.Request(f"http://127.0.0.1:{endpoints.port}/work", method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return [float(seconds) for seconds in json.load(answer)]


class Bare:
    """The process of ``bare.py``: acts without a server."""

    def __init__(self, models: Path, folder: Path) -> None:
        with (folder / "bare.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "bare.py"), "--models", str(models)],
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._log = folder / "bare.log"

    def wait_ready(self) -> None:
        """Returns once its models are loaded."""
        self._read()

    def run(
        self, model: str, method: str, level: str, sessions: int, seconds: float
    ) -> tuple[list[float], float]:
        """Latencies of acts one after the other and the CPU time of all, s; see ``bare.py``."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{model} {method} {level} {sessions} {seconds}\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._read())
        return answer["latencies"], answer["cpu_s"]

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(5)

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the bare engine ended:\n{self._log.read_text(errors='replace')[-2000:]}")
        return line
