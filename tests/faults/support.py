"""A real ``thick serve`` in a process of its own, that can be killed, stopped and started again where it was."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from clients.connection import Tls
from clients.demo import free_ports, tail
from clients.grpc_client import GrpcPlanningClient
from clients.http_client import PlanningClient
from clients.retries import Retries
from thick import cli

PATIENT = Retries(attempts=10_000, total_s=600.0, first_pause_s=0.02, longest_pause_s=0.3)
"""of a client that outlives a server which is killed and started again"""
ONCE = Retries(attempts=1)
START_S = 240.0
"""how long a server may take to become ready where the test is not about that: machines are busy"""


class Server:
    """One server and its successors: the same ports, settings and store at every start.

    Use it as a context manager, which starts it and makes sure that no process stays behind.

    Args:
        repository: of models.
        folder: for the log.
        arguments: of the command line.
        forked: start from a process that has imported everything already, which takes a tenth of the time; else
            the command is run as an operator runs it.
        settings: ``THICK_*`` variables, by their names in lower case.
    """

    def __init__(
        self,
        repository: Path,
        folder: Path,
        *,
        arguments: tuple[str, ...] = (),
        forked: bool = True,
        **settings: Any,
    ) -> None:
        self.port, self.grpc_port = free_ports(2)
        self.log = folder / "serve.log"
        self._arguments = arguments
        self._forked = forked
        self._settings: dict[str, Any] = {
            "models": repository,
            "port": self.port,
            "grpc_port": self.grpc_port,
            "store": "memory://",
            "threads": 1,
            **settings,
        }
        self.process: subprocess.Popen[bytes] | ForkedProcess | None = None
        self.start_s = self.own_start_s = 0.0
        """how long the last start took, and how long of it was not for want of a core"""

    @property
    def url(self) -> str:
        """Where HTTP is answered."""
        return f"http{'s' if 'tls_cert' in self._settings else ''}://127.0.0.1:{self.port}"

    @property
    def grpc_url(self) -> str:
        """Where gRPC is answered."""
        return f"grpc{'s' if 'tls_cert' in self._settings else ''}://127.0.0.1:{self.grpc_port}"

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self.process is not None
        return self.process.pid

    @property
    def logged(self) -> str:
        """Everything that the server and its predecessors wrote."""
        return self.log.read_text(errors="replace")

    def client(self, **options: Any) -> PlanningClient:
        """An HTTP client; by default it tries once."""
        return PlanningClient(self.url, **{"retries": ONCE, **options})

    def grpc_client(self, **options: Any) -> GrpcPlanningClient:
        """A gRPC client; by default it tries once."""
        return GrpcPlanningClient(self.grpc_url, **{"retries": ONCE, **options})

    def http(self, **options: Any) -> httpx.Client:
        """HTTP as it is."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=30, **options)

    def launch(self) -> Server:
        """Start a process; it is not ready yet."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("THICK_")}
        environment |= {f"THICK_{name.upper()}": str(value) for name, value in self._settings.items()}
        if self._forked:
            self.process = ForkedProcess(self._arguments, environment, self.log)
            return self
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "thick", "serve", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        return self

    def start(self, *, tls: Tls | None = None, api_key: str | None = None) -> Server:
        """Start a process and wait until it is ready."""
        began = time.monotonic()
        self.launch()
        assert self.process is not None
        cores = Cores(self.pid)
        end = began + START_S
        with self.client(tls=tls, api_key=api_key) as client:
            while not client.ready():
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"the server is not ready:\n{tail(self.log, 40)}")
                time.sleep(0.02)
        self.start_s = time.monotonic() - began
        self.own_start_s = self.start_s - min(self.start_s, cores.waited)
        return self

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def ended(self, within_s: float = 30.0) -> int:
        """The exit status of a process that was told to end (minus a signal's number where that ended it)."""
        assert self.process is not None
        return self.process.wait(within_s)

    def kill(self) -> None:
        """``kill -9``"""
        self.signal(signal.SIGKILL)
        assert self.ended() == -signal.SIGKILL

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def figures(self) -> psutil.Process:
        """Memory, files and limits of the process."""
        return psutil.Process(self.pid)

    def stats(self, **options: Any) -> dict[str, Any]:
        """``GET /v1/stats``"""
        with self.http(**options) as http:
            answer: dict[str, Any] = http.get("/v1/stats").raise_for_status().json()
        return answer

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class ForkedProcess:
    """``thick serve``, forked from a process that has imported what it needs; as much of ``Popen`` as is used here."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str], log: Path) -> None:
        # As the command sets it, before torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["service.server", "tests.faults.support"])
        self._process = context.Process(target=_serve, args=(arguments, environment, log), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit status (minus a signal's number), or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once it has ended."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("thick serve", timeout or 0.0)
        return self._process.exitcode

    def kill(self) -> None:
        """``kill -9``"""
        self._process.kill()


def _serve(arguments: tuple[str, ...], environment: dict[str, str], log: Path) -> None:
    """What runs in a forked process."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    sink = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for descriptor in (1, 2):
        os.dup2(sink, descriptor)
    raise SystemExit(cli.main(["serve", *arguments]))


class Cores:
    """What a process had of the cores, and what it waited for them: so that a time measured on a busy machine
    tells what the program did with it.

    From ``/proc/PID/task/*/schedstat``: nanoseconds on a core, and runnable but waiting for one.
    """

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._began = time.monotonic()
        self._before = self._threads()

    def _threads(self) -> dict[str, tuple[float, float]]:
        found = {}
        for pid in self._pids:
            for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    used, waited, _ = stat.read_text().split()
                except OSError:
                    continue  # the thread has just ended
                found[str(stat)] = (int(used) / 1e9, int(waited) / 1e9)
        return found

    def _since(self) -> list[tuple[float, float]]:
        now = self._threads()
        before = self._before
        return [
            (used - before.get(name, (0, 0))[0], waited - before.get(name, (0, 0))[1])
            for name, (used, waited) in now.items()
        ]

    @property
    def used(self) -> float:
        """Seconds on a core since this was made, of all threads together."""
        return sum(used for used, _ in self._since())

    @property
    def waited(self) -> float:
        """Seconds that threads were ready to run but had no core, together."""
        return sum(waited for _, waited in self._since())

    @property
    def busiest(self) -> float:
        """The share of the time since this was made in which the busiest thread had something to do."""
        wanted = max((used + waited for used, waited in self._since()), default=0.0)
        return wanted / (time.monotonic() - self._began)


def until(true: Callable[[], Any], within_s: float = 20.0, *, what: str = "it never happened") -> Any:
    """Waits for something to become true, and returns it."""
    end = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < end, what
        time.sleep(0.005)
    return found


def observation(*numbers: int) -> np.ndarray:
    """The observation of the model ``arm`` that these numbers name; no two are alike."""
    return np.random.default_rng(numbers).standard_normal(7).astype(np.float32)
