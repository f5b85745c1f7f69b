"""Acts in batches: observed together, planned together where their settings are equal, answered one by one.

Four of the hooks of an act are here, by their names and in their order: ``batch``, ``observe``, ``plan``
(:class:`SharedPlan`) and ``unbatch``. (All of them: ``service.sessions.act``.)
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import structlog

from service.engine.costs import CostModel, CostRecord
from service.engine.delivery import deliver, fail
from service.engine.jobs import ActJob, ActResult, HostedModel, Pondered, collate
from service.engine.parallel import Parallelism
from service.engine.tasks import Due
from service.operations.metrics import Metrics
from thick.runtimes.protocol import PlanResult, State

log = structlog.get_logger("thick.engine")

TOGETHER_S = 0.25
"""about how long a plan of several sessions may take where slices run side by side: what takes longer is cut, so that
the first of them do not wait for the last"""
LEAST_TOGETHER = 4
"""sessions of a plan that is cut: fewer would pay more for each"""


def batch(
    model: HostedModel,
    jobs: Sequence[ActJob],
    costs: CostModel,
    parallel: Parallelism,
    metrics: Metrics,
    width: int = 1,
) -> list[SharedPlan]:
    """Observe a batch of acts of one model and start a plan for each group of equal settings, several where one
    would keep the first of the group waiting for the last, or where ``width`` plans run side by side.

    Where the batch as a whole fails, each job is tried by itself, so that one session's trouble is not its
    batch-mates'.
    """
    started = time.monotonic()
    try:
        state, observe_ms = observe(model, jobs, parallel)
    except Exception as error:
        if len(jobs) > 1:
            return [plan for job in jobs for plan in batch(model, [job], costs, parallel, metrics)]
        log.exception("observing failed", model=model.name)
        fail(jobs[0], error)
        return []
    costs.observe_took(model, len(jobs), observe_ms / 1e3)
    metrics.phase("observe", observe_ms / 1e3)
    return plan(model, jobs, state, observe_ms, started, costs, width)


def observe(model: HostedModel, jobs: Sequence[ActJob], parallel: Parallelism) -> tuple[State, float]:
    """The batch's states after its observations, and the time it took in ms."""
    runtime = model.runtime
    threads = parallel.threads(model, None, "observe", len(jobs))
    runtime.use_threads(threads)
    began = time.perf_counter()
    executed_action = executed = None
    given = [job.executed_action is not None for job in jobs]
    if any(given):
        default = jobs[given.index(True)].executed_action
        executed = np.array(given)
        executed_action = runtime.encode_action(
            [default if job.executed_action is None else job.executed_action for job in jobs]
        )
    seen: dict[str, Any] = {
        "observation": collate([job.observation for job in jobs]),
        "is_first": np.array([job.is_first for job in jobs]),
        "executed_action": executed_action,
        "executed": executed,
        "keys": np.array([job.key for job in jobs], np.int64),
    }
    with planned_ahead(model, jobs) as ahead:
        state = runtime.observe(model.slots.states([slot for slot, _ in ahead]), **seen)
        if any(pondered for _, pondered in ahead):
            changed = runtime.context_changed(state)
            right = [
                each is None or each.expects_change == changed[row] for row, (_, each) in enumerate(ahead)
            ]
            for job, (_, pondered), fits in zip(jobs, ahead, right, strict=True):
                job.pondered_ms = 1e3 * pondered.spent_s if pondered is not None and fits else 0.0
            if not all(right):  # what was expected did not come: as if nothing had been planned
                rows = zip(jobs, ahead, right, strict=True)
                slots = [slot if fits else job.slot for job, (slot, _), fits in rows]
                state = runtime.observe(model.slots.states(slots), **seen)
    took = time.perf_counter() - began
    parallel.took(model, None, "observe", len(jobs), threads, took)
    return state, 1e3 * took


@contextlib.contextmanager
def planned_ahead(model: HostedModel, jobs: Sequence[ActJob]) -> Iterator[list[tuple[int, Pondered | None]]]:
    """Where each act's state lies, and what was planned ahead for it, where something was."""
    taken: list[int] = []
    found: list[tuple[int, Pondered | None]] = []
    try:
        for job in jobs:
            usable = job.pondering is not None and not job.is_first and job.executed_action is None
            pondered = job.pondering.take() if usable and job.pondering is not None else None
            if pondered is not None:
                (slot,), _ = model.slots.keep(pondered.state, 1)
                taken.append(slot)
            found.append((job.slot if pondered is None else slot, pondered))
        yield found
    finally:
        for slot in taken:
            model.slots.release(slot)


