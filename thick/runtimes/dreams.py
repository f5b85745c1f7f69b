"""Dreams at the border of a runtime: packed rows and numpy arrays in and out, whatever computes inside."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from thick.imagination import dreams
from thick.imagination.asked import numpy_of
from thick.imagination.dreams import DreamState
from thick.planning.randomness import Randomness
from thick.pytrees import flatten, leaves, walk
from thick.runtimes.layout import Layout
from thick.runtimes.protocol import DreamtStep, Observation, State


class Border(Protocol):
    """What a runtime's arrays are, inside and outside (``thick.runtimes.adapter.AgentRuntime``)."""

    agent: Any

    def _array(self, array: np.ndarray) -> Any: ...

    def _numpy(self, array: Any) -> np.ndarray: ...

    def _dtype(self, array: Any) -> str: ...

    def _computing(self) -> AbstractContextManager[Any]: ...


class AgentDreams:
    """See :class:`thick.runtimes.protocol.Dreams`."""

    def __init__(self, runtime: Border, example: State) -> None:
        self._runtime = runtime
        like = dreams.of(example.belief)
        _, self._built = flatten(like)
        self.layout = Layout(
            (name, runtime._dtype(array), tuple(array.shape[1:])) for name, array in walk(like)
        )

    def of(self, state: State) -> np.ndarray:
        return self._pack(dreams.of(state.belief))

    def sessions(self, rows: np.ndarray) -> State:
        agent = self._runtime.agent
        with self._runtime._computing():
            fresh = agent.initial(len(rows))
            return fresh._replace(belief=dreams.believed(agent, self._state(rows)))

    def begin(self, keys: np.ndarray, *, sample: bool) -> np.ndarray:
        runtime = self._runtime
        with runtime._computing():
            return self._pack(dreams.begun(runtime.agent, self._randomness(keys, sample), len(keys)))

    def step(
        self,
        rows: np.ndarray,
        actions: np.ndarray,
        *,
        keys: np.ndarray,
        sample: bool,
        include: Collection[str],
    ) -> DreamtStep:
        runtime, agent = self._runtime, self._runtime.agent
        with runtime._computing():
            made = dreams.stepped(
                agent, self._state(rows), runtime._array(actions), self._randomness(keys, sample)
            )
            belief = dreams.believed(agent, made.state)
            valued = "value" in include and agent.model.exact.has_actor
            return DreamtStep(
                rows=self._pack(made.state),
                reward=runtime._numpy(made.reward),
                continuation=runtime._numpy(made.continuation),
                terminated=runtime._numpy(made.terminated),
                gates_open=runtime._numpy(made.gates_open),
                value=runtime._numpy(agent.model.exact.value(belief)) if valued else None,
                observation=numpy_of(agent.model.decode(belief)) if "observation" in include else None,
            )

    def observations(self, rows: np.ndarray) -> Observation:
        runtime, agent = self._runtime, self._runtime.agent
        with runtime._computing(), agent.model.arrays.no_grad():
            shown: Observation = numpy_of(agent.model.decode(dreams.believed(agent, self._state(rows))))
            return shown

    def _randomness(self, keys: np.ndarray, sample: bool) -> Randomness | None:
        return Randomness(self._runtime._array(keys)) if sample else None

    def _pack(self, state: DreamState) -> np.ndarray:
        return self.layout.pack([self._runtime._numpy(array) for array in leaves(state)])

    def _state(self, rows: np.ndarray) -> Any:
        arrays = self.layout.unpack(rows)
        return self._built([self._runtime._array(np.ascontiguousarray(array)) for array in arrays])
