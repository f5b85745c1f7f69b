"""Thin clients of the THICK service, environment drivers and pictures of what models imagine; no torch.

    from clients import PlanningClient

    with PlanningClient("http://localhost:8000") as client, client.session("doorkey") as session:
        action = session.act(observation)

See docs/client.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

try:
    from thick.distribution import check_own, naming_neighbours
except ImportError as error:
    raise ImportError(
        f"{error}: Python finds another package or folder called `thick` before the one of thick-planner; see "
        "docs/installation.md"
    ) from error

if TYPE_CHECKING:
    from clients.asynchronous import AsyncDream, AsyncGrpcPlanningClient, AsyncPlanningClient, AsyncSession
    from clients.dream import Dream
    from clients.dream_envs import DreamEnv, DreamVectorEnv
    from clients.errors import ClientError, ServiceError
    from clients.grpc_client import GrpcPlanningClient
    from clients.http_client import PlanningClient
    from clients.session import Session

check_own("thick", "service")  # parts of both are imported below, and folders of these names are common

# Looked up when asked for: the base install has no grpcio, and listing commands needs no httpx.
_HOMES = {
    "AsyncDream": "clients.asynchronous.dream",
    "AsyncGrpcPlanningClient": "clients.asynchronous.grpc_client",
    "AsyncPlanningClient": "clients.asynchronous.http_client",
    "AsyncSession": "clients.asynchronous.session",
    "ClientError": "clients.errors",
    "Dream": "clients.dream",
    "DreamEnv": "clients.dream_envs",
    "DreamVectorEnv": "clients.dream_envs",
    "GrpcPlanningClient": "clients.grpc_client",
    "PlanningClient": "clients.http_client",
    "ServiceError": "clients.errors",
    "Session": "clients.session",
}

__all__ = [
    "AsyncDream",
    "AsyncGrpcPlanningClient",
    "AsyncPlanningClient",
    "AsyncSession",
    "ClientError",
    "Dream",
    "DreamEnv",
    "DreamVectorEnv",
    "GrpcPlanningClient",
    "PlanningClient",
    "ServiceError",
    "Session",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'clients' has no attribute {name!r}; it has {', '.join(__all__)}")
    with naming_neighbours("clients"):
        return getattr(importlib.import_module(_HOMES[name]), name)
