"""One act, from a validated body to an answer: the session's turn, the engine, the store.

The hooks of an act, in their order:

1. ``decode``   a body's fields                              ``ActPipeline.decode``
2. ``check``    the model's spaces, the session's step       ``ActPipeline.check``
3. ``queue``    until its batch's turn comes                 ``ActPipeline.queue``, ``service.engine.engine``
4. ``batch``    with the other acts that wait                ``service.engine.batches.batch``
5. ``observe``  the belief after the observation             ``service.engine.batches.observe``
6. ``plan``     in slices, until done or due                 ``service.engine.batches.plan``, ``SharedPlan``
7. ``unbatch``  one result and one state a session           ``service.engine.batches.unbatch``
8. ``keep``     state and packed answer in the store         ``ActPipeline.pack``, ``ActPipeline.keep``
9. ``encode``   the packed bytes as they are, or JSON        ``service.faces``

Nothing of the session changes before the new state and the answer are durable. A client that goes away
before that moment changes nothing; after it, the answer waits for its retry.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

import structlog

from service.engine.engine import Engine
from service.engine.jobs import ActJob, ActResult, DeadlinePassed, EngineStopped, QueueFull
from service.models.hosted import Hosted
from service.operations.metrics import Metrics
from service.operations.offloop import off_loop
from service.protocol import media
from service.protocol.bodies import encode_body, pack_msgpack, to_wire
from service.protocol.digests import digest
from service.protocol.errors import ProblemError, step_conflict
from service.protocol.limits import Limits
from service.protocol.requests import Act, ActOnce, check_limits, parse
from service.protocol.values import decode_action, decode_observation
from service.sessions.afterwards import Afterwards
from service.sessions.answers import ActAnswer, replayed
from service.sessions.clock import Clock
from service.sessions.journal import Journal
from service.sessions.planner import deadline_of, session_settings
from service.sessions.session import Session
from service.sessions.turn import Turn
from service.sessions.watching import Watching
from service.stores.record import RevisionConflict
from thick.planning.settings import PlannerSettings, session_key

log = structlog.get_logger("thick.act")

SAFETY_S = 0.002
"""left of a deadline for what follows planning, in addition to what it usually takes, s"""


class _Checked(NamedTuple):
    """An act that the session expects next."""

    observation: Any
    executed_action: Any
    settings: PlannerSettings
    seed: int
    fingerprint: bytes
    """of everything in the request that matters to its answer"""


class ActPipeline:
    """Takes an act through its hooks, between the transports and the engine."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        metrics: Metrics,
        limits: Limits,
        watching: Watching,
        degrade: bool,
    ) -> None:
        self._watching = watching
        self._afterwards = Afterwards(engine, watching)
        self._engine = engine
        self._journal = journal
        self._metrics = metrics
        self._limits = limits
        self._degrade = degrade
        self._tail_s = 0.001
        self._running = 0
        self._keeping: set[asyncio.Task[ActAnswer]] = set()

    @property
    def running(self) -> int:
        """Acts in progress, also those whose client went away while they were being stored."""
        return self._running

    async def act(self, session: Session, body: Act, clock: Clock) -> ActAnswer:
        """The answer to one act.

        Cancelling the call takes the act out of the queue, unless it is being stored already.

        Raises:
            ProblemError: as the contract has it; the session is then what it was before.
        """
        bound = deadline_of(session, body.planner)
        deadline = None if bound is None else clock.arrived + bound / 1e3
        turn = session.turn(None if deadline is None else _loop_time(deadline))
        await turn.take()
        self._running += 1
        keeping: asyncio.Task[ActAnswer] | None = None
        try:
            if deadline is None:
                await self._journal.current(session)
            else:
                await self._current(session, deadline)
            checked = await self.check(session, body, clock)
            if isinstance(checked, ActAnswer):
                return checked
            result = await self.queue(
                session, body, clock, deadline, checked
            )  # batch, observe, plan, unbatch
            planned = time.monotonic()
            answer = self._packed(session, body, clock, result)
            alone = self._running == 1  # others that are about to be stored share a commit
            if alone and self._journal.write_now(session, **_changes(session, checked, result, answer)):
                self._took(session, body, clock, checked, result, answer, planned)
                return answer
            # From here on the act goes on without its client, and keeps the session's turn meanwhile.
            keeping = asyncio.create_task(self._keep(session, body, clock, checked, result, answer, planned))
            self._keeping.add(keeping)
            keeping.add_done_callback(self._keeping.discard)
            keeping.add_done_callback(lambda _: self._ended(turn))
        finally:
            if keeping is None:
                self._ended(turn)
        return await asyncio.shield(keeping)

    def _ended(self, turn: Turn) -> None:
        turn.end()
        self._running -= 1

    async def _keep(
        self,
        session: Session,
        body: Act,
        clock: Clock,
        checked: _Checked,
        result: ActResult,
        answer: ActAnswer,
        planned: float,
    ) -> ActAnswer:
        kept = await self.keep(session, body, checked, result, answer)
        if kept is answer:
            self._took(session, body, clock, checked, result, answer, planned)
        return kept

    def _took(
        self,
        session: Session,
        body: Act,
        clock: Clock,
        checked: _Checked,
        result: ActResult,
        answer: ActAnswer,
        planned: float,
    ) -> None:
        """The act is stored: remember how long that took, notify who watches, and plan ahead if that is wanted."""
        tail_s = time.monotonic() - planned
        self._tail_s += 0.1 * (tail_s - self._tail_s)
        clock.timing = {"decode_ms": 1e3 * clock.decode_s, **result.timing, "store_ms": 1e3 * tail_s}
        self._afterwards(
            session,
            checked.observation,
            body,
            result,
            clock.timing,
            answer["step"],
            settings=checked.settings,
            seed=checked.seed,
        )

    # -- the hooks, in their order -----------------------------------------------------------------------

    def decode(self, tree: Any) -> Act:
        """The fields of an act of a session, out of a body as its format gives it.

        Raises:
            ProblemError: ``invalid_request``, naming every field that is wrong.
        """
        body = parse(Act, tree)
        check_limits(body, self._limits)
        return body

    def decode_once(self, tree: Any) -> ActOnce:
        """The same for ``POST /v1/act``, which names a model or a session."""
        body = parse(ActOnce, tree)
        check_limits(body, self._limits)
        return body

    async def check(self, session: Session, body: Act, clock: Clock) -> _Checked | ActAnswer:
        """The act against the model's spaces and the session's step; its stored answer, if it was answered already.

        Raises:
            ProblemError: ``invalid_request``, ``step_conflict``.
        """
        hosted = session.hosted
        assert hosted is not None
        settings, seed = session_settings(session, hosted, body.planner)
        if clock.large:
            observation, executed = await off_loop(check_arrays, hosted, body, self._limits)
        else:
            observation, executed = check_arrays(hosted, body, self._limits)
        fingerprint = digest(
            {
                "executed_action": executed,
                "include": sorted(set(body.include)),
                "is_first": body.is_first,
                "observation": observation,
                "planner": body.planner.settings() if body.planner else {},
                "reward": body.reward,
                "step": _step_of(session, body),
            }
        )
        stored = session.expect(body.step, fingerprint)
        if stored is not None:
            session.prolong()
            return replayed(stored)
        return _Checked(observation, executed, settings, seed, fingerprint)

    async def queue(
        self, session: Session, body: Act, clock: Clock, deadline: float | None, checked: _Checked
    ) -> ActResult:
        """What the engine makes of the act.

        Raises:
            ProblemError: ``queue_full``, ``draining``, ``deadline_exceeded``, ``internal``; nothing has changed.
        """
        hosted, slot = session.hosted, session.slot
        assert hosted is not None and slot is not None
        loop = asyncio.get_running_loop()
        job = ActJob(
            model=hosted,
            loop=loop,
            future=loop.create_future(),
            arrived=clock.arrived,
            deadline=deadline,
            finish_by=None if deadline is None else deadline - self._tail_s - SAFETY_S,
            slot=slot,
            session=session.session_id,
            observation=checked.observation,
            is_first=session.first or body.is_first,
            executed_action=checked.executed_action,
            settings=checked.settings,
            key=session_key(checked.seed, session.step),
            want_plan="plan" in body.include or self._watching.watched(session.session_id),
            pondering=session.pondering,
            degradable=self._degrade,
        )
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
                hosted.slots.release(future.result().slot)
            raise
        except DeadlinePassed as error:
            raise ProblemError(
                "deadline_exceeded", f"{error}; no plan was made and nothing has changed"
            ) from error
        except EngineStopped as error:
            raise ProblemError("draining", str(error), retry_after=5.0) from error
        except Exception as error:
            log.error("act failed", model=hosted.name, reason=f"{type(error).__name__}: {error}")
            raise ProblemError("internal", "planning failed; nothing has changed") from error

    def pack(self, session: Session, body: Act, clock: Clock, result: ActResult) -> ActAnswer:
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
        if result.plan is not None and "plan" in body.include:
            budget = dict(result.plan.get("budget") or {})
            pondered = {"pondered_ms": round(result.pondered_ms, 3)} if result.pondered_ms else {}
            answer["plan"] = {**result.plan, "budget": {**budget, "deadline_ms": deadline_ms, **pondered}}
        queue_ms = result.timing["queue_ms"]
        self._metrics.phase("queue", queue_ms / 1e3)
        if not body.include:  # nothing but the action needs another form
            return ActAnswer(answer, pack_msgpack({**answer, "action": to_wire(result.action, binary=True)}))
        if "timing" not in body.include:
            return ActAnswer(answer, encode_body(answer, media.MSGPACK))
        began = time.perf_counter()
        wire = to_wire(answer, binary=True)
        timing = {
            "decode_ms": 1e3 * clock.decode_s,
            **result.timing,
            "encode_ms": 1e3 * (time.perf_counter() - began),
            "total_ms": 1e3 * (time.monotonic() - clock.arrived),
        }
        answer["timing"] = {name: round(value, 3) for name, value in timing.items()}
        return ActAnswer(answer, pack_msgpack({**wire, "timing": answer["timing"]}))

    def _packed(self, session: Session, body: Act, clock: Clock, result: ActResult) -> ActAnswer:
        """``pack``; a result that cannot be packed gives its slot back."""
        try:
            return self.pack(session, body, clock, result)
        except BaseException:
            assert session.hosted is not None
            session.hosted.slots.release(result.slot)
            raise

    async def keep(
        self, session: Session, body: Act, checked: _Checked, result: ActResult, answer: ActAnswer
    ) -> ActAnswer:
        """Make the act durable, then the session's. Where another replica answered the step first: its answer, if
        the request was the same.

        Raises:
            ProblemError: ``store_unavailable``, ``step_conflict``; nothing has changed.
        """
        hosted, step = session.hosted, _step_of(session, body)
        assert hosted is not None
        try:
            await self._journal.write(session, **_changes(session, checked, result, answer))
            return answer
        except RevisionConflict:
            hosted.slots.release(result.slot)
        except BaseException:
            hosted.slots.release(result.slot)
            raise
        await self._journal.current(session)
        if session.step == step + 1 and session.digest == checked.fingerprint and session.answer is not None:
            return replayed(session.answer)
        raise step_conflict(session.step, step)

    async def _current(self, session: Session, deadline: float) -> None:
        """Make the session current; a store that is silent does not hold the request beyond its deadline."""
        try:
            async with asyncio.timeout_at(_loop_time(deadline)):
                await self._journal.current(session)
        except TimeoutError as error:
            raise ProblemError(
                "store_unavailable",
                "the session store did not answer before the deadline; nothing has changed, try again",
            ) from error


def _changes(session: Session, checked: _Checked, result: ActResult, answer: ActAnswer) -> dict[str, Any]:
    """What an act makes of its session."""
    return {
        "state": result.state,
        "slot": result.slot,
        "step": session.step + 1,
        "first": False,
        "digest": checked.fingerprint,
        "answer": answer.packed,
    }


def check_arrays(hosted: Hosted, body: Act, limits: Limits) -> tuple[Any, Any]:
    """Observation and executed action, validated against the model's spaces and in their dtypes.

    Raises:
        ProblemError: ``invalid_request``.
    """
    assert hosted.observation_space is not None and hosted.action_space is not None
    observation = decode_observation(body.observation, hosted.observation_space, limits=limits)
    if body.executed_action is None:
        return observation, None
    path = "executed_action"
    return observation, decode_action(body.executed_action, hosted.action_space, path=path, limits=limits)


def _step_of(session: Session, body: Act) -> int:
    """The step that an act is for; without one the server counts."""
    return session.step if body.step is None else body.step


def _loop_time(monotonic: float) -> float:
    """A time of the monotonic clock on the event loop's clock."""
    return asyncio.get_running_loop().time() + (monotonic - time.monotonic())
