"""The asynchronous clients: the methods of the blocking ones, to be awaited.

``carrier``, ``base``, ``session``, ``dream``, ``realtime``, ``http_client`` and ``grpc_client`` are the only source of
both: ``scripts/sync_clients.py`` writes the blocking modules of the same names in ``clients/`` from them. What waits by
other means in the two worlds stands in pairs of small modules: ``waiting``, ``opening``, ``grpc_transport``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clients.asynchronous.dream import AsyncDream
    from clients.asynchronous.grpc_client import AsyncGrpcPlanningClient
    from clients.asynchronous.http_client import AsyncPlanningClient
    from clients.asynchronous.opening import DreamOpening, SessionOpening
    from clients.asynchronous.session import AsyncSession

_HOMES = {
    "AsyncDream": "clients.asynchronous.dream",
    "AsyncGrpcPlanningClient": "clients.asynchronous.grpc_client",
    "AsyncPlanningClient": "clients.asynchronous.http_client",
    "AsyncSession": "clients.asynchronous.session",
    "DreamOpening": "clients.asynchronous.opening",
    "SessionOpening": "clients.asynchronous.opening",
}

__all__ = [
    "AsyncDream",
    "AsyncGrpcPlanningClient",
    "AsyncPlanningClient",
    "AsyncSession",
    "DreamOpening",
    "SessionOpening",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)
