"""What the engine's worker runs, slice by slice: plans, imaginations, and single calls."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import structlog
import torch

from service.engine.costs import CostModel
from service.engine.jobs import ActJob, ActResult, HostedModel, ImagineJob, Job, Observation
from service.engine.slots import rows_of
from service.operations.metrics import Metrics

log = structlog.get_logger("thick.engine")

Due = Callable[[Job, Any, float], float]
"""when a job with these settings, on which that much time was spent, should be done"""


END = object()
"""after the last imagined step"""
TOGETHER_S = 0.25
"""about how long a plan of several sessions may take on a CPU: what takes longer is cut, so that the first of them
do not wait for the last"""
LEAST_TOGETHER = 4
"""sessions of a plan that is cut: fewer would pay more for each"""


class Task(Protocol):
    """Something that runs in slices on the worker."""

    def due(self, due: Due, now: float) -> float:
        """When it should be done, s on the monotonic clock: the smallest goes first."""

    def run(self, costs: CostModel, metrics: Metrics) -> bool:
        """One slice; True when nothing is left to do."""

    def abort(self, error: Exception) -> None:
        """Tell whoever waits for it that it will not be finished."""


class PlanTask:
    """One group of acts of one model with equal planner settings: a ``Planning`` over the whole group.

    Each session gets its result at its own deadline; the others go on. Nobody's result depends on who else
    is in the group, only on how many slices were run for it.
    """

    def __init__(
        self,
        model: HostedModel,
        jobs: Sequence[ActJob],
        state: Any,
        observe_ms: float,
        started: float,
        batch: int,
    ) -> None:
        self._model = model
        self._open = dict(enumerate(jobs))
        self._sessions = len(jobs)
        self._settings = jobs[0].settings
        self._observe_ms = observe_ms
        self._started = started
        self._batch = batch
        self._slices = 0
        self._spent = 0.0
        self._took: float | None = None
        self._error: Exception | None = None
        keys = torch.tensor([job.key for job in jobs], dtype=torch.long, device=model.agent.device)
        begin = time.perf_counter()
        ends = [job.finish_by for job in jobs if job.finish_by is not None]
        budget_s = max(0.0, min(ends) - time.monotonic()) if ends else None
        self._planning = model.agent.plan(state, self._settings, keys=keys, budget_s=budget_s)
        self._spent += time.perf_counter() - begin

    def due(self, due: Due, now: float) -> float:
        share = self._spent / self._sessions  # each has caused no more than that
        return min(due(job, self._settings, share) for job in self._open.values())

    def run(self, costs: CostModel, metrics: Metrics) -> bool:
        if self.begin(costs, metrics):
            self.step()
        return self.conclude(costs, metrics)

    def begin(self, costs: CostModel, metrics: Metrics) -> bool:
        """Before a slice: whether it is wanted, and in time for somebody."""
        self._took = None
        with self._told():
            self._drop_cancelled()
            self._finish_due(costs, metrics)
        return bool(self._open) and not self._planning.done

    def step(self) -> None:
        """The slice itself: touches nothing but this plan, so that those of several plans may run side by side."""
        began = time.perf_counter()
        try:
            self._planning.step()
            synchronise(self._model.agent.device)
        except Exception as error:
            self._error = error
        self._took = time.perf_counter() - began

    def conclude(self, costs: CostModel, metrics: Metrics) -> bool:
        """After a slice, if there was one; True when nothing is left to do."""
        with self._told():
            if self._error is not None:
                raise self._error
            if self._took is not None:
                costs.slice_took(self._model, self._settings, len(self._open), self._slices, self._took)
                self._slices += 1
                self._spent += self._took
                self._finish_due(costs, metrics)
            if self._open and self._planning.done:
                costs.plan_took(self._model, self._settings, self._sessions, self._spent)
                self._finish(list(self._open), metrics)
        return not self._open

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever goes wrong is told to everybody whose plan this is."""
        try:
            yield
        except Exception as error:
            log.exception("planning failed", model=self._model.name, sessions=len(self._open))
            self.abort(error)

    def abort(self, error: Exception) -> None:
        for job in self._open.values():
            fail(job, error)
        self._open.clear()

    def _drop_cancelled(self) -> None:
        for row, job in list(self._open.items()):
            if job.cancelled:
                del self._open[row]

    def _finish_due(self, costs: CostModel, metrics: Metrics) -> None:
        """Answer those for whom another slice would come too late."""
        if not self._open or self._planning.done:
            return
        ready = time.monotonic() + costs.next_slice(
            self._model, self._settings, len(self._open), self._slices
        )
        late = [row for row, job in self._open.items() if job.finish_by is not None and ready > job.finish_by]
        if late:
            if not self._slices:
                costs.forgive(self._model, self._settings)
            self._finish(late, metrics)

    def _finish(self, rows: list[int], metrics: Metrics) -> None:
        # They stay open until they have a result: if that fails, they are told.
        jobs = [self._open[row] for row in rows]
        output = self._planning.result()
        agent, slots = self._model.agent, self._model.slots
        packed = slots.layout.pack(rows_of(output.state, rows))
        actions = agent.decode_action(output.action[torch.tensor(rows, device=output.action.device)])
        states = packed.cpu().numpy()
        places = slots.put(packed)
        phases = {name: float(output.phase_ms.get(name, 0.0)) for name in ("high_plan_ms", "low_plan_ms")}
        for name, spent in phases.items():
            metrics.phase(name.removesuffix("_ms"), spent / 1e3)
        results = []
        for index, (row, job) in enumerate(zip(rows, jobs, strict=True)):
            timing = {
                "queue_ms": max(0.0, 1e3 * (self._started - job.submitted)),
                "observe_ms": self._observe_ms,
                **phases,
                "batch_size": self._batch,
            }
            result = ActResult(
                action=actions[index],
                slot=places[index],
                state=states[index].tobytes(),
                plan=output.info(row) if job.want_plan else None,
                timing=timing,
                degraded="deadline passed while queued" if job.degraded else None,
            )
            metrics.budget(share_done(output.budget(row)))
            results.append((job, result))
        for row in rows:
            del self._open[row]
        deliver(results, slots.release)


