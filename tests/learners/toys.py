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


class Recall(gymnasium.Env[np.ndarray, int]):
    """A corridor whose first cell shows which of two exits at its other end will pay (a T-maze; Bakker, 2002).

    Actions: forward, and the two exits, which do nothing before the last cell. Observed: the cell as a one-hot and,
    on the first step alone, the exit. An exit ends the episode with reward 1 or 0; who forgot the sign gets 0.5.
    """

    CELLS = 4
    LIMIT = 24
    observation_space = Box(0.0, 1.0, (CELLS + 2,), np.float32)
    action_space = Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.cell, self.steps, self.exit = 0, 0, int(self.np_random.integers(2))
        return self._seen(), {"events": ["sign"]}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        done = self.cell == self.CELLS - 1 and action >= 1
        success = bool(done and action - 1 == self.exit)
        if action == 0:
            self.cell = min(self.cell + 1, self.CELLS - 1)
        return (
            self._seen(),
            float(success),
            done,
            self.steps >= self.LIMIT,
            {"events": [], "success": success},
        )

    def _seen(self) -> np.ndarray:
        seen = np.zeros(self.CELLS + 2, np.float32)
        seen[self.cell] = 1
        if self.steps == 0:
            seen[self.CELLS + self.exit] = 1
        return seen


class Signs(gymnasium.Env[np.ndarray, int]):
    """A bandit in pixels: the colour of a square, wherever it stands, says which of three actions pays 1.

    Each of an episode's 8 steps shows another square; who does not look gets 8 / 3.
    """

    observation_space = Box(0, 255, (16, 16, 3), np.uint8)
    action_space = Discrete(3)
    LIMIT = 8

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._shown(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = float(int(action) == self.sign)
        self.steps += 1
        return self._shown(), reward, False, self.steps >= self.LIMIT, {}

    def _shown(self) -> np.ndarray:
        self.sign = int(self.np_random.integers(3))
        left, top = self.np_random.integers(0, 8, 2)
        image = np.full((16, 16, 3), 40, np.uint8)
        image[top : top + 8, left : left + 8, self.sign] = 230
        return image
