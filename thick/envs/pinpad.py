"""Visual PinPad: an agent must step on coloured pads in the one right order.

An own implementation of the task family of Hafner et al., "Deep Hierarchical Planning from Pixels"
(Director), 2022. The 64x64 image shows the board above and the pads stepped on below; the right
order (1, 2, 3, ...) is shown nowhere and must be found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thick.envs.packages import require
from thick.envs.registry import Family, Spec

gymnasium = require("gymnasium")

ACTIONS = ("noop", "up", "down", "left", "right")
_MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""Row and column steps of the actions."""

REWARD = 10.0
MAX_STEPS = 2000

LAYOUTS = {
    "three": """
################
#1111      3333#
#1111      3333#
#1111      3333#
#1111      3333#
#              #
#              #
#              #
#              #
#     2222     #
#     2222     #
#     2222     #
#     2222     #
################""",
    "four": """
################
#1111      4444#
#1111      4444#
#1111      4444#
#1111      4444#
#              #
#              #
#              #
#              #
#3333      2222#
#3333      2222#
#3333      2222#
#3333      2222#
################""",
    "five": """
################
#111        444#
#111        444#
#111        444#
#              #
#     5555     #
#     5555     #
#     5555     #
#     5555     #
#              #
#333        222#
#333        222#
#333        222#
################""",
    "six": """
################
#111  555   333#
#111  555   333#
#111  555   333#
#              #
#              #
#              #
#              #
#              #
#              #
#444   666  222#
#444   666  222#
#444   666  222#
################""",
}
"""Boards of 14 rows by 16 columns: `#` wall, digits pads, blanks floor."""

COLOURS = {
    "#": (96, 96, 96),
    " ": (255, 255, 255),
    "1": (220, 50, 47),
    "2": (60, 170, 60),
    "3": (50, 90, 220),
    "4": (240, 200, 40),
    "5": (200, 60, 200),
    "6": (40, 190, 200),
}
AGENT_COLOUR = (0, 0, 0)
VIEWS = {
    "cells": "the same as its exact grid of categories, [16, 16, 1], instead of pixels",
    "memory": "the pads stepped on are not shown: they have to be remembered",
}
CATEGORIES = (" ", "#", "agent", "1", "2", "3", "4", "5", "6", "blank")
"""what the numbers of the +cells view mean; blank is where no pad of the history is"""
_CELL = 4
"""Pixels a cell: 16 columns and 14 + 2 rows make 64 x 64."""


