"""``thick serve --ray``: the same settings, deployed on Ray Serve."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import Any

import structlog

from service.cluster.exposure import grpc_refusal
from service.settings import Settings, SettingsError
from thick.distribution import install_command

log = structlog.get_logger("thick.cluster")

LOCAL = (
    "port", "grpc_port", "host", "workers", "replica", "ray", "replicas", "tls_cert", "tls_key",
)  # fmt: skip
"""settings of one process, which Ray takes care of"""
CONNECT_S = 5.0
SAID = 600
"""characters of Ray's own words that are passed on, from the end"""


def run_on_ray(settings: Settings) -> int:
    """Deploy, and serve until a signal.

    Raises:
        SettingsError: Ray is not there, the settings do not fit a cluster, or the service does not start on it.
    """
    try:
        import ray
        from ray import serve
        from ray.serve.config import HTTPOptions, gRPCOptions
    except ImportError as error:
        raise SettingsError(f"--ray needs Ray ({error}): {install_command('cluster')}") from error
    from service.cluster.deployment import application_of, replicas_of
    from service.cluster.grpc import SERVICER

    assert settings.ray is not None
    values = {name: getattr(settings, name) for name in settings.model_fields_set if name not in LOCAL}
    application = application_of(
        {**values, "models": settings.models.resolve(), "replicas": settings.replicas}
    )
    address = None if settings.ray == "local" else settings.ray
    # On one machine the replicas that were asked for start, also where they are more than its cores.
    cores = (
        None
        if address
        else max(os.cpu_count() or 1, replicas_of(settings.replicas)[1] * (settings.threads or 1))
    )
    tls = {
        name: str(path.resolve())
        for name, path in (("ssl_certfile", settings.tls_cert), ("ssl_keyfile", settings.tls_key))
        if path is not None
    }
    over_http = HTTPOptions(host=settings.host, port=settings.port, **tls)
    refusal = grpc_refusal(settings)
    over_grpc = None if refusal else gRPCOptions(port=settings.grpc_port, grpc_servicer_functions=[SERVICER])
    if address is not None:
        _check_reachable(address)
    try:
        ray.init(address=address or "local", num_cpus=cores, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SettingsError(f"--ray {settings.ray}: {_last(error)}") from error
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        try:
            serve.start(http_options=over_http, grpc_options=over_grpc)
            serve.run(application, name="thick", route_prefix=settings.root_path or "/")
        except (RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise SettingsError(
                f"the service does not start on Ray: {_reason(serve) or _last(error)}"
            ) from error
        if refusal:
            log.warning("no gRPC", reason=refusal)
        log.info(
            "listening",
            url=f"{'https' if tls else 'http'}://{settings.host}:{settings.port}{settings.root_path}",
            grpc=None if refusal else f"grpc://{settings.host}:{settings.grpc_port}",
            replicas=settings.replicas,
            ray=settings.ray,
        )
        stop.wait()
        log.info("draining")
        serve.delete("thick")
    finally:
        if address is None:
            serve.shutdown()
        ray.shutdown()
    return 0


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes.

    Raises:
        SettingsError: nothing listens at ``HOST:PORT``.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return  # auto, or a name that Ray looks up
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise SettingsError(f"--ray {address}: no Ray cluster there ({error})") from error


def _reason(serve: Any) -> str:
    """Why replicas do not start, as they said it themselves; empty where they said nothing."""
    try:
        deployments = serve.status().applications["thick"].deployments
    except Exception:  # Ray has ended, or knows nothing of it: its first words stand
        return ""
    said = [each.message.strip().rpartition("\n")[2] for each in deployments.values()]  # after its traceback
    return " ".join(filter(None, said))


def _last(error: Any) -> str:
    """The end of what Ray says, where the reason is."""
    text = str(error).strip() or type(error).__name__
    return text if len(text) <= SAID else "… " + text[-SAID:]