class StreamTask:
    """One imagination, a step a slice."""

    def __init__(self, job: ImagineJob) -> None:
        self._job = job
        self._iterator: Any = None
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

    def _start(self) -> Any:
        job, agent, slots = self._job, self._job.model.agent, self._job.model.slots
        state = slots.layout.unpack(slots.gather([job.slot]))
        keys = torch.tensor([job.key], dtype=torch.long, device=agent.device)
        if job.observation is not None:
            state = agent.observe(
                state,
                collate([job.observation], agent.device),
                is_first=torch.ones(1, dtype=torch.bool, device=agent.device),
                executed_action=None,
                executed=None,
                keys=keys,
            )
        return iter(agent.imagine_in_parts(state, keys=keys, **job.arguments))


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


def observe_batch(
    model: HostedModel, jobs: Sequence[ActJob], costs: CostModel, metrics: Metrics
) -> list[PlanTask]:
    """Update the beliefs of a batch of sessions of one model and start a plan for each group of equal
    settings, several where one would keep the first of the group waiting for the last.

    Where the batch as a whole fails, each job is tried by itself, so that one session's trouble is not its
    batch-mates'.
    """
    started = time.monotonic()
    try:
        state, observe_ms = observe(model, jobs)
    except Exception as error:
        if len(jobs) > 1:
            return [plan for job in jobs for plan in observe_batch(model, [job], costs, metrics)]
        log.exception("observing failed", model=model.name)
        fail(jobs[0], error)
        return []
    metrics.phase("observe", observe_ms / 1e3)
    groups: dict[Any, list[int]] = defaultdict(list)
    for row, job in enumerate(jobs):
        job.degraded = job.degradable and job.deadline is not None and job.deadline <= started
        # Those with a deadline plan apart: it may cut the high-level search short, which is nobody else's
        # business.
        groups[job.settings, job.deadline is None].append(row)
    plans = []
    parts = [cut(model, jobs[rows[0]].settings, rows, costs) for rows in groups.values()]
    for rows in itertools.chain(*parts):
        members = [jobs[row] for row in rows]
        part = state if len(rows) == len(jobs) else rows_of(state, rows)
        try:
            plans.append(PlanTask(model, members, part, observe_ms, started, len(jobs)))
        except Exception as error:
            log.exception("planning could not start", model=model.name, settings=str(members[0].settings))
            for job in members:
                fail(job, error)
    return plans


