"""What routes share: the service behind a request, and work that stops when the client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from service.core import PlanningService
from service.faces.http.bodies import Body, Incoming, read_body
from service.protocol.errors import ProblemError

Result = TypeVar("Result")

LOOK_AFTER_S = 0.05
"""a request that takes longer is cancelled when its client closes the connection, s"""


def service_of(request: Incoming) -> PlanningService:
    """The service behind the application."""
    service: PlanningService = request.scope["app"].state.service
    return service


async def body_of(request: Incoming, *, optional: bool = False) -> Body:
    """The decoded body."""
    service = service_of(request)
    return await read_body(
        request, service.limits, timeout_s=service.settings.body_timeout_s, optional=optional
    )


async def while_connected(request: Incoming, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of ``work``, which is cancelled when the client closes the connection.

    Raises:
        ProblemError: ``cancelled``; nobody reads it, but the log and the metrics do.
    """
    task = asyncio.current_task()
    assert task is not None
    watch = _Watch(request, task)
    try:
        return await work
    except asyncio.CancelledError:
        if not watch.client_left:
            raise
        task.uncancel()
        raise ProblemError("cancelled", "the client closed the connection") from None
    finally:
        watch.stop()


class _Watch:
    """Cancels a task when the client of a request is gone; looks only after a while, since most requests are
    answered sooner than that."""

    __slots__ = ("_gone", "_request", "_task", "_timer", "client_left")

    def __init__(self, request: Incoming, task: asyncio.Task[Any]) -> None:
        self.client_left = False
        self._request = request
        self._task = task
        self._gone: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(LOOK_AFTER_S, self._start)

    def stop(self) -> None:
        self._timer.cancel()
        if self._gone is not None:
            self._gone.remove_done_callback(self._left)
            self._gone.cancel()

    def _start(self) -> None:
        self._gone = asyncio.ensure_future(_disconnected(self._request))
        self._gone.add_done_callback(self._left)

    def _left(self, _: asyncio.Task[None]) -> None:
        self.client_left = True
        self._task.cancel()


async def _disconnected(request: Incoming) -> None:
    """Returns once the client is gone; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
