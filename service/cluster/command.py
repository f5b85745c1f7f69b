"""``thick serve --ray``: the same settings, deployed on Ray Serve."""

from __future__ import annotations

import os
import signal
import threading

import structlog

from service.settings import Settings, SettingsError
from thick.distribution import install_command

log = structlog.get_logger("thick.cluster")

LOCAL = ("port", "grpc_port", "host", "workers", "replica", "ray", "replicas")
"""settings of one process, which Ray takes care of"""


def run_on_ray(settings: Settings) -> int:
    """Deploy, and serve until a signal.

    Raises:
        SettingsError: Ray is not there, or the settings do not fit a cluster.
    """
    try:
        import ray
        from ray import serve
        from ray.serve.config import HTTPOptions
    except ImportError as error:
        raise SettingsError(f"--ray needs Ray ({error}): {install_command('cluster')}") from error
    from service.cluster.deployment import build, replicas_of

    assert settings.ray is not None
    values = {name: getattr(settings, name) for name in settings.model_fields_set if name not in LOCAL}
    application = build({**values, "models": settings.models.resolve(), "replicas": settings.replicas})
    address = None if settings.ray == "local" else settings.ray
    # On one machine the replicas that were asked for start, also where they are more than its cores.
    cores = (
        None
        if address
        else max(os.cpu_count() or 1, replicas_of(settings.replicas)[1] * (settings.threads or 1))
    )
    ray.init(address=address, num_cpus=cores, log_to_driver=False, configure_logging=False)
    serve.start(http_options=HTTPOptions(host=settings.host, port=settings.port))
    serve.run(application, name="thick", route_prefix=settings.root_path or "/")
    log.info(
        "listening",
        url=f"http://{settings.host}:{settings.port}",
        replicas=settings.replicas,
        ray=settings.ray,
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    log.info("draining")
    serve.delete("thick")
    if address is None:
        serve.shutdown()
        ray.shutdown()
    return 0
