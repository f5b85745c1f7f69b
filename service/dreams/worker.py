"""What is computed for dreams, on the engine's worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import TypeVar

import numpy as np

from service.dreams.answers import SHOWN
from service.dreams.dream import Dream, DreamStates
from service.engine.dreams import DreamJob
from service.engine.engine import Engine
from service.engine.jobs import EngineStopped
from service.models.hosted import Hosted
from service.protocol.errors import ProblemError
from thick.runtimes.protocol import DreamtStep

Result = TypeVar("Result")


class DreamWorker:
    """Asks the engine; what it cannot do is a ``ProblemError``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def run(self, function: Callable[[], Result]) -> Result:
        """Something on the engine's worker."""
        try:
            made: Result = await self._engine.call(function)
            return made
        except EngineStopped as error:
            raise ProblemError("draining", str(error), retry_after=5.0) from error

    async def begun(
        self,
        hosted: Hosted,
        dream: Dream,
        starts: np.ndarray | None,
        at: np.ndarray,
        *,
        seed: int | None = None,
    ) -> np.ndarray:
        """Environments ``at`` as they begin."""
        if starts is not None:
            return np.ascontiguousarray(starts[at])
        if not len(at):
            return np.empty((0, hosted.runtime.dreams.layout.row_bytes), np.uint8)
        keys = dream.keys(seed)[at]
        return await self.run(lambda: hosted.runtime.dreams.begin(keys, sample=dream.sample))

    async def moved(
        self,
        hosted: Hosted,
        dream: Dream,
        states: DreamStates,
        actions: np.ndarray,
        include: Collection[str],
        at: np.ndarray | slice,
    ) -> DreamtStep:
        """A step of the environments ``at``; ``include`` as a request has it."""
        loop = asyncio.get_running_loop()
        job = DreamJob(
            model=hosted,
            loop=loop,
            future=loop.create_future(),
            rows=states.rows[at],
            actions=actions[at],
            keys=dream.keys()[at],
            sample=dream.sample,
            include=frozenset(
                name for name, parts in (("observation", SHOWN), ("value", {"value"})) if parts & set(include)
            ),
        )
        try:
            made: DreamtStep = await self._engine.dream(job)
            return made
        except EngineStopped as error:
            raise ProblemError("draining", str(error), retry_after=5.0) from error
        except Exception as error:
            raise ProblemError("internal", "dreaming failed; nothing has changed") from error