def plan(
    model: HostedModel,
    jobs: Sequence[ActJob],
    state: State,
    observe_ms: float,
    started: float,
    costs: CostModel,
    width: int,
) -> list[SharedPlan]:
    """A plan for each group of acts with equal settings, nothing of it computed yet."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for row, job in enumerate(jobs):
        job.degraded = job.degradable and job.deadline is not None and job.deadline <= started
        # Those with a deadline plan apart: it may cut the high-level search short, which is nobody else's
        # business.
        groups[job.settings, job.deadline is None].append(row)
    plans = []
    for members in groups.values():
        for rows in cut(model, jobs[members[0]].settings, members, costs, width):
            mine = [jobs[row] for row in rows]
            try:
                part = model.runtime.take(state, rows)
                record = costs.record(model, mine[0].settings)
                plans.append(SharedPlan(model, mine, part, observe_ms, started, len(jobs), record))
            except Exception as error:
                log.exception("planning could not start", model=model.name, settings=str(mine[0].settings))
                for job in mine:
                    fail(job, error)
    return plans


def cut(model: HostedModel, settings: Any, rows: list[int], costs: CostModel, width: int) -> list[list[int]]:
    """Rows of equal settings in parts, those due first in the first: ``width`` that are planned at the same time, and
    more where these would take long."""
    if not model.runtime.info.side_by_side:
        return [rows]
    each = costs.total(model, settings)
    parts = min(width, len(rows))
    if each is not None:
        most = -(-len(rows) // LEAST_TOGETHER)
        parts = max(parts, min(most, max(1, round(len(rows) * each / TOGETHER_S))))
    size = -(-len(rows) // parts)
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]


class SharedPlan:
    """One group of acts of one model with equal planner settings: the runtime's anytime plan over the whole group,
    run in slices.

    Each session gets its result at its own deadline; the others go on. Nobody's result depends on who else
    is in the group, only on how many slices were run for it.
    """

    def __init__(
        self,
        model: HostedModel,
        jobs: Sequence[ActJob],
        state: State,
        observe_ms: float,
        started: float,
        batch: int,
        record: CostRecord,
    ) -> None:
        self.model = model
        self.settings = jobs[0].settings
        self.size = len(jobs)
        """sessions that it is for, answered or not"""
        self._open = dict(enumerate(jobs))
        self._observe_ms = observe_ms
        self._started = started
        self._batch = batch
        self._record = record
        self._timed = any(job.finish_by is not None for job in jobs)
        self._slices = 0
        self._spent = 0.0
        self._took: float | None = None
        self._error: Exception | None = None
        begin = time.perf_counter()
        ends = [job.finish_by for job in jobs if job.finish_by is not None]
        budget_s = max(0.0, min(ends) - time.monotonic()) if ends else None
        keys = np.array([job.key for job in jobs], np.int64)
        self._plan = model.runtime.plan(state, self.settings, keys=keys, budget_s=budget_s)
        self._spent += time.perf_counter() - begin

    def due(self, due: Due, now: float) -> float:
        share = self._spent / self.size  # each has caused no more than that
        jobs = list(self._open.values())
        if all(job.finish_by is None for job in jobs):  # then who came first is due first
            jobs = [min(jobs, key=lambda job: job.arrived)]
        return min(due(job, self.settings, share) for job in jobs)

    def run(self, costs: CostModel, metrics: Metrics) -> bool:
        if self.begin(metrics):
            self.step(None)
        return self.conclude(metrics)

    @property
    def phase(self) -> str:
        """What the next slice works on."""
        return self._plan.phase

    def begin(self, metrics: Metrics) -> bool:
        """Before a slice: whether it is wanted, and in time for somebody."""
        self._took = None
        try:
            self._drop_cancelled()
            self._finish_due(metrics)
        except Exception as error:
            self._failed(error)
        return bool(self._open) and not self._plan.done

    def step(self, threads: int | None) -> float | None:
        """The slice itself: touches nothing but this plan, so that those of several plans may run side by side.

        Args:
            threads: of a CPU; None leaves them as they are.

        Returns:
            The time it took, s; None where it failed, which ``conclude`` reports.
        """
        began = time.perf_counter()
        try:
            if threads is not None:
                self.model.runtime.use_threads(threads)
            self._plan.step()
        except Exception as error:
            self._error = error
            return None
        self._took = time.perf_counter() - began
        return self._took

    def conclude(self, metrics: Metrics) -> bool:
        """After a slice, if there was one; True when nothing is left to do."""
        try:
            if self._error is not None:
                raise self._error
            if self._took is not None:
                self._record.slice_took(len(self._open), self._slices, self._took)
                self._slices += 1
                self._spent += self._took
                self._finish_due(metrics)
            if self._open and self._plan.done:
                self._record.plan_took(self.size, self._spent)
                self._unbatch(list(self._open), metrics)
        except Exception as error:
            self._failed(error)
        return not self._open

    def _failed(self, error: Exception) -> None:
        """Whatever goes wrong is reported to everybody whose plan this is."""
        log.exception("planning failed", model=self.model.name, sessions=len(self._open))
        self.abort(error)

    def abort(self, error: Exception) -> None:
        for job in self._open.values():
            fail(job, error)
        self._open.clear()

    def _drop_cancelled(self) -> None:
        for row in [row for row, job in self._open.items() if job.cancelled]:
            del self._open[row]

    def _finish_due(self, metrics: Metrics) -> None:
        """Answer those for whom another slice would come too late."""
        if not self._timed or self._plan.done:
            return
        ready = time.monotonic() + self._record.next_slice(len(self._open), self._slices)
        late = [row for row, job in self._open.items() if job.finish_by is not None and ready > job.finish_by]
        if late:
            if not self._slices:
                self._record.forgive()
            self._unbatch(late, metrics)

    def _unbatch(self, rows: list[int], metrics: Metrics) -> None:
        """Give the sessions ``rows`` of the group their results; they are open until they have them."""
        found = self._plan.result()
        for phase, spent_ms in found.phase_ms.items():
            metrics.phase(phase.removesuffix("_ms"), spent_ms / 1e3)
        jobs = [self._open[row] for row in rows]
        results = unbatch(self.model, jobs, found, rows, self._started, self._observe_ms, self._batch)
        for row in rows:
            metrics.budget(share_done(found.budget(row)))
            del self._open[row]
        deliver(list(zip(jobs, results, strict=True)), self.model.slots.release)


def unbatch(
    model: HostedModel,
    jobs: Sequence[ActJob],
    found: PlanResult,
    rows: Sequence[int],
    started: float,
    observe_ms: float,
    size: int,
) -> list[ActResult]:
    """One result for each session ``rows`` of a shared plan, its new state in a slot of its own.

    Args:
        started: when the batch was begun, s on the monotonic clock.
        size: acts in it.
    """
    runtime = model.runtime
    actions = runtime.decode_action(found.action[list(rows)])
    plans = [found.info(row) if job.want_plan else None for row, job in zip(rows, jobs, strict=True)]
    slots, packed = model.slots.keep(runtime.take(found.state, rows), len(rows))
    phases = {name: float(found.phase_ms.get(name, 0.0)) for name in ("high_plan_ms", "low_plan_ms")}
    return [
        ActResult(
            action=action,
            slot=slot,
            state=state.tobytes(),
            plan=shown,
            timing={
                "queue_ms": max(0.0, 1e3 * (started - job.submitted)),
                "observe_ms": observe_ms,
                **phases,
                "batch_size": size,
            },
            pondered_ms=job.pondered_ms,
            degraded="deadline passed while queued" if job.degraded else None,
        )
        for job, action, slot, state, shown in zip(jobs, actions, slots, packed, plans, strict=True)
    ]


def share_done(budget: Mapping[str, Any]) -> float:
    """The share of the asked search that was made, 0 to 1."""
    shares = [
        min(1.0, budget[f"{what}_done"] / budget[f"{what}_asked"])
        for what in ("iterations", "simulations")
        if budget.get(f"{what}_asked")
    ]
    return sum(shares) / len(shares) if shares else 1.0
