"""Several processes behind one port (``thick serve --workers N``): the first lifts the bound of one interpreter lock.

The parent holds the ports, starts the workers, starts one again that died, and passes signals on. The kernel gives each
connection to one of them (``SO_REUSEPORT``); a session may be asked of any worker, since all keep it in one Redis.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import structlog

from service.settings import Settings, SettingsError

log = structlog.get_logger("thick.workers")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""that end the service in order"""
PR_SET_PDEATHSIG = 1
"""of prctl(2)"""
AGAIN_S = 0.5
"""before a worker that died is started again, s"""
SOON_S = 5.0
"""a worker that ends by itself this soon would do so again, s"""


def run_workers(settings: Settings, serve: Callable[[Settings], int]) -> int:
    """Serve with ``settings.workers`` processes until a signal; 0 after an orderly end.

    Args:
        serve: what one worker does with its settings; returns its exit status.

    Raises:
        SettingsError: a port cannot be had.
    """
    held = [
        reserve(settings.host, port, flag)
        for port, flag in ((settings.port, "--port"), (settings.grpc_port, "--grpc-port"))
    ]
    ports = {"port": held[0].getsockname()[1], "grpc_port": held[1].getsockname()[1]}
    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.workers)
    each = settings.model_copy(update={**ports, "threads": threads})
    try:
        return _Parent(each, serve).run()
    finally:
        for port in held:
            port.close()


class _Parent:
    def __init__(self, settings: Settings, serve: Callable[[Settings], int]) -> None:
        self._settings, self._serve = settings, serve
        self._workers: dict[int, tuple[int, float]] = {}
        """number and start of each process"""
        self._stopping = False

    def run(self) -> int:
        before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            log.info(
                "workers",
                workers=self._settings.workers,
                port=self._settings.port,
                grpc_port=self._settings.grpc_port,
            )
            for number in range(self._settings.workers):
                self._start(number)
            return self._watch()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, number: int) -> None:
        # A signal that comes just now waits: the parent's handler must not run in the worker, which would never stop.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._workers[pid] = number, time.monotonic()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return
        status = 1
        try:
            for each in SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            end_with(parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            status = self._serve(self._settings.model_copy(update={"replica": f"worker-{number}"}))
        except SettingsError as error:
            for line in str(error).splitlines():
                log.error("a worker cannot start", reason=line)
            status = 2
        finally:
            os._exit(status)

    def _watch(self) -> int:
        """Until the last worker has ended."""
        worst = 0
        while self._workers:
            try:
                pid, waited = os.wait()
            except InterruptedError:
                continue
            if pid not in self._workers:
                continue
            number, began = self._workers.pop(pid)
            status = os.waitstatus_to_exitcode(waited)
            if self._stopping:
                # Told to end before it served, a worker is ended by the signal: there was nothing to bring to an end.
                worst = worst or (0 if -status in SIGNALS else abs(status))
                continue
            log.error("a worker ended", worker=number, status=status)
            if status == 2 or (status > 0 and time.monotonic() - began < SOON_S):  # it would again
                self._stop(signal.SIGTERM)
                worst = status
                continue
            time.sleep(AGAIN_S)
            if not self._stopping:
                self._start(number)
        return worst

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._stopping:
            self._tell(signal.SIGKILL)
            os._exit(128 + number)
        self._stop(number)

    def _stop(self, number: int) -> None:
        self._stopping = True
        self._tell(number)

    def _tell(self, number: int) -> None:
        for pid in list(self._workers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def end_with(parent: int) -> None:
    """Have the kernel end this process in order when its parent dies without a word (``kill -9``): nobody else would,
    and it would keep the ports. Linux alone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before that
        os._exit(1)


def reserve(host: str, port: int, flag: str) -> socket.socket:
    """A socket that keeps a port for others with ``SO_REUSEPORT``, and takes no connection itself.

    Raises:
        SettingsError: somebody has it, or the address cannot be used.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if port:  # alone: with SO_REUSEPORT, another server's port of that kind would be shared
            with socket.socket(family, kind, proto) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
        held = socket.socket(family, kind, proto)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except OSError as error:
        raise SettingsError(
            f"{host}:{port} cannot be listened on ({error.strerror}); choose another {flag}"
        ) from error
    held.set_inheritable(False)
    return held
