"""A service with both faces in a thread of its own, for clients that wait for their answers."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from service.core import PlanningService
from tests.service.grpc_support import over_grpc
from tests.service.sockets import over_sockets
from tests.service.support import running


class Live:
    """A running service.

    Args:
        repository: its models.
        changes: settings.
    """

    def __init__(self, repository: Path, **changes: Any) -> None:
        self._repository = repository
        self._changes = changes
        self.start()

    def start(self) -> None:
        """Start, and wait until it is ready; on ports that are new each time."""
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="live")
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End it in order."""
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    def restart(self) -> None:
        """End it in order and start it again with what it stored."""
        self.stop()
        self.start()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        async with (
            running(self._repository, **self._changes) as service,
            over_sockets(service) as port,
            over_grpc(service) as asking,
        ):
            self.service: PlanningService = service
            self.http = f"http://127.0.0.1:{port}"
            self.grpc = f"grpc://127.0.0.1:{asking.server.port}"
            self._started.set()
            await self._ending.wait()
