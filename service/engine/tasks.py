"""What the engine's worker runs slice by slice: imaginations and single calls. (Plans:
``service.engine.batches``, dreams: ``service.engine.dreams``.)"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import structlog

from service.engine.costs import CostModel
from service.engine.delivery import settle
from service.engine.jobs import ImagineJob, Job, collate
from service.operations.metrics import Metrics

log = structlog.get_logger("thick.engine")

Due = Callable[[Job, Any, float], float]
"""when a job with these settings, on which that much time was spent, should be done"""

END = object()
"""after the last imagined step"""


class Task(Protocol):
    """Something that runs in slices on the worker."""

    def due(self, due: Due, now: float) -> float:
        """When it should be done, s on the monotonic clock: the smallest goes first."""

    def run(self, costs: CostModel, metrics: Metrics) -> bool:
        """One slice; True when nothing is left to do."""

    def abort(self, error: Exception) -> None:
        """Report to whoever waits for it that it will not be finished."""


class ImagineTask:
    """One imagination, a step a slice."""

    def __init__(self, job: ImagineJob) -> None:
        self._job = job
        self._iterator: Iterator[Any] | None = None
        self._spent = 0.0

    def due(self, due: Due, now: float) -> float:
        return due(self._job, None, self._spent)

    def run(self, costs: CostModel, metrics: Metrics) -> bool:
        job = self._job
        if job.cancelled:
            return True
        began = time.perf_counter()
        try:
            if self._iterator is None:
                self._iterator = self._start()
            step = next(self._iterator, END)
        except Exception as error:
            if not isinstance(error, ValueError):
                log.exception("imagining failed", model=job.model.name)
            self.abort(error)
            return True
        took = time.perf_counter() - began
        self._spent += took
        metrics.phase("imagine", took)
        if step is None:  # a pause within a long search, so that others get their turn
            return False
        job.loop.call_soon_threadsafe(job.steps.put_nowait, step)
        if step is END:
            job.loop.call_soon_threadsafe(settle, job.future, None)
        return step is END

    def abort(self, error: Exception) -> None:
        self._job.loop.call_soon_threadsafe(self._job.steps.put_nowait, error)
        self._job.loop.call_soon_threadsafe(settle, self._job.future, None)

    def _start(self) -> Iterator[Any]:
        job, runtime = self._job, self._job.model.runtime
        state, keys = job.model.slots.states([job.slot]), np.array([job.key], np.int64)
        if job.observation is not None:
            state = runtime.observe(
                state, collate([job.observation]), is_first=np.ones(1, np.bool_), keys=keys
            )
        return runtime.imagine(state, keys=keys, **job.arguments)


class CallTask:
    """One function, run whole."""

    def __init__(
        self, function: Callable[[], Any], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]
    ) -> None:
        self._function = function
        self._loop = loop
        self._future = future
        self._arrived = time.monotonic()

    def due(self, due: Due, now: float) -> float:
        return self._arrived

    def run(self, costs: CostModel, metrics: Metrics) -> bool:
        if self._future.cancelled():
            return True
        try:
            result = self._function()
        except Exception as error:
            self.abort(error)
        else:
            self._loop.call_soon_threadsafe(settle, self._future, result)
        return True

    def abort(self, error: Exception) -> None:
        self._loop.call_soon_threadsafe(settle, self._future, None, error)
