"""One act, from a checked body to an answer: the session's turn, the engine, the store.

Nothing of the session changes before the new state and the answer are durable. A client that goes away
before that moment changes nothing; after it, the answer waits for its retry.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from service.engine.engine import Engine
from service.engine.jobs import ActJob, ActResult, DeadlinePassed, EngineStopped, QueueFull
from service.models.repository import Hosted
from service.operations.metrics import Metrics
from service.operations.offloop import off_loop
from service.protocol import media
from service.protocol.bodies import decode_arrays, decode_body, encode_body, to_wire
from service.protocol.digests import digest
from service.protocol.errors import ProblemError, invalid, step_conflict
from service.protocol.limits import Limits
from service.protocol.requests import Act, Planner
from service.protocol.spaces import decode_action, decode_observation
from service.sessions.journal import Journal
from service.sessions.table import Session
from service.stores.record import RevisionConflict
from thick.planning.settings import PlannerSettings, session_key

log = structlog.get_logger("thick.act")

SAFETY_S = 0.002
"""left of a deadline for what follows planning, beside what it usually takes, s"""


@dataclass
class Clock:
    """When a request arrived; the transport makes it."""

    arrived: float = field(default_factory=time.monotonic)
    """s on the monotonic clock"""
    decode_s: float = 0.0
    """time spent on reading the body"""
    large: bool = False
    """whether the observation should be checked beside the event loop"""
    timing: dict[str, float] | None = None
    """milliseconds by phase, once an act was planned (not replayed); for traces"""


@dataclass
class _Progress:
    committing: bool = False


class Acting:
    """The act station between sessions and engine."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        metrics: Metrics,
        limits: Limits,
        degrade: bool,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._metrics = metrics
        self._limits = limits
        self._degrade = degrade
        self._tail_s = 0.001
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def running(self) -> int:
        """Acts in progress, also those whose client went away while they were being stored."""
        return len(self._running)

    async def act(self, session: Session, body: Act, clock: Clock) -> dict[str, Any]:
        """The answer to one act.

        Cancelling the call takes the act out of the queue, unless it is being stored already.

        Raises:
            ProblemError: as the contract has it; the session is then what it was before.
        """
        progress = _Progress()
        task = asyncio.create_task(self._in_turn(session, body, clock, progress))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not progress.committing:
                task.cancel()
            raise

    async def _in_turn(
        self, session: Session, body: Act, clock: Clock, progress: _Progress
    ) -> dict[str, Any]:
        deadline = _deadline(session, body.planner, clock)
        async with session.turn(None if deadline is None else _loop_time(deadline)):
            return await self._act(session, body, clock, deadline, progress)

    async def _act(
        self, session: Session, body: Act, clock: Clock, deadline: float | None, progress: _Progress
    ) -> dict[str, Any]:
        await self._bring(session, deadline)
        hosted = session.hosted
        assert hosted is not None and session.slot is not None
        settings, seed = session_settings(session, hosted, body.planner)
        if clock.large:
            checked = await off_loop(check_act, hosted, body, self._limits)
        else:
            checked = check_act(hosted, body, self._limits)
        step = session.step if body.step is None else body.step
        fingerprint = digest(
            {
                "step": step,
                "reward": body.reward,
                "is_first": body.is_first,
                "planner": body.planner.settings() if body.planner else {},
                "include": sorted(set(body.include)),
                **checked,
            }
        )
        stored = session.expect(body.step, fingerprint)
        if stored is not None:
            session.prolong()
            return replayed(stored)
        result = await self._plan(
            ActJob(
                model=hosted,
                loop=asyncio.get_running_loop(),
                future=asyncio.get_running_loop().create_future(),
                arrived=clock.arrived,
                deadline=deadline,
                finish_by=None if deadline is None else deadline - self._tail_s - SAFETY_S,
                slot=session.slot,
                session=session.session_id,
                observation=checked["observation"],
                is_first=session.first or body.is_first,
                executed_action=checked["executed_action"],
                settings=settings,
                key=session_key(seed, session.step),
                want_plan="plan" in body.include,
                degradable=self._degrade,
            )
        )
        planned = time.monotonic()
        answer, packed = self._answer(session, body, clock, result)
        progress.committing = True
        try:
            await self._journal.write(
                session,
                state=result.state,
                slot=result.slot,
                step=session.step + 1,
                first=False,
                digest=fingerprint,
                answer=packed,
            )
        except RevisionConflict:
            hosted.slots.release(result.slot)
            return await self._overtaken(session, step, fingerprint)
        except BaseException:
            hosted.slots.release(result.slot)
            raise
        tail_s = time.monotonic() - planned
        self._tail_s += 0.1 * (tail_s - self._tail_s)
        clock.timing = {"decode_ms": 1e3 * clock.decode_s, **result.timing, "store_ms": 1e3 * tail_s}
        return answer

    async def _bring(self, session: Session, deadline: float | None) -> None:
        """Make the session current; a store that is silent does not hold the request beyond its deadline."""
        if deadline is None:
            await self._journal.current(session)
            return
        try:
            async with asyncio.timeout_at(_loop_time(deadline)):
                await self._journal.current(session)
        except TimeoutError as error:
            raise ProblemError(
                "store_unavailable",
                "the session store did not answer before the deadline; nothing has changed, try again",
            ) from error

    async def _plan(self, job: ActJob) -> ActResult:
        """The engine's result, with its refusals as problems."""
        try:
            future = self._engine.submit(job)
        except QueueFull as error:
            raise ProblemError("queue_full", f"{error}; try again in a moment") from error
        except EngineStopped as error:
            raise ProblemError("draining", str(error), retry_after=5.0) from error
        try:
            result: ActResult = await future
            return result
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                job.model.slots.release(future.result().slot)
            raise
        except DeadlinePassed as error:
            raise ProblemError(
                "deadline_exceeded", f"{error}; no plan was made and nothing has changed"
            ) from error
        except EngineStopped as error:
            raise ProblemError("draining", str(error), retry_after=5.0) from error
        except Exception as error:
            log.error("act failed", model=job.model.name, reason=f"{type(error).__name__}: {error}")
            raise ProblemError("internal", "planning failed; nothing has changed") from error

    def _answer(
        self, session: Session, body: Act, clock: Clock, result: ActResult
    ) -> tuple[dict[str, Any], bytes]:
        """The answer, and as it is stored. Timing ends here: a stored answer is the one that was sent."""
        answer: dict[str, Any] = {
            "session_id": session.session_id,
            "step": session.step,
            "action": result.action,
            "replayed": False,
        }
        if result.degraded:
            answer["degraded"] = result.degraded
        deadline_ms = deadline_of(session, body.planner)
        if result.plan is not None:
            budget = dict(result.plan.get("budget") or {})
            answer["plan"] = {**result.plan, "budget": {**budget, "deadline_ms": deadline_ms}}
        queue_ms = result.timing["queue_ms"]
        self._metrics.phase("queue", queue_ms / 1e3)
        if "timing" not in body.include:
            return answer, encode_body(answer, media.MSGPACK)
        began = time.perf_counter()
        wire = to_wire(answer, binary=True)
        timing = {
            "decode_ms": 1e3 * clock.decode_s,
            **result.timing,
            "encode_ms": 1e3 * (time.perf_counter() - began),
            "total_ms": 1e3 * (time.monotonic() - clock.arrived),
        }
        answer["timing"] = {name: round(value, 3) for name, value in timing.items()}
        return answer, encode_body({**wire, "timing": answer["timing"]}, media.MSGPACK)

    async def _overtaken(self, session: Session, step: int, fingerprint: bytes) -> dict[str, Any]:
        """Another replica answered this step first: its answer if the request was the same, else a
        conflict."""
        await self._journal.current(session)
        if session.step == step + 1 and session.digest == fingerprint and session.answer is not None:
            return replayed(session.answer)
        raise step_conflict(session.step, step)


