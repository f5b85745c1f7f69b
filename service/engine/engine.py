"""The engine: one worker thread for a device, which runs everything that touches a model.

Requests wait in the inbox; the worker takes what is waiting for one model up to a batch, observes all of it
at once and plans for each group of equal planner settings together (``service.engine.batches``). A plan is run in
short slices, and between slices the worker looks again at who is due first: requests with a deadline
by their deadline, the others by a virtual one that grows with what they cost, so that a long plan neither
blocks short ones nor starves.

The event loop never waits for the worker: it hands jobs over and gets results through futures. An act that is alone and
takes no longer than a slice is run where it is, since handing it over and back would take as long: see ``_run_here``.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from service.engine.active import ActiveSessions
from service.engine.batches import SharedPlan, batch
from service.engine.costs import CostModel
from service.engine.delivery import fail
from service.engine.dreams import DreamJob, DreamTask
from service.engine.jobs import ActJob, DeadlinePassed, EngineStopped, HostedModel, ImagineJob, Job, QueueFull
from service.engine.parallel import Parallelism
from service.engine.pondering import PonderTask
from service.engine.reflexes import react
from service.engine.tasks import CallTask, ImagineTask, Task
from service.operations.metrics import Metrics

log = structlog.get_logger("thick.engine")

STRETCH = 3.0
"""a request is due after this many times what it is expected to cost, or by its deadline: first come, first
served among equals, while something a hundred times cheaper need not wait"""
PATIENCE = 4.0
"""times ``batch_wait_s`` that a request waits at most while others keep coming"""
SHORT_S = 0.002
"""an act that is expected to take no longer need not be handed over, s: about a slice"""
UNKNOWN_COST_S = 0.02
"""assumed cost of a request whose like has not been seen, s"""


class Engine:
    """One worker thread and its queue.

    Args:
        metrics: where batch sizes, phases and queue depth are counted.
        max_batch: acts planned together at most.
        queue_limit: acts that may wait; beyond, ``submit`` raises ``QueueFull``.
        batch_wait_s: how long those that wait do so for the next to join them, until they are half of the sessions
            that are active (the event loop is busy with the others), ``PATIENCE`` times that at most; never alone.
        threads: of a CPU for each slice; None chooses by trial (``service.engine.parallel``).
        plans_at_once: plans whose slices run side by side, each on a thread of its own; None chooses by trial.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        max_batch: int = 32,
        queue_limit: int = 256,
        batch_wait_s: float = 0.001,
        threads: int | None = None,
        plans_at_once: int | None = None,
    ) -> None:
        self.costs = CostModel()
        self._metrics = metrics
        self._max_batch = max_batch
        self._queue_limit = queue_limit
        self._batch_wait_s = batch_wait_s
        self.parallel = Parallelism(threads=threads, plans_at_once=plans_at_once)
        self._width = 1
        """plans that run side by side now, where there are so many"""
        self._helpers = ThreadPoolExecutor(max(1, self.parallel.widest - 1), "thick-plans")
        self._turns = threading.Lock()
        """held by whoever runs what touches a model: the worker, or the event loop (``_run_here``)"""
        self._condition = threading.Condition()
        self._inbox: list[ActJob | DreamJob | Task] = []
        self._waiting: dict[HostedModel, list[ActJob]] = defaultdict(list)
        self._tasks: list[Task] = []
        self._active = ActiveSessions()
        self._unloaded: list[HostedModel] = []
        self._quorum = 1
        self._depth = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="thick-engine", daemon=True)

    # -- called from the event loop ----------------------------------------------------------------------

    def start(self) -> None:
        """Start the worker."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self._thread.is_alive()

    @property
    def depth(self) -> int:
        """Acts that wait for their turn."""
        return self._depth

    @property
    def tasks(self) -> int:
        """Plans and imaginations in progress."""
        return len(self._tasks) + len(self._inbox)

    def submit(self, job: ActJob) -> asyncio.Future[Any]:
        """Queue an act; the future gives its ``ActResult`` or raises.

        Raises:
            QueueFull: too many wait already.
            EngineStopped: the engine was stopped.
        """
        if self._run_here(job):
            return job.future
        with self._condition:
            if self._depth >= self._queue_limit:
                raise QueueFull(f"{self._depth} requests wait already, the limit is {self._queue_limit}")
            self._accept(job)
            self._depth += 1
        self._metrics.queue_depth.set(self._depth)
        self._watch(job)
        return job.future

    def stream(self, job: ImagineJob) -> ImagineJob:
        """Start imagining; steps appear in ``job.steps``, the future resolves after the last.

        Raises:
            EngineStopped: the engine was stopped.
        """
        with self._condition:
            self._accept(ImagineTask(job))
        self._watch(job)
        return job

    def dream(self, job: DreamJob) -> asyncio.Future[Any]:
        """Step dreams; the future gives what came; raises as ``stream`` does."""
        with self._condition:
            self._accept(job)
        self._watch(job)
        return job.future

    def ponder(self, task: PonderTask) -> None:
        """Plan ahead while nobody else has work; nothing is promised."""
        with self._condition:
            if not self._stopping:
                self._accept(task)

    def call(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run ``function`` on the worker (loading, warming up, packing states); the future gives what it
        returns."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._condition:
            self._accept(CallTask(function, loop, future))
        return future

    def threads_of(self, model: HostedModel) -> int | None:
        """Threads of a CPU that plan with a model now."""
        return self.parallel.threads_of(model)

    def forget(self, model: HostedModel) -> None:
        """Drop what was learned about a model that is gone."""
        with self._condition:
            self._unloaded.append(model)

    async def stop(self) -> None:
        """End the worker after its current slice; whoever still waits gets ``EngineStopped``."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        await asyncio.to_thread(self._thread.join)
        self._helpers.shutdown()

    def _run_here(self, job: ActJob) -> bool:
        """Run an act to its end on the calling thread, where that is sooner than handing it over: nothing else runs or
        waits, no other session was active a moment ago, it is short, and its runtime may be called from any thread."""
        model = job.model
        if self._tasks or self._inbox or self._depth or not model.runtime.info.any_thread:
            return False
        planning, observing = self.costs.total(model, job.settings), self.costs.observing(model)
        if planning is None or observing is None or planning + observing > SHORT_S:
            return False
        if job.finish_by is not None and time.monotonic() + planning + observing > job.finish_by:
            return False
        if not self._turns.acquire(blocking=False):
            return False
        try:
            with self._condition:
                if self._inbox or self._tasks or self._depth or self._stopping or self._unloaded:
                    return False
                self._active.acted(job)
                if self._active.count(job.submitted) > 1:
                    return False
            self._metrics.batch(1)
            answered = react(model, job, self.costs, self._metrics)
            plans = [] if answered else batch(model, [job], self.costs, self.parallel, self._metrics)
            while plans:
                plans = [plan for plan in plans if not self._alone(plan)]
            return True
        finally:
            self._turns.release()

    def _accept(self, entry: ActJob | DreamJob | Task) -> None:
        if self._stopping:
            raise EngineStopped("the server is shutting down")
        self._inbox.append(entry)
        if len(self._inbox) >= self._quorum or not isinstance(entry, ActJob):
            self._condition.notify()

    def _watch(self, job: Job) -> None:
        """A cancelled future takes its job out of the queue."""

        def cancelled(future: asyncio.Future[Any]) -> None:
            if future.cancelled():
                job.cancelled = True
                with self._condition:
                    self._condition.notify()

        job.future.add_done_callback(cancelled)

    # -- the worker --------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._condition:
                while not (self._inbox or self._tasks or self._depth or self._stopping):
                    self._condition.wait()
            with self._turns:
                with self._condition:
                    self._take()
                if self._stopping:
                    self._fail_all(EngineStopped("the server is shutting down"))
                    return
                try:
                    self._turn()
                except Exception as error:  # a mistake of the engine's own must not leave requests waiting
                    log.exception("the worker failed in one turn and goes on")
                    self._fail_all(error)

    def _take(self) -> None:
        """Sort the inbox into what waits for a batch and what runs by itself."""
        for entry in self._inbox:
            if isinstance(entry, ActJob):
                self._waiting[entry.model].append(entry)
                self._active.acted(entry)
            elif not isinstance(entry, DreamJob):
                self._tasks.append(entry)
            elif not any(isinstance(task, DreamTask) and task.join(entry) for task in self._tasks):
                self._tasks.append(DreamTask(entry))
        self._inbox.clear()
        while self._unloaded:
            model = self._unloaded.pop()
            self.costs.forget(model)
            self.parallel.forget(model)

    def _turn(self) -> None:
        """One slice of whatever is due first, or of as many plans as may run side by side."""
        now = time.monotonic()
        self._sweep(now)
        few = len(self._tasks) < 2
        tasks = self._tasks if few else sorted(self._tasks, key=lambda each: each.due(self._due, now))
        task = tasks[0] if tasks else None
        model = min(self._waiting, key=lambda each: self._first_due(each, now), default=None)
        room = task is None or (isinstance(task, SharedPlan) and len(tasks) < self._width)
        if model is not None and (
            room or task is None or self._first_due(model, now) <= task.due(self._due, now)
        ):
            if room and self._would_gain_by_waiting(model, now):
                return
            self._begin(model, now)
        elif isinstance(task, SharedPlan):
            plans = [each for each in tasks if isinstance(each, SharedPlan)]
            if self._width > 1 and len(plans) > 1:
                self._side_by_side(plans[: self._width])
            elif self._alone(task):
                self._tasks.remove(task)
        elif task is not None and task.run(self.costs, self._metrics):
            self._tasks.remove(task)

    def _alone(self, plan: SharedPlan) -> bool:
        """Slices of one plan, until something else is there; True when nothing of it is left to do."""
        model, settings, size = plan.model, plan.settings, plan.size
        while True:
            if plan.begin(self._metrics):
                phase = plan.phase
                before = self.parallel.alone(model, settings, phase, size)
                threads = self.parallel.threads(model, settings, phase, size)
                if (took := plan.step(threads)) is not None:
                    self.parallel.took(model, settings, phase, size, threads, took)
                    self.parallel.ran(model, settings, 1, took, before)
            if plan.conclude(self._metrics):
                return True
            if self._inbox or self._waiting or len(self._tasks) > 1 or self._stopping or self._unloaded:
                return False

    def _side_by_side(self, plans: list[SharedPlan]) -> None:
        """A slice of each of some plans at the same time."""
        begun = [plan for plan in plans if plan.begin(self._metrics)]
        if begun:
            first = begun[0]
            cost = self.parallel.alone
            expected = [cost(each.model, each.settings, each.phase, each.size) for each in begun]
            threads = self.parallel.share(first.model, len(begun))
            began = time.perf_counter()
            helped = [self._helpers.submit(plan.step, threads) for plan in begun[1:]]
            took = [first.step(threads), *(each.result() for each in helped)]
            if len(begun) > 1 and None not in took:
                seconds = time.perf_counter() - began
                alone = sum(expected) if all(expected) else 0.0
                self.parallel.ran(first.model, first.settings, self._width, seconds, alone)
        for plan in plans:
            if plan.conclude(self._metrics):
                self._tasks.remove(plan)

    def _fail_all(self, error: Exception) -> None:
        """Fail everything that waits or runs with ``error``."""
        for jobs in self._waiting.values():
            for job in jobs:
                fail(job, error)
            self._left_queue(len(jobs))
        self._waiting.clear()
        for task in self._tasks:
            task.abort(error)
        self._tasks.clear()

    def _due(self, job: Job, settings: Any, spent: float) -> float:
        """When a job should be done, s on the monotonic clock."""
        expected = self.costs.total(job.model, settings) if settings is not None else None
        fair = job.arrived + STRETCH * max(UNKNOWN_COST_S if expected is None else expected, spent)
        return fair if job.finish_by is None else min(fair, job.finish_by)

    def _first_due(self, model: HostedModel, now: float) -> float:
        return min(self._due(job, job.settings, 0.0) for job in self._waiting[model])

    def _sweep(self, now: float) -> None:
        """Drop waiting jobs that nobody wants any more or that are too late."""
        for model in list(self._waiting):
            kept = []
            for job in self._waiting[model]:
                if job.cancelled:
                    self._left_queue(1)
                elif job.deadline is not None and job.deadline <= now and not job.degradable:
                    waited = 1e3 * (now - job.arrived)
                    fail(job, DeadlinePassed(f"waited {waited:.0f} ms of a deadline that was shorter"))
                    self._left_queue(1)
                else:
                    kept.append(job)
            if kept:
                self._waiting[model] = kept
            else:
                del self._waiting[model]

    def _would_gain_by_waiting(self, model: HostedModel, now: float) -> bool:
        """Whether others are likely to come within a moment; waits for them if so."""
        jobs = self._waiting[model]
        missing = min((self._active.count(now) + 1) // 2, self._max_batch) - len(jobs)
        if missing <= 0:
            return False
        submitted = [job.submitted for job in jobs]
        until = min(max(submitted) + self._batch_wait_s, min(submitted) + PATIENCE * self._batch_wait_s)
        # Of a request's own time no more than a little.
        ends = [now + (job.finish_by - now) / PATIENCE for job in jobs if job.finish_by is not None]
        left = min(until, *ends) - now if ends else until - now
        if left <= 0:
            return False
        with self._condition:
            if len(self._inbox) < missing and not self._stopping:
                self._quorum = missing
                self._condition.wait(left)
                self._quorum = 1
            self._take()
        return True

    def _begin(self, model: HostedModel, now: float) -> None:
        """Take a batch of waiting acts, those due first, observe it and start its plans."""
        waiting = self._waiting.pop(model)
        jobs = sorted(waiting, key=lambda job: (self._due(job, job.settings, 0.0), job.ticket))
        taken, rest = jobs[: self._max_batch], jobs[self._max_batch :]
        if rest:
            self._waiting[model] = rest
        self._left_queue(len(taken))
        self._metrics.batch(len(taken))
        together = model.runtime.info.side_by_side
        self._width = self.parallel.width(model, taken[0].settings) if together else 1
        self._tasks.extend(batch(model, taken, self.costs, self.parallel, self._metrics, self._width))

    def _left_queue(self, count: int) -> None:
        with self._condition:
            self._depth -= count
        self._metrics.queue_depth.set(self._depth)
