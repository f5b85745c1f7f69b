"""Where the runs of a sweep are worked on: processes of this machine, or a Ray cluster that sees the same folders."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from thick.distribution import install_command
from thick.sweeps.state import LOG

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""variables that say how many threads a process takes"""


class Pool(Protocol):
    """Works on folders of runs; see :mod:`thick.sweeps.worker`."""

    def free(self) -> bool:
        """Whether another run can be started."""

    def start(self, directory: Path, threads: int) -> None:
        """Work on the run in a folder."""

    def ended(self) -> dict[Path, int]:
        """Exit codes of the runs that have ended since the last call."""

    def ask_to_stop(self) -> None:
        """Every run is to save and stop."""

    def kill(self) -> None:
        """Every run is to end at once."""

    def close(self) -> None:
        """Give everything back."""


class Processes:
    """Processes on this machine.

    Args:
        jobs: how many at a time.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._running: dict[Path, subprocess.Popen[bytes]] = {}

    def free(self) -> bool:
        """Whether fewer than ``jobs`` are running."""
        return len(self._running) < self._jobs

    def start(self, directory: Path, threads: int) -> None:
        """Start its process; what it says goes into ``sweep.log``."""
        with open(directory / LOG, "ab") as log:
            self._running[directory] = subprocess.Popen(
                worker_command(directory),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(threads),
            )

    def ended(self) -> dict[Path, int]:
        """See :class:`Pool`."""
        codes = {path: process.poll() for path, process in self._running.items()}
        over = {path: code for path, code in codes.items() if code is not None}
        for path in over:
            del self._running[path]
        return over

    def ask_to_stop(self) -> None:
        """SIGTERM to every process."""
        for process in self._running.values():
            process.terminate()

    def kill(self) -> None:
        """SIGKILL to every process."""
        for process in self._running.values():
            process.kill()

    def close(self) -> None:
        """No process is left."""
        self.kill()
        for process in self._running.values():
            process.wait()


class RayPool:
    """A Ray cluster, which starts as many runs as it has processors for.

    Args:
        address: ``auto``, ``local`` (one on this machine, for as long as the sweep runs), or that of a cluster.

    Raises:
        ValueError: Ray is not installed, or no cluster answers there.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError:
            raise ValueError(
                f"--ray: the package 'ray' is not installed: {install_command('cluster')}"
            ) from None
        self._ray = ray
        attempts = 2 if address == "local" else 1  # on a busy machine it takes longer to start than Ray waits
        for left in reversed(range(attempts)):
            try:
                ray.init(
                    address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True
                )
                break
            except Exception as error:
                if left:
                    ray.shutdown()
                    continue
                text = str(error).strip().splitlines()[0]
                raise ValueError(
                    f"--ray {address}: {text}; start a cluster with: ray start --head"
                ) from error
        self._running: dict[Any, Path] = {}
        self._work = ray.remote(max_retries=2)(_work)

    def free(self) -> bool:
        """Ray keeps its own queue."""
        return True

    def start(self, directory: Path, threads: int) -> None:
        """Give the run to the cluster."""
        task = self._work.options(num_cpus=threads, name=directory.name)
        self._running[task.remote(str(directory.resolve()), os.getcwd(), threads)] = directory

    def ended(self) -> dict[Path, int]:
        """See :class:`Pool`."""
        if not self._running:
            return {}
        over, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0.0)
        codes = {}
        for task in over:
            try:
                code = int(self._ray.get(task))
            except self._ray.exceptions.TaskCancelledError:
                code = 130
            except self._ray.exceptions.RayError as error:
                code = 1
                print(f"{self._running[task]}: {error}", file=sys.stderr)
            codes[self._running.pop(task)] = code
        return codes

    def ask_to_stop(self) -> None:
        """Cancel what waits, and interrupt what runs, which saves."""
        for task in self._running:
            self._ray.cancel(task, force=False)

    def kill(self) -> None:
        """Cancel without waiting for anything to be saved."""
        for task in self._running:
            self._ray.cancel(task, force=True)

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()


def _work(directory: str, place: str, threads: int) -> int:
    """A run on a node of the cluster, in a process of its own: its number of threads is known before torch starts."""
    with open(Path(directory) / LOG, "ab") as log:
        process = subprocess.Popen(
            worker_command(Path(directory)), cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=environment(threads),
        )  # fmt: skip
        try:
            return process.wait()
        except KeyboardInterrupt:  # cancelled
            process.terminate()
            return process.wait()


def worker_command(directory: Path) -> list[str]:
    """The command that works on the run in a folder."""
    return [sys.executable, "-m", "thick.sweeps.worker", str(directory)]


def environment(threads: int) -> Mapping[str, str]:
    """Variables of a process that shall take so many threads."""
    return {**os.environ, **dict.fromkeys(THREADS, str(threads))}
