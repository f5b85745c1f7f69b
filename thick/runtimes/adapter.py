"""An agent as a runtime: numpy at the border, whatever library its arrays belong to inside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from thick.planning.settings import PlannerSettings
from thick.pytrees import first, flatten, leaves, map_arrays, walk
from thick.runtimes.dreams import AgentDreams
from thick.runtimes.layout import Layout
from thick.runtimes.protocol import (
    AnytimePlan,
    Dreams,
    Observation,
    PlanResult,
    PonderPlan,
    Rows,
    RuntimeInfo,
    State,
    Step,
)
from thick.runtimes.rows import HostRows
from thick.spaces import space_to_json

_END = object()
_NOTHING = contextlib.nullcontext()


class AgentRuntime:
    """See :class:`thick.runtimes.protocol.Runtime`. As it stands it is for an agent whose arrays are numpy's; a
    library of its own overrides the methods of the last section.

    Args:
        agent: what ``thick.agent.Agent`` is, over arrays of any library.
        info: what runs it.
    """

    def __init__(self, agent: Any, info: RuntimeInfo) -> None:
        self.agent = agent
        self.info = info
        self.planner: PlannerSettings = agent.planner
        self.observation_space: Mapping[str, Any] = space_to_json(agent.observation_space)
        self.action_space: Mapping[str, Any] = space_to_json(agent.action_space)
        self.high_actions: tuple[int, ...] = () if agent.model.high is None else (agent.model.high.actions,)
        self._example = self.initial(1)
        _, self._built = flatten(self._example)
        self.layout = Layout(
            (name, self._dtype(array), tuple(array.shape[1:])) for name, array in walk(self._example)
        )
        self.dreams: Dreams = AgentDreams(self, self._example)

    # -- settings ----------------------------------------------------------------------------------------------------

    def has(self, method: str) -> bool:
        return bool(self.agent.has(method))

    def settings(self, changes: Mapping[str, Any]) -> PlannerSettings:
        settings: PlannerSettings = self.agent.settings(changes)
        return settings

    def use_threads(self, count: int) -> None:
        """numpy computes on the calling thread."""

    # -- states ------------------------------------------------------------------------------------------------------

    def initial(self, batch: int) -> State:
        with self._computing():
            return self.agent.initial(batch)

    def pack(self, state: State) -> np.ndarray:
        return self.layout.pack([self._numpy(array) for array in leaves(state)])

    def unpack(self, rows: np.ndarray) -> State:
        return self._built([self._array(np.ascontiguousarray(array)) for array in self.layout.unpack(rows)])

    def take(self, state: State, rows: Sequence[int]) -> State:
        if list(rows) == list(range(first(state).shape[0])):
            return state
        at = self._array(np.asarray(rows, np.int64))
        with self._computing():
            return map_arrays(lambda array: array[at], state)

    def rows(self, capacity: int) -> Rows:
        return HostRows(self, capacity)

    # -- acting ------------------------------------------------------------------------------------------------------

    def observe(
        self,
        state: State,
        observation: Observation,
        *,
        is_first: np.ndarray,
        executed_action: np.ndarray | None = None,
        executed: np.ndarray | None = None,
        keys: np.ndarray,
    ) -> State:
        with self._computing():
            return self.agent.observe(
                state,
                {key: self._array(each) for key, each in observation.items()}
                if isinstance(observation, Mapping)
                else self._array(observation),
                is_first=self._array(is_first),
                executed_action=None if executed_action is None else self._array(executed_action),
                executed=None if executed is None else self._array(executed),
                keys=self._array(keys),
            )

    def plan(
        self, state: State, settings: PlannerSettings, *, keys: np.ndarray, budget_s: float | None = None
    ) -> AnytimePlan:
        with self._computing():
            planning = self.agent.plan(state, settings, keys=self._array(keys), budget_s=budget_s)
        return _Plan(self, planning)

    def ponder(self, state: State, settings: PlannerSettings, *, keys: np.ndarray) -> PonderPlan:
        with self._computing():
            return _PonderPlan(self, self.agent.ponder(state, settings, keys=self._array(keys)))

    def context_changed(self, state: State) -> np.ndarray:
        return np.any(self._numpy(state.belief.gates) > 0, -1)

    def imagine(
        self,
        state: State,
        *,
        keys: np.ndarray,
        level: str,
        horizon: int,
        rollouts: int,
        policy: str,
        actions: Sequence[Any] | None,
        settings: PlannerSettings,
    ) -> Iterator[Step | None]:
        with self._computing():
            steps = self.agent.imagine_in_parts(
                state,
                keys=self._array(keys),
                level=level,
                horizon=horizon,
                rollouts=rollouts,
                policy=policy,
                actions=actions,
                settings=settings,
            )
        return self._computed(steps)

    def _computed(self, steps: Iterator[Any]) -> Iterator[Step | None]:
        while True:
            with self._computing():
                step = next(steps, _END)
            if step is _END:
                return
            yield step  # type: ignore[misc]

    # -- actions outside and inside ----------------------------------------------------------------------------------

    def encode_action(self, actions: Sequence[Any]) -> np.ndarray:
        return self._numpy(self.agent.encode_action(actions))

    def decode_action(self, action: np.ndarray) -> list[Any]:
        decoded: list[Any] = self.agent.decode_action(self._array(action))
        return decoded

    # -- the library of the agent's arrays ---------------------------------------------------------------------------

    def _array(self, array: np.ndarray) -> Any:
        """An array of numpy as one of the agent's library, on its device."""
        return array

    def _numpy(self, array: Any) -> np.ndarray:
        """The opposite."""
        return np.asarray(array)

    def _dtype(self, array: Any) -> str:
        """The name of an array's type as numpy has it."""
        return str(array.dtype)

    def _computing(self) -> AbstractContextManager[Any]:
        """Around whatever the agent computes; leaving it may wait for what was begun."""
        return _NOTHING


class _Plan:
    """See :class:`thick.runtimes.protocol.AnytimePlan`."""

    def __init__(self, runtime: AgentRuntime, planning: Any) -> None:
        self._runtime, self._planning = runtime, planning

    @property
    def done(self) -> bool:
        return bool(self._planning.done)

    @property
    def phase(self) -> str:
        return str(self._planning.phase)

    def step(self) -> None:
        with self._runtime._computing():
            self._planning.step()

    def result(self) -> PlanResult:
        with self._runtime._computing():
            return _Result(self._runtime, self._planning.result())


class _PonderPlan(_Plan):
    """See :class:`thick.runtimes.protocol.PonderPlan`."""

    @property
    def expects_change(self) -> np.ndarray:
        return self._runtime._numpy(self._planning.expects_change)


class _Result:
    """See :class:`thick.runtimes.protocol.PlanResult`."""

    def __init__(self, runtime: AgentRuntime, output: Any) -> None:
        self._runtime, self._output = runtime, output
        self.action = runtime._numpy(output.action)
        self.state: State = output.state
        self.phase_ms: Mapping[str, float] = output.phase_ms

    def budget(self, row: int) -> dict[str, Any]:
        return dict(self._output.budget(row))

    def info(self, row: int) -> dict[str, Any]:
        with self._runtime._computing():
            return dict(self._output.info(row))