def check_act(hosted: Hosted, body: Act, limits: Limits) -> dict[str, Any]:
    """Observation and executed action, checked against the model's spaces and in their dtypes.

    Raises:
        ProblemError: ``invalid_request``.
    """
    assert hosted.observation_space is not None and hosted.action_space is not None
    executed = body.executed_action
    return {
        "observation": decode_observation(body.observation, hosted.observation_space, limits=limits),
        "executed_action": None
        if executed is None
        else decode_action(executed, hosted.action_space, path="executed_action", limits=limits),
    }


def planner_settings(hosted: Hosted, *changes: Mapping[str, Any]) -> PlannerSettings:
    """The model's planner settings with overrides, later ones over earlier ones.

    Raises:
        ProblemError: ``invalid_request`` naming the setting that is wrong, or that this checkpoint cannot do.
    """
    values: dict[str, Any] = {}
    for each in changes:
        values.update(each)
    try:
        settings: PlannerSettings = hosted.agent.settings(values)
    except ValueError as error:
        path, _, message = str(error).partition(": ")
        raise (
            invalid(path, message) if path.startswith("planner") else invalid("planner", str(error))
        ) from error
    return settings


def session_settings(
    session: Session, hosted: Hosted, planner: Planner | None
) -> tuple[PlannerSettings, int]:
    """What one request of a session plans with, and the seed apart from it: equal searches can be batched."""
    own = planner.settings() if planner else {}
    settings = planner_settings(hosted, session.planner, own) if own else session.settings
    seed = session.seed if settings.seed is None else settings.seed
    return dataclasses.replace(settings, seed=None) if settings.seed is not None else settings, seed


def replayed(stored: bytes) -> dict[str, Any]:
    """A stored answer, marked as such."""
    answer: dict[str, Any] = decode_arrays(decode_body(stored, media.MSGPACK, _STORED))
    return {**answer, "replayed": True}


def deadline_of(session: Session, planner: Planner | None) -> float | None:
    """The bound on a request in ms: its own (null is none), or its session's."""
    own = planner.deadline_ms if planner else None
    if planner is not None and planner.lifts_deadline:
        return None
    return session.deadline_ms if own is None else float(own)


def _deadline(session: Session, planner: Planner | None, clock: Clock) -> float | None:
    bound = deadline_of(session, planner)
    return None if bound is None else clock.arrived + bound / 1e3


def _loop_time(monotonic: float) -> float:
    """A time of the monotonic clock on the event loop's clock."""
    return asyncio.get_running_loop().time() + (monotonic - time.monotonic())


_STORED = Limits(
    body_bytes=2**31,
    array_bytes=2**31,
    string_bytes=2**31,
    nesting=200,
    image_pixels=2**31,
    array_dimensions=32,
    object_keys=2**31,
    key_characters=2**31,
    containers=2**31,
    values=2**31,
)
"""what the server stored itself needs no bounds"""
