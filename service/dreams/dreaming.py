"""What can be done with dreams: begun, stepped, reset, forked, shown and ended.

A step is exactly once, as an act of a session is: it is durable before it is answered; asked again, it is answered
again and changes nothing; any other step is refused. When its client goes it does not stop half-way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from service.dreams.answers import SHOWN, again, looks, merged, nothing_done, some
from service.dreams.dream import Dream, DreamStates
from service.dreams.table import DreamTable
from service.dreams.worker import DreamWorker
from service.engine.engine import Engine
from service.engine.jobs import collate
from service.models.hosted import Hosted
from service.models.repository import ModelRepository
from service.operations.offloop import off_loop
from service.protocol import media
from service.protocol.arrays import decode_array
from service.protocol.bodies import encode_body
from service.protocol.digests import digest
from service.protocol.errors import ProblemError, invalid, show
from service.protocol.limits import Limits
from service.protocol.requests import (
    CreateDream,
    DreamStep,
    Fork,
    ImagineDream,
    ResetDream,
    check_limits,
    parse,
)
from service.protocol.values import decode_action, decode_observation
from service.sessions.answers import ActAnswer
from service.sessions.imagine import Imagination, ImaginePipeline
from service.sessions.journal import Journal
from service.sessions.planner import planner_settings
from thick.runtimes.protocol import DreamtStep

Result = TypeVar("Result")

MANY = 64
"""environments; the actions of more are validated, and their answer is packed, off the event loop"""


class Dreaming:
    """See the module.

    Args:
        ttl_s: of a dream that asks for none, s.
    """

    def __init__(
        self,
        *,
        dreams: DreamTable,
        repository: ModelRepository,
        journal: Journal,
        engine: Engine,
        limits: Limits,
        imagining: ImaginePipeline,
        ttl_s: float,
    ) -> None:
        self._imagining = imagining
        self._dreams, self._repository, self._journal = dreams, repository, journal
        self._worker, self._limits, self._ttl_s = DreamWorker(engine), limits, ttl_s
        self._unfinished: set[asyncio.Task[Any]] = set()

    # -- making ------------------------------------------------------------------------------------------------------

    async def create(self, tree: Any) -> dict[str, Any]:
        """``POST /v1/dreams``"""
        body = parse(CreateDream, tree)
        check_limits(body, self._limits)
        return await self._whole(self._create(body))

    async def _create(self, body: CreateDream) -> dict[str, Any]:
        rows: np.ndarray | None
        if body.dream_id is not None:
            source = await self._dreams.find(body.dream_id)
            async with self._dreams.turn(source) as (hosted, states):
                rows, ended = states.rows, np.flatnonzero(states.terminated)
            _check_model(body, hosted, f"dream {body.dream_id!r}")
            if "count" not in body.model_fields_set:
                body = body.model_copy(update={"count": len(rows)})
            if len(rows) not in (1, body.count):
                raise invalid(
                    "count",
                    f"expected {len(rows)}, as many as dream {body.dream_id!r} has, got {body.count}",
                )
            if len(ended):
                raise ProblemError(
                    "dream_ended",
                    f"environments {some(ended)} of dream {body.dream_id!r} have terminated, and nothing begins "
                    f"there: reset them first (POST /v1/dreams/{body.dream_id}/reset with indices)",
                    terminated=ended.tolist(),
                )
        elif body.session_id is not None:
            hosted, rows = await self._of_session(body)
        else:
            model = body.model or self._repository.only("dream_id, session_id and observation")
            hosted = self._repository.for_new_session(model, body.version)
            rows = await self._seen(hosted, body)
        _check_pictures(body.include, body.count)
        dream = Dream.new(
            hosted,
            count=body.count,
            seed=body.seed,
            sample=body.sample,
            ttl_s=float(self._ttl_s if body.ttl_s is None else body.ttl_s),
        )
        starts = None if rows is None else np.broadcast_to(rows, (body.count, rows.shape[1]))
        with self._dreams.room(body.count):
            fresh = await self._worker.begun(hosted, dream, starts, np.arange(body.count))
            await self._dreams.write(
                dream, DreamStates(fresh, starts, np.zeros(body.count, np.bool_)), clock=dream.clock + 1
            )
        return await self._shown(dream, hosted, fresh, body.include)

    async def _seen(self, hosted: Hosted, body: CreateDream) -> np.ndarray | None:
        """A dream after the observation that was given, if one was."""
        if body.observation is None:
            return None
        assert hosted.observation_space is not None
        observation = decode_observation(body.observation, hosted.observation_space, limits=self._limits)

        def observe() -> np.ndarray:
            runtime = hosted.runtime
            state = runtime.observe(
                runtime.initial(1),
                collate([observation]),
                is_first=np.ones(1, np.bool_),
                keys=np.zeros(1, np.int64),
            )
            return runtime.dreams.of(state)

        return await self._worker.run(observe)

    async def _of_session(self, body: CreateDream) -> tuple[Hosted, np.ndarray]:
        """A dream that goes on from a session's belief."""
        assert body.session_id is not None
        session = await self._journal.find(body.session_id)
        async with session.turn():
            await self._journal.current(session)
            hosted, slot = session.hosted, session.slot
            assert hosted is not None and slot is not None
            _check_model(body, hosted, f"session {body.session_id!r}")
            if session.first:
                raise ProblemError(
                    "conflict",
                    "the session has seen nothing of its episode: act first, or dream from an observation",
                )
            session.prolong()
            return hosted, await self._worker.run(
                lambda: hosted.runtime.dreams.of(hosted.slots.states([slot]))
            )

    async def fork(self, dream_id: str, tree: Any) -> dict[str, Any]:
        """``POST /v1/dreams/{id}/fork``"""
        return await self._whole(self._fork(dream_id, parse(Fork, tree)))

    async def _fork(self, dream_id: str, body: Fork) -> dict[str, Any]:
        parent = await self._dreams.find(dream_id)
        with self._dreams.room(parent.count):
            async with self._dreams.turn(parent) as (hosted, states):
                made = Dream.new(
                    hosted,
                    count=parent.count,
                    seed=parent.seed if body.seed is None else body.seed,
                    sample=parent.sample,
                    ttl_s=parent.ttl_s,
                    step=parent.step,
                    clock=parent.clock,
                )
                await self._dreams.write(made, states)
        return await self._shown(made, hosted, states.rows)

    # -- stepping ----------------------------------------------------------------------------------------------------

    async def step(self, dream_id: str, tree: Any) -> ActAnswer:
        """``POST /v1/dreams/{id}/step``"""
        return await self._whole(self._step(dream_id, parse(DreamStep, tree)))

    async def _step(self, dream_id: str, body: DreamStep) -> ActAnswer:
        dream = await self._dreams.find(dream_id)
        _check_pictures(body.include, dream.count)
        async with self._dreams.turn(dream) as (hosted, states):
            actions = await self._actions(hosted, dream.count, body)
            content = body.model_dump(exclude={"actions", "step", "include"})
            fingerprint = digest({**content, "actions": actions, "include": sorted(set(body.include))})
            if body.step is not None and body.step != dream.step:
                return again(dream, body.step, fingerprint)
            anew = self._indices(body.begin, dream.count, "begin")
            ended = np.setdiff1d(np.flatnonzero(states.terminated), anew)
            if len(ended) and not body.autoreset:
                raise ProblemError(
                    "dream_ended",
                    f"environments {some(ended)} of the dream have terminated: reset them (POST "
                    f"/v1/dreams/{dream_id}/reset with indices), or step with autoreset",
                    terminated=ended.tolist(),
                    expected_step=dream.step,
                )
            made = await self._made(hosted, dream, states, actions, body, np.union1d(ended, anew))
            answer = await self._answer(dream, hosted, made, body)
            await self._dreams.write(
                dream,
                DreamStates(made.rows, states.starts, made.terminated),
                step=dream.step + 1,
                clock=dream.clock + 1,
                digest=fingerprint,
                answer=answer.packed,
            )
            return answer

    async def _actions(self, hosted: Hosted, count: int, body: DreamStep) -> np.ndarray:
        """``[count, A]``, validated."""
        sent, space = body.actions, hosted.action_space
        assert space is not None
        if isinstance(sent, Mapping):
            array = decode_array(sent, path="actions", limits=self._limits)
            if not array.ndim:
                raise invalid("actions", f"expected one for each of {count} environments, got one number")
            sent = array.tolist() if array.ndim == 1 else list(array)
        if not isinstance(sent, list):
            raise invalid("actions", f"expected a list or an array, got {show(sent)}")
        if len(sent) != count:
            raise invalid("actions", f"expected one for each of {count} environments, got {len(sent)}")

        def read() -> np.ndarray:
            return hosted.runtime.encode_action(
                [
                    decode_action(value, space, path=f"actions[{index}]", limits=self._limits)
                    for index, value in enumerate(sent)
                ]
            )

        return await off_loop(read) if count > MANY else read()

    async def _made(
        self,
        hosted: Hosted,
        dream: Dream,
        states: DreamStates,
        actions: np.ndarray,
        body: DreamStep,
        ended: np.ndarray,
    ) -> DreamtStep:
        """One step; the environments ``ended`` begin anew instead."""
        if not len(ended):
            return await self._worker.moved(hosted, dream, states, actions, body.include, slice(None))
        fresh = await self._worker.begun(hosted, dream, states.starts, ended)
        shown = None
        if SHOWN & set(body.include):
            shown = await self._worker.run(lambda: hosted.runtime.dreams.observations(fresh))
        if len(ended) == dream.count:
            return nothing_done(fresh, shown, valued="value" in body.include and hosted.runtime.has("policy"))
        going = np.setdiff1d(np.arange(dream.count), ended)
        made = await self._worker.moved(hosted, dream, states, actions, body.include, going)
        return merged(made, going, nothing_done(fresh, shown, valued=made.value is not None), ended)

    async def _answer(self, dream: Dream, hosted: Hosted, made: DreamtStep, body: DreamStep) -> ActAnswer:
        def pack() -> ActAnswer:
            answer: dict[str, Any] = {"dream_id": dream.dream_id, "step": dream.step, "replayed": False}
            if made.observation is not None:
                assert hosted.manifest is not None
                space = hosted.manifest.observation_space
                answer |= looks(made.observation, dream.count, body.include, space=space, image=body.image)
            for name in ("reward", "continuation", "terminated"):
                answer[name] = getattr(made, name).tolist()
            if made.value is not None:
                answer["value"] = made.value.tolist()
            if "gates" in body.include:
                answer["gates_open"] = made.gates_open.tolist()
                answer["context_changed"] = (made.gates_open > 0).tolist()
            return ActAnswer(answer, encode_body(answer, media.MSGPACK))

        return await off_loop(pack) if dream.count > MANY or "picture" in body.include else pack()

    async def imagine(self, dream_id: str, tree: Any) -> Imagination:
        """``POST /v1/dreams/{id}/imagine``: what could follow in one environment; changes nothing."""
        body = parse(ImagineDream, tree)
        check_limits(body, self._limits)
        dream = await self._dreams.find(dream_id)
        async with self._dreams.turn(dream) as (hosted, states):
            at = self._indices([body.index], dream.count, "index")
            row = states.rows[at]
            step = dream.clock
        settings = planner_settings(hosted, body.planner.settings() if body.planner else {})
        (slot,), _ = await self._worker.run(lambda: hosted.slots.keep(hosted.runtime.dreams.sessions(row), 1))
        seed = dream.seed if body.seed is None else body.seed
        return await self._imagining.start(hosted, slot, body, settings=settings, seed=seed, step=step)

    # -- the rest ----------------------------------------------------------------------------------------------------

    async def reset(self, dream_id: str, tree: Any) -> dict[str, Any]:
        """``POST /v1/dreams/{id}/reset``: all of it, or some of its environments"""
        return await self._whole(self._reset(dream_id, parse(ResetDream, tree)))

    async def _reset(self, dream_id: str, body: ResetDream) -> dict[str, Any]:
        dream = await self._dreams.find(dream_id)
        _check_pictures(body.include, dream.count)
        async with self._dreams.turn(dream) as (hosted, states):
            whole = body.indices is None
            at = (
                np.arange(dream.count) if whole else self._indices(body.indices or (), dream.count, "indices")
            )
            fresh = await self._worker.begun(hosted, dream, states.starts, at, seed=body.seed)
            rows, terminated = states.rows.copy(), states.terminated.copy()
            rows[at], terminated[at] = fresh, False
            changes: dict[str, Any] = {"clock": dream.clock + 1}
            if body.seed is not None:
                changes |= {"seed": body.seed, "clock": 1}
            if whole:
                changes |= {"step": 0, "digest": None, "answer": None}
            await self._dreams.write(dream, DreamStates(rows, states.starts, terminated), **changes)
        return await self._shown(dream, hosted, rows, body.include)

    @staticmethod
    def _indices(sent: Sequence[int], count: int, path: str) -> np.ndarray:
        """Environments, each once and in order."""
        at = np.array(sorted(set(sent)), np.int64)
        if len(at) and at[-1] >= count:
            raise invalid(path, f"expected numbers from 0 to {count - 1}, got {at[-1]}")
        return at

    async def get(self, dream_id: str) -> dict[str, Any]:
        """``GET /v1/dreams/{id}``: as it is now, with what it looks like"""
        dream = await self._dreams.find(dream_id)
        async with self._dreams.turn(dream) as (hosted, states):
            rows = states.rows
        return await self._shown(dream, hosted, rows)

    async def listed(self) -> dict[str, Any]:
        """``GET /v1/dreams``"""
        await self._dreams.catch_up()
        for dream in self._dreams.all():
            if dream.states is None:  # nobody used it here since a restart
                with contextlib.suppress(ProblemError):  # shown without spaces until its model is loaded
                    async with self._dreams.turn(dream):
                        pass
        return {"dreams": [dream.view() for dream in self._dreams.all()]}

    async def delete(self, dream_id: str) -> None:
        """``DELETE /v1/dreams/{id}``"""
        dream = await self._dreams.find(dream_id)
        async with self._dreams.turn(dream):
            await self._dreams.delete(dream)

    async def _shown(
        self, dream: Dream, hosted: Hosted, rows: np.ndarray, include: Sequence[str] = ("observation",)
    ) -> dict[str, Any]:
        observation = await self._worker.run(
            lambda: hosted.runtime.dreams.observations(np.ascontiguousarray(rows))
        )
        view = dream.view()
        show = partial(looks, observation, dream.count, include, space=view["observation_space"])
        aside = "picture" in include or dream.count > MANY
        return view | (await off_loop(show) if aside else show())

    async def _whole(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do it to the end, also when the client goes away meanwhile."""
        task = asyncio.create_task(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)


def _check_pictures(include: Sequence[str], count: int) -> None:
    if "picture" in include and count > MANY:
        raise invalid(
            "include", f"picture is for people: of at most {MANY} environments, this dream has {count}"
        )


def _check_model(body: CreateDream, hosted: Hosted, what: str) -> None:
    if body.model not in (None, hosted.name) or body.version not in (None, hosted.version):
        raise ProblemError(
            "conflict", f"{what} is of model {hosted.name!r} version {hosted.version!r}, not of the one named"
        )
