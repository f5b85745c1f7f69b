"""What routes share: the service behind a request, and work that stops when the client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from service.core import PlanningService
from service.faces.http.bodies import Body, Incoming, read_body
from service.faces.http.waiting import once_waiting
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
    watch = _Watch(request)
    try:
        return await once_waiting(work, watch.begin)
    except asyncio.CancelledError:
        if not watch.client_left:
            raise
        watch.forgive()
        raise ProblemError("cancelled", "the client closed the connection") from None
    finally:
        watch.stop()


class _Watch:
    """Cancels a task when the client of a request is gone; looks only after a while, since most requests are
    answered sooner than that."""

    __slots__ = ("_gone", "_request", "_task", "_timer", "client_left")

    def __init__(self, request: Incoming) -> None:
        self.client_left = False
        self._request = request
        self._task: asyncio.Task[Any] | None = None
        self._gone: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The running task waits from now on."""
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(LOOK_AFTER_S, self._start)

    def forgive(self) -> None:
        """The task goes on although it was cancelled."""
        assert self._task is not None
        self._task.uncancel()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._gone is not None:
            self._gone.remove_done_callback(self._left)
            self._gone.cancel()

    def _start(self) -> None:
        self._gone = asyncio.ensure_future(_disconnected(self._request))
        self._gone.add_done_callback(self._left)

    def _left(self, _: asyncio.Task[None]) -> None:
        self.client_left = True
        assert self._task is not None
        self._task.cancel()


async def _disconnected(request: Incoming) -> None:
    """Returns once the client is gone; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
