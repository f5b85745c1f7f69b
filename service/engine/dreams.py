"""Steps of dreams on the engine's worker: jobs that wait together are one batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import structlog

from service.engine.costs import CostModel
from service.engine.delivery import settle
from service.engine.jobs import Job
from service.engine.tasks import Due
from service.operations.metrics import Metrics
from thick.runtimes.protocol import DreamtStep

log = structlog.get_logger("thick.engine")

A_SLICE = 256
"""dreams that are stepped before others get their turn"""
MOST = 4096
"""dreams in one batch of several jobs"""


@dataclass(eq=False, kw_only=True)
class DreamJob(Job):
    """Step some dreams of a model; the future gives a ``thick.runtimes.protocol.DreamtStep``."""

    rows: np.ndarray
    """``[D, row_bytes]`` uint8, as the runtime packs dreams"""
    actions: np.ndarray
    """``[D, A]`` float32"""
    keys: np.ndarray
    """``[D]`` int64, randomness of this step"""
    sample: bool
    include: frozenset[str]

    @property
    def kind(self) -> tuple[Any, ...]:
        """Jobs of one kind can be one batch."""
        return self.model, self.sample, self.include


class DreamTask:
    """Steps of dreams that can be one batch, a part of it a slice."""

    def __init__(self, job: DreamJob) -> None:
        self._jobs = [job]
        self._given: dict[str, np.ndarray] = {}
        """rows, actions and keys of all jobs, from the first slice on"""
        self._parts: list[DreamtStep] = []
        self._done = 0
        """dreams that were stepped"""

    def join(self, job: DreamJob) -> bool:
        """Take a job into the batch; False where it has to have one of its own."""
        if self._done or job.kind != self._jobs[0].kind or self._size >= MOST:
            return False
        self._jobs.append(job)
        return True

    @property
    def _size(self) -> int:
        return sum(len(job.rows) for job in self._jobs)

    def due(self, due: Due, now: float) -> float:
        return min(due(job, None, 0.0) for job in self._jobs)

    def run(self, costs: CostModel, metrics: Metrics) -> bool:
        if not self._done:
            self._jobs = [job for job in self._jobs if not job.cancelled]
            if not self._jobs:
                return True
            names = ("rows", "actions", "keys")
            self._given = {name: _joined([getattr(job, name) for job in self._jobs]) for name in names}
        began = time.perf_counter()
        first = self._jobs[0]
        part = slice(self._done, self._done + A_SLICE)
        rows, actions, keys = (array[part] for array in self._given.values())
        try:
            made = first.model.runtime.dreams.step(
                rows, actions, keys=keys, sample=first.sample, include=first.include
            )
        except Exception as error:
            log.exception("a step of dreams failed", model=first.model.name)
            self.abort(error)
            return True
        self._parts.append(made)
        self._done += len(rows)
        metrics.phase("dream", time.perf_counter() - began)
        if self._done < self._size:
            return False
        whole = _whole(self._parts)
        at = 0
        for job in self._jobs:
            own = _part(whole, slice(at, at := at + len(job.rows)))
            job.loop.call_soon_threadsafe(settle, job.future, own)
        return True

    def abort(self, error: Exception) -> None:
        for job in self._jobs:
            job.loop.call_soon_threadsafe(settle, job.future, None, error)


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _whole(parts: list[DreamtStep]) -> DreamtStep:
    return parts[0] if len(parts) == 1 else DreamtStep(**_each(parts, _joined))


def _part(step: DreamtStep, rows: slice) -> DreamtStep:
    return DreamtStep(**_each([step], lambda arrays: arrays[0][rows]))


def _each(parts: list[DreamtStep], function: Callable[[list[np.ndarray]], np.ndarray]) -> dict[str, Any]:
    """The fields of steps, each by a function of its arrays."""
    made: dict[str, Any] = {}
    for item in fields(DreamtStep):
        values = [getattr(part, item.name) for part in parts]
        if isinstance(values[0], Mapping):
            made[item.name] = {key: function([value[key] for value in values]) for key in values[0]}
        else:
            made[item.name] = None if values[0] is None else function(values)
    return made
