"""Many environments stepped together, with resets a replay can rely on.

Built on gymnasium's vector environments with `AutoresetMode.NEXT_STEP` said explicitly: the step
after an episode's last one ignores its action, resets, and returns the first observation of the next
episode with reward 0. So every call of `step` yields exactly one row for every environment, the last
observation of an episode is among the rows, and no row is shown twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from thick.envs.registry import make, require, spec

gymnasium = require("gymnasium")

Array = np.ndarray[Any, Any]


class Rows(NamedTuple):
    """What N environments answered: one row each, in the order a replay stores them."""

    observation: Array | dict[str, Array]
    """[N, ...], or a dict of these"""
    reward: Array
    """float32 [N], received with the observation; 0 on first rows"""
    is_first: Array
    """bool [N]: the row starts an episode; the action sent for it was not executed"""
    is_last: Array
    """bool [N]: the row ends an episode (terminal or truncated)"""
    is_terminal: Array
    """bool [N]: nothing can follow this row: no future reward"""
    events: list[list[str]]
    """N lists of what happened on this step"""
    success: Array
    """bool [N]: the task was solved (False where the environment has no such notion)"""


@dataclass
class VectorEnv:
    """N environments of one kind. Make one with `make_vector`."""

    inner: Any
    """gymnasium's vector environment"""

    @property
    def num_envs(self) -> int:
        """N."""
        return int(self.inner.num_envs)

    @property
    def observation_space(self) -> Any:
        """The space of one environment's observation."""
        return self.inner.single_observation_space

    @property
    def action_space(self) -> Any:
        """The space of one environment's action."""
        return self.inner.single_action_space

    @property
    def envs(self) -> Sequence[Any]:
        """The environments themselves, for scripted policies; raises where they are in other processes."""
        if not hasattr(self.inner, "envs"):
            raise AttributeError("envs: they run in other processes; make them with processes=False")
        return tuple(self.inner.envs)

    def reset(self, *, seed: int | None = None) -> Rows:
        """Starts all episodes anew; environment i is seeded with `seed + i`, or goes on where it is."""
        observation, info = self.inner.reset(seed=seed)
        zeros = np.zeros(self.num_envs, bool)
        self._ended = zeros
        return self._rows(observation, np.zeros(self.num_envs), ~zeros, zeros, zeros, info)

    def step(self, actions: Any) -> Rows:
        """One step of all; `actions` [N] or [N, A]. Rows after an ended episode are first rows."""
        observation, reward, terminated, truncated, info = self.inner.step(actions)
        rows = self._rows(observation, reward, self._ended, terminated | truncated, terminated, info)
        self._ended = rows.is_last
        return rows

    def close(self) -> None:
        """Closes all environments and ends their processes."""
        self.inner.close()

    def _rows(
        self,
        observation: Any,
        reward: Array,
        first: Array,
        last: Array,
        terminal: Array,
        info: dict[str, Any],
    ) -> Rows:
        events = info.get("events", [[]] * self.num_envs)
        success = info.get("success", np.zeros(self.num_envs, bool))
        return Rows(
            observation=observation,
            reward=np.asarray(reward, np.float32),
            is_first=first.copy(),
            is_last=np.array(last, bool),
            is_terminal=np.array(terminal, bool),
            events=[list(e) if e is not None else [] for e in events],
            success=np.asarray(success, bool),
        )


def make_vector(
    env_id: str, num_envs: int, *, seed: int | None = None, processes: bool = False, **options: Any
) -> VectorEnv:
    """Makes `num_envs` environments that are stepped together.

    Args:
        env_id: as for `make`.
        seed: environment i's first reset is seeded with `seed + i`; None seeds from entropy.
        processes: one worker process each: worth it where a step takes longer than about 0.3 ms
            (pixels of dm_control), not for MiniGrid, PinPad or states.
        options: as for `make`.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs: expected at least 1, got {num_envs}")
    spec(env_id)  # a wrong identifier is told here, not by a worker process
    makers = [
        partial(make, env_id, seed=None if seed is None else seed + i, **options) for i in range(num_envs)
    ]
    mode = gymnasium.vector.AutoresetMode.NEXT_STEP
    if processes:
        # Not fork: a forked copy of a process that runs threads (torch, OpenGL) may hang.
        inner = gymnasium.vector.AsyncVectorEnv(makers, context="spawn", autoreset_mode=mode)
    else:
        inner = gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=mode)
    return VectorEnv(inner)
