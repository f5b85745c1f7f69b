"""A service on real sockets in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from service.core import PlanningService
from service.faces.http.app import create_app
from service.operations.tracing import Tracing
from service.server import _Server, _uvicorn, listen


@contextlib.asynccontextmanager
async def over_sockets(service: PlanningService, *, tracing: Tracing | None = None) -> AsyncIterator[int]:
    """Serves HTTP and WebSockets as the server process does, on a free port, which it gives."""
    listener = listen("127.0.0.1", 0, "--port")
    server = _Server(_uvicorn(service.settings, create_app(service, tracing=tracing)))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.005)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