def cut(model: HostedModel, settings: Any, rows: list[int], costs: CostModel) -> list[list[int]]:
    """Rows of equal settings in parts that are planned one after the other, those due first in the first."""
    each = costs.total(model, settings)
    if each is None or torch.device(model.agent.device).type != "cpu":
        return [rows]
    parts = min(-(-len(rows) // LEAST_TOGETHER), max(1, round(len(rows) * each / TOGETHER_S)))
    size = -(-len(rows) // parts)
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]


def observe(model: HostedModel, jobs: Sequence[ActJob]) -> tuple[Any, float]:
    """The batch's states after its observations, and the time it took in ms."""
    agent, slots = model.agent, model.slots
    device = agent.device
    began = time.perf_counter()
    state = slots.layout.unpack(slots.gather([job.slot for job in jobs]))
    executed = executed_action = None
    if any(job.executed_action is not None for job in jobs):
        default = next(job.executed_action for job in jobs if job.executed_action is not None)
        executed_action = agent.encode_action(
            [default if job.executed_action is None else job.executed_action for job in jobs]
        )
        executed = torch.tensor([job.executed_action is not None for job in jobs], device=device)
    state = agent.observe(
        state,
        collate([job.observation for job in jobs], device),
        is_first=torch.tensor([job.is_first for job in jobs], device=device),
        executed_action=executed_action,
        executed=executed,
        keys=torch.tensor([job.key for job in jobs], dtype=torch.long, device=device),
    )
    synchronise(device)
    return state, 1e3 * (time.perf_counter() - began)


def collate(observations: Sequence[Observation], device: Any) -> Any:
    """A batch ``[B, ...]`` on the device out of single observations."""
    first = observations[0]
    if isinstance(first, dict):
        return {key: collate([each[key] for each in observations], device) for key in first}  # type: ignore[index]
    return torch.from_numpy(np.stack(observations)).to(device)  # type: ignore[arg-type]


def share_done(budget: Mapping[str, Any]) -> float:
    """The share of the asked search that was made, 0 to 1."""
    shares = [
        min(1.0, budget[f"{what}_done"] / budget[f"{what}_asked"])
        for what in ("iterations", "simulations")
        if budget.get(f"{what}_asked")
    ]
    return sum(shares) / len(shares) if shares else 1.0


def synchronise(device: Any) -> None:
    """Wait for the accelerator, so that times mean something."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def settle(future: asyncio.Future[Any], result: Any, error: BaseException | None = None) -> bool:
    """Resolve a future unless nobody waits any more; on the event loop."""
    if future.done():
        return False
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
    return True


def fail(job: Job, error: BaseException) -> None:
    """Tell whoever waits for a job that it failed; from the worker."""
    job.loop.call_soon_threadsafe(settle, job.future, None, error)


def deliver(results: Sequence[tuple[Job, ActResult]], release: Callable[[int], None]) -> None:
    """Hand results over, with one wake-up for each event loop; a result that nobody takes gives its slot
    back."""

    def hand_over(mine: list[tuple[Job, ActResult]]) -> None:
        for job, result in mine:
            if not settle(job.future, result):
                release(result.slot)

    loops: dict[asyncio.AbstractEventLoop, list[tuple[Job, ActResult]]] = defaultdict(list)
    for job, result in results:
        loops[job.loop].append((job, result))
    for loop, mine in loops.items():
        loop.call_soon_threadsafe(hand_over, mine)