class PinPad(gymnasium.Env):  # type: ignore[name-defined]
    """The board, its agent and the history of pads.

    A pad counts when the agent steps onto it and it is not the last one in the history; the history
    keeps as many pads as the board has. When it is 1, 2, 3, ... the agent gets `REWARD`; `pause`
    steps later (the completed history is seen in between) the history is empty and the agent starts
    anew at a random free cell. The episode goes on until it is truncated.

    `info["events"]`: "pad" (the right next one), "wrong" (any other), "completed".
    `info["success"]`: whether this episode has completed the order at least once.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012 (gymnasium's interface)

    def __init__(
        self,
        task: str,
        *,
        max_steps: int = MAX_STEPS,
        pause: int = 1,
        cells: bool = False,
        memory: bool = False,
        render_mode: str | None = None,
    ) -> None:
        """
        Args:
            task: a key of LAYOUTS.
            cells: observe uint8 [16, 16, 1] of CATEGORIES, indexed [x, y], instead of pixels.
            memory: do not show the history.
            max_steps: steps until truncation.
            pause: steps from completion to the new start (10 in the original).
        """
        if max_steps < 1 or pause < 1:
            raise ValueError(f"max_steps and pause: expected at least 1, got {max_steps} and {pause}")
        self.render_mode = render_mode
        self.action_names = ACTIONS
        self.task_name = task
        self.max_steps = max_steps
        self._pause = pause
        self._board = LAYOUTS[task].strip().splitlines()
        self.order: tuple[str, ...] = tuple(sorted(set("".join(self._board)) - {"#", " "}))
        """the right order"""
        self._floor = [(r, c) for r in range(14) for c in range(16) if self._board[r][c] == " "]
        self._canvas = np.zeros((16, 16, 3), np.uint8)
        self._canvas[:14] = [[COLOURS[tile] for tile in row] for row in self._board]
        self._tiles = np.full((16, 16), CATEGORIES.index("blank"), np.uint8)
        self._tiles[:14] = [[CATEGORIES.index(tile) for tile in row] for row in self._board]
        self._show_cells, self._show_history = cells, not memory
        high, shape = (len(CATEGORIES) - 1, (16, 16, 1)) if cells else (255, (64, 64, 3))
        self.observation_space = gymnasium.spaces.Box(0, high, shape, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(ACTIONS))
        self.agent = (0, 0)
        """row and column"""
        self.history: list[str] = []
        """the last pads stepped on, the newest at the end"""
        self._steps = self._completions = self._countdown = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As gymnasium's; the agent starts at a random free cell with an empty history."""
        super().reset(seed=seed)
        self._steps = 0
        self._completions = 0
        self._start_anew()
        return self._observe(), {"events": [], "success": False}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As gymnasium's; `action` is an index into ACTIONS."""
        if not self.action_space.contains(action):
            raise ValueError(f"action: expected 0 to 4 ({', '.join(ACTIONS)}), got {action!r}")
        self._steps += 1
        reward, events = 0.0, []
        if self._countdown > 0:
            self._countdown -= 1
            if self._countdown == 0:
                self._start_anew()
            else:
                self._move(int(action))
        else:
            tile = self._move(int(action))
            if tile in self.order and self.history[-1:] != [tile]:
                right = self.order[self._progress()] == tile
                self.history = [*self.history, tile][-len(self.order) :]
                events.append("pad" if right else "wrong")
                if tuple(self.history) == self.order:
                    events.append("completed")
                    reward = REWARD
                    self._completions += 1
                    self._countdown = self._pause
        info = {"events": events, "success": self._completions > 0}
        return self._observe(), reward, False, self._steps >= self.max_steps, info

    def render(self) -> np.ndarray[Any, Any] | None:
        """The image enlarged, uint8 [256, 256, 3], when made with render_mode="rgb_array"."""
        return None if self.render_mode is None else self._image().repeat(4, 0).repeat(4, 1)

    def _start_anew(self) -> None:
        self.agent = self._floor[int(self.np_random.integers(len(self._floor)))]
        self.history = []
        self._countdown = 0

    def _move(self, action: int) -> str:
        """Moves unless a wall is in the way; returns the tile the agent is on."""
        row, column = self.agent[0] + _MOVES[action][0], self.agent[1] + _MOVES[action][1]
        if self._board[row][column] != "#":
            self.agent = (row, column)
        return self._board[self.agent[0]][self.agent[1]]

    def _progress(self) -> int:
        """How many pads of the order the history ends with (less than all of them)."""
        longest = min(len(self.history), len(self.order) - 1)
        endings = ((n, tuple(self.history[len(self.history) - n :])) for n in range(longest, -1, -1))
        return next(n for n, ending in endings if ending == self.order[:n])

    def _observe(self) -> np.ndarray[Any, Any]:
        if not self._show_cells:
            return self._image(self._show_history)
        tiles = self._tiles.copy()  # [16 rows, 16 columns]
        tiles[self.agent] = CATEGORIES.index("agent")
        for place, pad in enumerate(self.history if self._show_history else ()):
            tiles[14:16, 2 * place + 1 : 2 * place + 3] = CATEGORIES.index(pad)
        return np.ascontiguousarray(tiles.T[..., None])

    def _image(self, history: bool = True) -> np.ndarray[Any, Any]:
        canvas = self._canvas.copy()  # [16, 16, 3]
        canvas[self.agent] = AGENT_COLOUR
        for place, pad in enumerate(self.history if history else ()):
            canvas[14:16, 2 * place + 1 : 2 * place + 3] = COLOURS[pad]
        return canvas.repeat(_CELL, 0).repeat(_CELL, 1)  # [64, 64, 3]


def _tasks() -> Sequence[str]:
    return tuple(LAYOUTS)


def _build(spec: Spec, *, render_mode: str | None = None, **options: Any) -> PinPad:
    views = {view: True for view in spec.views}
    return PinPad(spec.task, render_mode=render_mode, **views, **options)


FAMILY = Family("pinpad", "step on coloured pads in the one right order; 64x64 images", VIEWS, _tasks, _build)
