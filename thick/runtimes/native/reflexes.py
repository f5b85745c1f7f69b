"""Acts by the actor alone: from a session's packed row and an observation to an action and the next row.

The same kernels with the same numbers as an act that is observed and planned (:mod:`thick.agent`), without a tree of
arrays on the way: they read the row before and write the row behind. What a plan remembers is written as
:mod:`thick.planning.search` does for the method ``policy``.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from thick.planning.settings import PlannerSettings
from thick.runtimes.layout import Layout
from thick.runtimes.native import library as native
from thick.runtimes.native.calls import facts, whole
from thick.runtimes.native.model import NativeModel
from thick.runtimes.protocol import Observation, Reaction

if TYPE_CHECKING:
    from thick.agent import Agent

_AFTER = ("belief.stoch", "belief.logits", "belief.deter", "belief.levels.0.context", "belief.levels.0.gates")
"""what a step writes"""


class Reflexes:
    """Of an agent with an actor.

    Args:
        agent: who acts.
        layout: of its rows.
        first: the row of a session that has seen nothing, ``[row_bytes]`` uint8.
    """

    def __init__(self, agent: Agent[NativeModel], layout: Layout, first: np.ndarray) -> None:
        self._model, self._bounds, self._first = agent.model, agent.actions.bounds, first
        self._low = low = agent.model.exact
        self._leaves = {leaf.name: leaf for leaf in layout.leaves}
        self._ages = [name for name in self._leaves if name.endswith(".since")]
        self._nothing = np.zeros(low.context + 1, np.float32)
        """in the place of a context where there is none"""
        where, _, self._outputs, self._width, _ = facts(low.chains["actor"])
        self._actor, self._lead, self._size = where, low.lead, low.context + low.deter

    def act(
        self, row: np.ndarray, observation: Observation, *, is_first: bool, executed: np.ndarray | None
    ) -> Reaction:
        """See :meth:`thick.runtimes.protocol.Reflexes.react`; ``executed`` is ``[1, A]``."""
        began, low = time.perf_counter(), self._low
        if isinstance(observation, Mapping):
            embedding = self._model.encode({key: x[None] for key, x in observation.items()})
        else:
            embedding = self._model.encode(observation[None])
        before = self._first if is_first else row
        after = before.copy()
        stoch = whole(self._view(before, "belief.stoch"), (1, low.stoch), low.classes)
        action = self._view(before, "previous_action")
        if executed is not None and not is_first:
            action = np.ascontiguousarray(executed, np.float32)
        at, written = native.address(before), native.address(after)
        leaves, nothing = self._leaves, native.address(self._nothing)
        context = at + leaves[_AFTER[3]].offset if low.context else nothing
        made = [written + leaves[name].offset if name in leaves else nothing for name in _AFTER]
        job = native.StepRows(
            low.address,
            native.address(stoch),
            at + leaves["belief.deter"].offset,
            context,
            native.address(action),
            0,
            native.address(embedding),
            *made,
        )
        native.run(native.STEP, job, 1, self._lead)
        seen = time.perf_counter()
        chosen = self._chosen(*made)
        self._view(after, "previous_action")[:] = chosen
        self._view(after, "plan.sequence")[:] = chosen
        self._view(after, "plan.planned")[:] = True
        self._view(after, "plan.taken")[:] = 0
        if not is_first:
            for name in self._ages:
                self._view(after, name)[:] += 1
        return Reaction(chosen, after, seen - began, time.perf_counter() - seen)

    def _chosen(self, stoch: int, _logits: int, deter: int, context: int, _gates: int) -> np.ndarray:
        """The actor's mode ``[1, A]``, from a belief that lies there."""
        low = self._low
        memory, output = np.empty(self._size, np.float32), np.empty((1, self._width), np.float32)
        x, y = native.address(memory), native.address(output)
        ctypes.memmove(x, context, 4 * low.context)
        ctypes.memmove(x + 4 * low.context, deter, 4 * low.deter)
        native.run(native.CHAIN, native.ChainRows(self._actor, stoch, x, y), 1, self._lead)
        output = output[:, : self._outputs]
        if self._bounds is not None:
            return self._bounds.clip(low.distribution(output)[0])
        chosen = np.zeros((1, self._outputs), np.float32)
        chosen[0, output.argmax()] = 1
        return chosen

    def _view(self, row: np.ndarray, name: str) -> Any:
        leaf = self._leaves[name]
        return np.ndarray((1, *leaf.shape), leaf.dtype, row, leaf.offset)


def fits(settings: PlannerSettings) -> bool:
    """Whether these settings ask for the actor's mode and nothing else."""
    return settings.method == "policy" and settings.temperature <= 0
