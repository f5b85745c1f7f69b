"""Planning ahead for a session between two of its acts, when nobody else has work for the worker."""

from __future__ import annotations

import math
import time

import numpy as np
import structlog

from service.engine.costs import CostModel
from service.engine.jobs import HostedModel, Pondered
from service.engine.tasks import Due
from service.operations.metrics import Metrics
from thick.planning.settings import PlannerSettings, mix64
from thick.runtimes.protocol import PonderPlan

log = structlog.get_logger("thick.engine")


class PonderTask:
    """Plans a session's next step from the belief that its last action should lead to, again and again from the plan
    before, until the budget is used or the session acts.

    Args:
        slot: where the session's state lies; held by this task until it ends.
        key: where its randomness starts.
        budget_s: bound on its time, s.
    """

    def __init__(
        self, model: HostedModel, slot: int, settings: PlannerSettings, key: int, budget_s: float
    ) -> None:
        self._model, self._settings, self._key, self._budget_s = model.name, settings, key, budget_s
        self._runtime, self._slots = model.runtime, model.slots
        self._slot: int | None = self._slots.retain(slot)
        self._plan: PonderPlan | None = None
        self._steps = 0
        """of the plan in progress"""
        self._round = 0
        self._best: Pondered | None = None
        self._spent = 0.0
        self._over = False

    def due(self, due: Due, now: float) -> float:
        return math.inf

    def run(self, costs: CostModel, metrics: Metrics) -> bool:
        if self._over or self._spent >= self._budget_s:
            self._end()
            return True
        began = time.perf_counter()
        try:
            if self._plan is None:
                self._plan = self._next()
            self._plan.step()
            self._steps += 1
            if self._plan.done:
                self._best = self._found(self._plan)
                self._plan, self._steps, self._round = None, 0, self._round + 1
        except Exception:
            log.exception("pondering failed", model=self._model)
            self._best = None
            self._end()
            return True
        took = time.perf_counter() - began
        self._spent += took
        metrics.phase("ponder", took)
        return False

    def abort(self, error: Exception) -> None:
        self._end()

    def take(self) -> Pondered | None:
        """See :class:`service.engine.jobs.Pondering`."""
        if self._plan is not None and self._steps:
            self._best = self._found(self._plan)
        self._plan, self._over = None, True
        return None if self._best is None else self._best._replace(spent_s=self._spent)

    def cancel(self) -> None:
        """See :class:`service.engine.jobs.Pondering`."""
        self._over = True

    def _next(self) -> PonderPlan:
        """A plan that goes on where the last one ended."""
        if self._best is None:
            assert self._slot is not None
            state = self._slots.states([self._slot])
        else:
            state = self._best.state
        key = mix64(self._key + self._round)
        keys = np.array([key - (1 << 64) if key >> 63 else key], np.int64)
        return self._runtime.ponder(state, self._settings, keys=keys)

    def _found(self, plan: PonderPlan) -> Pondered:
        return Pondered(plan.result().state, bool(plan.expects_change[0]), self._spent)

    def _end(self) -> None:
        self._over = True
        if self._slot is not None:
            slot, self._slot = self._slot, None
            self._slots.release(slot)
