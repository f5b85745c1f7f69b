"""A replica under Ray Serve, and the application that ``serve deploy deploy/serve.yaml`` and ``thick serve --ray`` run.

Each replica is the whole service behind Ray's proxies. A session sticks to a replica by the header ``x-session-id``,
or gRPC metadata ``session_id`` (consistent hashing by Ray's request router), so that its state stays where it is; any
other replica takes it from Redis, where revisions refuse whoever is late.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr
from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig

from service.cluster.grpc import ProxiedMethods, add_to_replica
from service.core import PlanningService
from service.faces.http.app import create_app
from service.operations.logs import configure_logging
from service.operations.tracing import Tracing
from service.settings import Settings, SettingsError
from service.settings import build as settings_of

ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
ONGOING = 256
"""requests that a replica has at once at most; Ray keeps the rest"""
TARGET = 16
"""requests that a replica should have at once: more of them, more replicas"""


class Replica:
    """One replica: its own engine and models.

    Args:
        values: of the settings, by name.
    """

    async def __init__(self, values: Mapping[str, Any]) -> None:  # type: ignore[misc]
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        name = serve.get_replica_context().replica_id.unique_id
        settings = Settings(**{**values, "replica": name})
        configure_logging(settings)
        self.tracing = Tracing(settings)
        self.service = await PlanningService.create(settings)
        self.methods = ProxiedMethods(self.service, self.tracing)
        await self.service.start()
        await self.service.loaded()
        self.service.check_ready()  # else the replica does not start, and Ray says why

    def __serve_build_asgi_app__(self) -> Any:
        return create_app(self.service, tracing=self.tracing)

    async def check_health(self) -> None:
        """Asked by Ray every few seconds; a replica that fails it is replaced."""
        if not self.service.engine.alive:
            raise RuntimeError("the engine's worker has ended")

    async def __del__(self) -> None:
        service = getattr(self, "service", None)
        if service is not None and not service.draining:
            await service.drain(service.settings.drain_s)
            await service.stop()
            self.tracing.shutdown()


add_to_replica(Replica)
_deployment: Any = serve.deployment(serve.ingress()(Replica))


def build(values: Mapping[str, Any]) -> serve.Application:
    """The application of a config file (``serve deploy``), where Ray says on which addresses it can be reached.

    Args:
        values: as of :func:`application_of`.

    Raises:
        SettingsError: as of :func:`application_of`; or there are no keys, and nobody said that this is wanted.
    """
    settings = _settings(values)
    if not (settings.api_keys or settings.admin_keys or settings.allow_anonymous):
        raise SettingsError(
            "no keys are set, and Ray's proxies can be reached from other machines: set THICK_API_KEYS (env_vars), or "
            "say allow_anonymous: true"
        )
    return application_of(values)


def application_of(values: Mapping[str, Any]) -> serve.Application:
    """The application, of settings by their names (``models``, ``store``, …) and of how it is deployed.

    Args:
        values: settings of ``thick serve``; besides them ``replicas``: a number, or ``2..8`` for as many as are needed.

    Raises:
        SettingsError: replicas could not share sessions, or a setting is wrong.
    """
    given = dict(values)
    least, most = replicas_of(str(given.pop("replicas", "1")))
    settings = _settings(given)
    if not settings.shares_sessions:
        raise SettingsError("replicas share sessions through Redis: set store to redis://HOST:PORT/DB")
    options: dict[str, Any] = {
        "name": "thick",
        "max_ongoing_requests": ONGOING,
        "graceful_shutdown_timeout_s": settings.drain_s + 5,
        "health_check_period_s": 5,
        "ray_actor_options": {
            "num_cpus": settings.threads or 1,
            "num_gpus": 1 if settings.device.startswith("cuda") else 0,
        },
        "request_router_config": RequestRouterConfig(request_router_class=ROUTER),
    }
    if least == most:
        options["num_replicas"] = least
    else:
        options["autoscaling_config"] = AutoscalingConfig(
            min_replicas=least, max_replicas=most, target_ongoing_requests=TARGET
        )
    plain = {name: plain_value(value) for name, value in given.items()}
    application: serve.Application = _deployment.options(**options).bind(plain)
    return application


def _settings(values: Mapping[str, Any]) -> Settings:
    return settings_of({name: value for name, value in values.items() if name != "replicas"})


def plain_value(value: Any) -> Any:
    """A setting as it travels to replicas, keys included."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, (list, tuple)):
        return [plain_value(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def replicas_of(text: str) -> tuple[int, int]:
    """``2`` or ``2..8``.

    Raises:
        SettingsError: it is neither.
    """
    least, _, most = text.partition("..")
    try:
        found = int(least), int(most or least)
    except ValueError:
        found = 0, 0
    if not 1 <= found[0] <= found[1] <= 1000:
        raise SettingsError(f"replicas: expected a number, or two as in 2..8, got {text!r}")
    return found
