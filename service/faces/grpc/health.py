"""The standard health service (grpc.health.v1): what ``GET /health/ready`` says, for gRPC's load balancers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.core import PlanningService
from service.protocol.errors import ProblemError
from service.protocol.protobuf import SERVICE_NAME, problem_metadata

LOOK_S = 0.1
"""seconds between looks at the state on behalf of those who watch it"""

_KNOWN = ("", SERVICE_NAME)
"""the server as a whole, and its one service"""
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):
    """``SERVING`` once every configured model is loaded and warm, until the server drains. Needs no key."""

    def __init__(self, service: PlanningService) -> None:
        self._service = service

    async def Check(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """The state now; ``NOT_FOUND`` for a service that is not here.

        Where it is not serving, the trailing metadata carry the problem that ``GET /health/ready`` answers with.
        """
        if request.service not in _KNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"service {request.service[:100]!r} is not here")
        try:
            self._service.check_ready()
        except ProblemError as problem:
            # The answer itself has no room for the reason.
            context.set_trailing_metadata(problem_metadata(problem, "/grpc.health.v1.Health/Check"))
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def List(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """The state of everything that has one."""
        statuses = {name: health_pb2.HealthCheckResponse(status=self._status(name)) for name in _KNOWN}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(self, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        """The state now and whenever it changes; ends when the server drains."""
        last = None
        while True:
            draining = self._service.draining
            status = self._status(request.service)
            if status != last:
                last = status
                yield health_pb2.HealthCheckResponse(status=status)
            if draining:
                return
            await asyncio.sleep(LOOK_S)

    def _status(self, name: str) -> Any:
        if name not in _KNOWN:
            return _UNKNOWN
        return _SERVING if self._service.ready else _NOT_SERVING
