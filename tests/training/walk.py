"""A task that costs nothing: a walk on a line, with the faults that an own environment may have."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from thick.envs import Family, Spec
from thick.envs.errors import UnusableEnvironmentError


class Walk(gymnasium.Env[Any, Any]):
    """Walk to the right of a line.

    Args:
        push: actions are forces (Box), not steps (Discrete).
        length: of an episode; 0 draws it anew for each.
        nan_at: step, counted over all episodes, whose answer is NaN; 0: never.
        nan_in: observation or reward; or ``shape``, where the observation has another one, or ``raises``.
        forgetful: answers differ though seed and actions are the same.
    """

    born = 0

    def __init__(
        self,
        *,
        push: bool = False,
        length: int = 0,
        nan_at: int = 0,
        nan_in: str = "observation",
        forgetful: bool = False,
    ) -> None:
        self.observation_space = gymnasium.spaces.Box(-10, 10, (3,), np.float32)
        self.action_space = (
            gymnasium.spaces.Box(-1, 1, (2,), np.float32) if push else gymnasium.spaces.Discrete(3)
        )
        self._push, self._given_length = push, length
        self._nan_at, self._nan_in = nan_at, nan_in
        Walk.born += 1
        self._shift = 0.01 * Walk.born if forgetful else 0.0
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._place, self._time = float(self.np_random.uniform(-1, 1)), 0
        self._length = self._given_length or int(self.np_random.integers(4, 9))
        return self._observation(), {"events": []}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        moved = float(np.sum(action)) if self._push else int(action) - 1.0
        self._place = float(np.clip(self._place + moved + 0.1 * self.np_random.normal(), -9, 9))
        self._time += 1
        self._steps += 1
        if self._steps == self._nan_at and self._nan_in == "raises":
            raise RuntimeError("the simulator diverged")
        if self._steps == self._nan_at and self._nan_in == "shape":
            raise UnusableEnvironmentError("walk: expected shape (3,), got (4,)")
        reward = self._place / 10
        if self._steps == self._nan_at and self._nan_in == "reward":
            reward = float("nan")
        info = {"events": ["right"] if self._place > 1 else []}
        return self._observation(), reward, False, self._time >= self._length, info

    def _observation(self) -> np.ndarray:
        wrong = self._steps == self._nan_at and self._steps > 0 and self._nan_in == "observation"
        place = float("nan") if wrong else self._place + self._shift
        return np.array([place, self._time / 10, self._length / 10], np.float32)


def _build(spec: Spec, *, render_mode: str | None = None, **options: Any) -> Walk:
    return Walk(push=spec.task == "push", **options)


FAMILY = Family(
    name="walk", summary="a walk on a line", views={}, tasks=lambda: ("steps", "push"), build=_build
)
