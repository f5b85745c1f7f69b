"""Imagining for a client: arguments validated, steps as they are made, and the whole of it for one answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
import structlog

from service.engine.engine import Engine
from service.engine.jobs import EngineStopped, ImagineJob, Observation
from service.engine.tasks import END
from service.models.hosted import Hosted
from service.operations.offloop import off_loop
from service.protocol.arrays import encode_image
from service.protocol.errors import ProblemError, invalid
from service.protocol.limits import Limits
from service.protocol.requests import Imagine
from service.protocol.values import decode_action
from thick.planning.settings import PlannerSettings, session_key
from thick.spaces import Box, MultiDiscrete

log = structlog.get_logger("thick.imagine")

MANY_ACTIONS = 64
"""more are validated off the event loop"""
AWAY = 1 << 40
"""added to the step for the key of an imagination, so that it never draws what an act draws"""
_PARTS = {"observation": ("observation", "subgoal"), "gates": ("gates_open", "context_changed")}
"""what each entry of ``include`` brings; the others bring the field of their name"""
_OPTIONAL = {"observation", "subgoal", "reward", "value", "gates_open", "context_changed"}
"""fields that are left out unless asked for"""


class Imagination:
    """One imagination in progress. Iterate it for the steps; ``close`` it when nobody listens any more."""

    def __init__(self, job: ImagineJob, body: Imagine, first: Any) -> None:
        self.level = body.level
        self._job = job
        self._body = body
        self._first = first
        self._closed = False
        self.rollouts: list[dict[str, Any]] = []
        """``{"probability", "return"}`` of each rollout, so far"""

    @property
    def hosted(self) -> Any:
        """The model that imagines."""
        return self._job.model

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """One dict for each step of each rollout: ``rollout``, ``index``, and the fields of the step.

        Raises:
            ProblemError: ``internal``.
        """
        index, step = 0, self._first
        try:
            while step is not END:
                if isinstance(step, Exception):
                    raise ProblemError("internal", "imagining failed") from step
                for event in self._split(step.fields(), index):
                    yield event
                index, step = index + 1, await self._job.steps.get()
        finally:
            self.close()

    async def whole(self) -> dict[str, Any]:
        """``{"level", "rollouts": [{"probability", "return", "steps"}]}``"""
        steps: list[list[dict[str, Any]]] = []
        async for event in self.events():
            rollout = event.pop("rollout")
            del event["index"]
            if rollout == len(steps):
                steps.append([])
            steps[rollout].append(event)
        rollouts = [{**about, "steps": made} for about, made in zip(self.rollouts, steps, strict=True)]
        return {"level": self.level, "rollouts": rollouts}

    def end(self) -> dict[str, Any]:
        """What is known once all steps were made, without the steps."""
        return {"level": self.level, "rollouts": self.rollouts}

    def close(self) -> None:
        """Stop imagining and let go of the state."""
        if not self._closed:
            self._closed = True
            self._job.cancelled = True
            self._job.model.slots.release(self._job.slot)

    def _split(self, fields: Mapping[str, Any], index: int) -> list[dict[str, Any]]:
        """The steps of all rollouts out of arrays over the rollouts."""
        likely, total = fields["rollout_probability"], fields["rollout_return"]
        self.rollouts = [
            {"probability": float(p), "return": float(r)} for p, r in zip(likely, total, strict=True)
        ]
        wanted = {name for part in self._body.include for name in _PARTS.get(part, (part,))}
        shown = [
            name
            for name in fields
            if not name.startswith("rollout_") and (name in wanted or name not in _OPTIONAL)
        ]
        return [
            {"rollout": row, "index": index, **{name: self._value(fields[name], row) for name in shown}}
            for row in range(len(likely))
        ]

    def _value(self, array: Any, row: int) -> Any:
        if isinstance(array, dict):
            return {key: self._value(value, row) for key, value in array.items()}
        value = array[row]
        if isinstance(value, np.ndarray):
            picture = value.ndim == 3 and value.shape[-1] in (1, 3, 4) and value.dtype == np.uint8
            return encode_image(value, self._body.image) if picture and self._body.image != "raw" else value
        plain = value.item()
        return None if isinstance(plain, float) and not math.isfinite(plain) else plain


class ImaginePipeline:
    """From a validated body to steps: between sessions and engine."""

    def __init__(self, *, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits

    async def start(
        self,
        hosted: Hosted,
        slot: int,
        body: Imagine,
        *,
        settings: PlannerSettings,
        seed: int,
        step: int,
        observation: Observation | None = None,
    ) -> Imagination:
        """Begin; returns once the first step is made, so that whatever is wrong with the request is known.

        Args:
            slot: where the state lies; held by the caller, released by the imagination.

        Raises:
            ProblemError: ``invalid_request``, ``draining``, ``internal``.
        """
        loop = asyncio.get_running_loop()
        try:
            given = sum(len(each) if isinstance(each, list) else 1 for each in body.actions or ())
            many = given > MANY_ACTIONS
            actions = await off_loop(self._actions, hosted, body) if many else self._actions(hosted, body)
            job = ImagineJob(
                model=hosted,
                loop=loop,
                future=loop.create_future(),
                slot=slot,
                arguments={
                    "level": body.level,
                    "horizon": body.horizon,
                    "rollouts": body.rollouts,
                    "policy": body.policy,
                    "actions": actions,
                    "settings": settings,
                },
                key=session_key(seed, step + AWAY),
                observation=observation,
            )
            self._engine.stream(job)
        except EngineStopped as error:
            hosted.slots.release(slot)
            raise ProblemError("draining", str(error), retry_after=5.0) from error
        except BaseException:
            hosted.slots.release(slot)
            raise
        try:
            first = await job.steps.get()
        except asyncio.CancelledError:
            job.cancelled = True
            hosted.slots.release(slot)
            raise
        if isinstance(first, Exception):
            hosted.slots.release(slot)
            if isinstance(first, ValueError):
                path, _, message = str(first).partition(": ")
                if path.replace(",", "").replace(".", "").replace("_", "").replace(" ", "").isalpha():
                    raise invalid(path, message) from first
            raise ProblemError("internal", "imagining failed") from first
        return Imagination(job, body, first)

    def _actions(self, hosted: Hosted, body: Imagine) -> list[Any] | None:
        """Given actions, validated and within the limits: one list, or one for each rollout.

        Raises:
            ProblemError: ``invalid_request``.
        """
        if body.actions is None:
            return None
        if not body.actions:
            raise invalid("actions", "expected at least one action; leave it out to let the policy act")
        many = self._is_nested(hosted, body)
        lists = body.actions if many else [body.actions]
        lengths = {len(each) if isinstance(each, list) else -1 for each in lists}
        if len(lengths) != 1 or min(lengths) < 1:
            raise invalid(
                "actions", "expected one list of actions, or lists of the same length for each rollout"
            )
        (length,) = lengths
        limits = self._limits
        rollouts = len(lists) if many else body.rollouts
        if length > limits.horizon or rollouts > limits.rollouts or length * rollouts > limits.imagined_steps:
            raise invalid(
                "actions",
                f"at most {limits.horizon} steps, {limits.rollouts} rollouts and {limits.imagined_steps} "
                f"steps in all; got {rollouts} x {length}",
            )
        checked = []
        for row, each in enumerate(lists):
            place = f"actions[{row}]" if many else "actions"
            checked.append([self._action(hosted, body, v, f"{place}[{i}]") for i, v in enumerate(each)])
        return checked if many else checked[0]

    def _is_nested(self, hosted: Hosted, body: Imagine) -> bool:
        assert body.actions is not None
        depth, first = 0, body.actions[0]
        while isinstance(first, list) and first:
            depth, first = depth + 1, first[0]
        if body.level == "high" or not isinstance(hosted.action_space, Box | MultiDiscrete):
            return depth > 0
        return depth > len(hosted.action_space.shape)  # an action is itself a list of numbers

    def _action(self, hosted: Hosted, body: Imagine, value: Any, path: str) -> Any:
        if body.level == "low":
            assert hosted.action_space is not None
            return decode_action(value, hosted.action_space, path=path, limits=self._limits)
        if not hosted.runtime.high_actions:
            raise invalid("level", "this checkpoint has no high level; expected low")
        count = hosted.runtime.high_actions[0]
        if type(value) is not int or not 0 <= value < count:
            raise invalid(path, f"expected a high-level action from 0 to {count - 1}")
        return value
