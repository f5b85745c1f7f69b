"""What routes share: the service behind a request, and work that stops when the client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog
from starlette.requests import Request

from service.core import PlanningService
from service.protocol.errors import ProblemError
from service.wire import read_body

Result = TypeVar("Result")


def service_of(request: Request) -> PlanningService:
    """The service behind the application."""
    service: PlanningService = request.app.state.service
    return service


async def body_of(request: Request, *, optional: bool = False) -> tuple[Any, float]:
    """The decoded body and the seconds that decoding took."""
    service = service_of(request)
    return await read_body(
        request, service.limits, timeout_s=service.settings.body_timeout_s, optional=optional
    )


def name_session(session_id: str) -> None:
    """Put the session's id into every log line of this request."""
    structlog.contextvars.bind_contextvars(session_id=session_id[:64])


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of ``work``, which is cancelled when the client closes the connection.

    Raises:
        ProblemError: ``cancelled``; nobody reads it, but the log and the metrics do.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ProblemError("cancelled", "the client closed the connection")
    finally:
        gone.cancel()
        task.cancel()


async def _disconnected(request: Request) -> None:
    """Returns once the client is gone; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
