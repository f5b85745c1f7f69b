"""Tasks so small that a learner must succeed on one core within seconds; each as ``FILE.py:CLASS``."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Chain(gymnasium.Env[np.ndarray, int]):
    """Five cells in a row: fetch the key at one end, then go to the door at the other. Both ends reward, the door ends.

    Actions: left, stay, right. Observed: the cell and the key as one-hots. Six steps are enough; 20 are given.
    """

    observation_space = Box(0.0, 1.0, (6,), np.float32)
    action_space = Discrete(3)
    LIMIT = 20

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.cell, self.key, self.steps = 2, False, 0
        return self._seen(), {"events": []}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.cell = int(np.clip(self.cell + int(action) - 1, 0, 4))
        self.steps += 1
        found = self.cell == 0 and not self.key
        self.key = self.key or found
        done = self.cell == 4 and self.key
        info = {"events": ["key"] if found else [], "success": done}
        return self._seen(), 0.5 * found + done, done, self.steps >= self.LIMIT, info

    def _seen(self) -> np.ndarray:
        seen = np.zeros(6, np.float32)
        seen[self.cell] = 1
        seen[5] = self.key
        return seen


class Point(gymnasium.Env[np.ndarray, np.ndarray]):
    """A point on a line that is paid for being near 0.6: 1 less its distance, for 15 steps."""

    observation_space = Box(-1.0, 1.0, (2,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)
    LIMIT = 15

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.steps = float(self.np_random.uniform(-1, 0)), 0
        return self._seen(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.place = float(np.clip(self.place + 0.25 * float(action[0]), -1, 1))
        self.steps += 1
        return self._seen(), 1 - abs(self.place - 0.6), False, self.steps >= self.LIMIT, {}

    def _seen(self) -> np.ndarray:
        return np.array([self.place, -self.place], np.float32)
