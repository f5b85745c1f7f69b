"""The process: sockets, signals, and the order in which things start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import structlog
import uvicorn

from service.core import PlanningService
from service.faces.grpc.server import GrpcServer
from service.faces.http.app import create_app
from service.faces.http.connections import connection_type, drop_silent_peers
from service.operations import memory
from service.operations.logs import configure_logging
from service.operations.tracing import Tracing
from service.settings import Settings, SettingsError, unknown_variables
from service.workers import run_workers
from thick.runtimes.backends import check_backend
from thick.runtimes.protocol import BackendError

log = structlog.get_logger("thick.server")

BACKLOG = 2048
MAX_FILES = 65_536
KEEP_ALIVE_S = 75
"""idle connections are kept this long: longer than the 60 s of most proxies, so that they close first"""
POLL_S = 0.02
"""between looks whether the models are loaded"""
FLUSH_S = 1.0
"""how long answers that are made may take to leave when the server stops"""


def run(settings: Settings) -> int:
    """Serve until a signal; 0 after an orderly end.

    Raises:
        SettingsError: something the operator set cannot be used.
    """
    configure_logging(settings)
    for name, near in unknown_variables(os.environ).items():
        log.warning("a variable is no setting", variable=name, advice=f"did you mean {near}?")
    check(settings)
    if settings.ray is not None:
        from service.cluster.command import run_on_ray

        return run_on_ray(settings)
    return run_workers(settings, _run) if settings.workers > 1 else _run(settings)


def _run(settings: Settings) -> int:
    """One process."""
    memory.share_heaps()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve(settings))


def check(settings: Settings) -> None:
    """What can be known to be wrong before anything starts.

    Raises:
        SettingsError: the message says what to change.
    """
    if not settings.models.is_dir():
        raise SettingsError(
            f"--models {settings.models}: there is no such folder; it holds NAME/VERSION entries"
        )
    if not os.access(settings.models, os.R_OK | os.X_OK):
        raise SettingsError(f"--models {settings.models}: the folder may not be read")
    try:
        check_backend(settings.backend, settings.device)
    except BackendError as error:
        raise SettingsError(f"--backend {settings.backend}: {error}") from error
    if settings.device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise SettingsError(f"--device {settings.device}: torch sees no GPU here; leave it at cpu")
    for name in ("tls_cert", "tls_key"):
        path = getattr(settings, name)
        if path is not None and not os.access(path, os.R_OK):
            raise SettingsError(f"--{name.replace('_', '-')} {path}: cannot be read")


async def serve(settings: Settings) -> int:
    """The whole life of the server."""
    began = time.monotonic()
    allow_many_connections()
    ports = _Ports(settings) if settings.workers == 1 else None
    service = await PlanningService.create(settings)
    tracing = Tracing(settings)
    await service.start()
    server = _Server(_uvicorn(settings, create_app(service, tracing=tracing)))
    stopping = _Stopping(service, server, settings.drain_s)
    stopping.install()
    if ports is None:
        # The kernel gives a connection to any worker that listens: none does before its models are loaded.
        await stopping.or_done(service.loaded())
        ports = _Ports(settings)
    await ports.grpc.start(service, tracing)
    ports.announce(settings, seconds=time.monotonic() - began)
    announcing = asyncio.create_task(_announce(service, began))
    try:
        await server.serve(sockets=[ports.http])
    finally:
        announcing.cancel()
        orderly = await stopping.drained()
        await ports.grpc.stop(FLUSH_S)
        kept = len(service.sessions) if service.journal.store.durable else 0
        await service.stop()
        tracing.shutdown()
        log.info("stopped", sessions_kept=kept, orderly=orderly)
    return 0


class _Ports:
    """Both ports of a process, listened on.

    Raises:
        SettingsError: an address or a certificate cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.http = listen(settings.host, settings.port, "--port", shared=settings.workers > 1)
        drop_silent_peers(self.http, settings.unread_timeout_s)
        self.grpc = GrpcServer(settings)

    def announce(self, settings: Settings, *, seconds: float) -> None:
        """One line that says where."""
        scheme = "https" if settings.tls_cert else "http"
        host, port = self.http.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.info(
            "listening",
            url=f"{scheme}://{shown}:{port}",
            grpc=f"{'grpcs' if self.grpc.secure else 'grpc'}://{shown}:{self.grpc.port}",
            docs=f"{scheme}://{shown}:{port}/docs",
            models=str(settings.models),
            seconds=round(seconds, 2),
        )


def allow_many_connections() -> None:
    """Each connection is an open file, and shells allow few of them unless asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen(host: str, port: int, flag: str, *, shared: bool = False) -> socket.socket:
    """A listening socket.

    Args:
        shared: with other workers, which the kernel gives connections to in turn.

    Raises:
        SettingsError: the address cannot be used.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"{host}:{port} cannot be listened on ({error.strerror}); choose another {flag}"
        ) from error
    listener.set_inheritable(False)
    return listener


def _uvicorn(settings: Settings, app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=connection_type(settings.head_timeout_s),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        ws_max_size=settings.max_body_bytes,
        # Those that are cancelled after drain_s still get their answer.
        timeout_graceful_shutdown=math.ceil(settings.drain_s + FLUSH_S),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


class _Server(uvicorn.Server):
    """Leaves the signals to us: uvicorn would raise them again at the end, and the exit code be theirs."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Stopping:
    """The first signal drains, the second ends the process at once."""

    def __init__(self, service: PlanningService, server: uvicorn.Server, drain_s: float) -> None:
        self._service = service
        self._server = server
        self._drain_s = drain_s
        self._draining: asyncio.Task[bool] | None = None

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    async def or_done(self, awaited: Coroutine[Any, Any, None]) -> None:
        """Returns when it has come to its end, or when a signal ends the service before that."""
        done = asyncio.create_task(awaited)
        while not done.done() and self._draining is None:
            await asyncio.wait([done], timeout=POLL_S)
        done.cancel()

    async def drained(self) -> bool:
        """Returns when nothing runs any more; False if something had to be cancelled for that."""
        self._begin()
        assert self._draining is not None
        return await self._draining

    def _begin(self) -> None:
        self._service.draining = True
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._service.drain(self._drain_s))

    def _on_signal(self, number: int) -> None:
        if self._draining is not None:
            # Whatever was answered is in the store already; what runs is cancelled.
            log.warning("stopping at once")
            os._exit(128 + number)
        log.info("draining", signal=signal.Signals(number).name, advice="signal again to stop at once")
        self._begin()
        self._server.should_exit = True


async def _announce(service: PlanningService, began: float) -> None:
    """One line when requests can be answered."""
    while not service.ready:
        await asyncio.sleep(POLL_S)
    ready = [
        f"{hosted.name}/{hosted.version}" for hosted in service.repository.all() if hosted.state == "ready"
    ]
    log.info("ready", models=ready, seconds=round(time.monotonic() - began, 2))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop
