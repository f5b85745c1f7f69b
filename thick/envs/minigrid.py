"""MiniGrid: rooms with keys, doors and goals, as symbolic grids.

Every view is MiniGrid's own encoding, uint8 `[W, H, 3]` indexed `[x, y, channel]`: object 0..10,
colour 0..5, state 0..3 (door: open, closed, locked; agent: direction right, down, left, up).
Source: Chevalier-Boisvert et al., "Minigrid & Miniworld", 2023. `corridor-N` is this project's own
(`thick.envs.corridor`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from thick.envs.errors import MissingPackageError, UnknownEnvironmentError, UnusableEnvironmentError, reason
from thick.envs.packages import require
from thick.envs.registry import Family, Spec
from thick.envs.splits import TRIES, check_split, layout_hash, split_of

gymnasium = require("gymnasium")
_minigrid = require("minigrid")
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX  # noqa: E402
from minigrid.core.world_object import Door  # noqa: E402

from thick.envs.corridor import LONGEST, Corridor  # noqa: E402

OBJECTS, COLOURS, STATES = 11, 6, 4
"""Numbers of categories of the three channels."""

ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")
REDUCED_ACTIONS = ("left", "right", "forward", "pickup", "toggle")
_AGENT = (OBJECT_TO_IDX["agent"], COLOR_TO_IDX["red"])

VIEWS = {
    "map": "whole grid as drawn at the reset, with the live agent; inventory and doors are hidden; 5 actions",
    "full": "whole live grid with the agent; what the agent carries is hidden; 5 actions",
    "egocentric": "what the agent sees, 7x7, its own cell shows what it carries (the default); 7 actions",
    "around": "7x7 around the agent of the grid as drawn at the reset, its own cell in the colour of what it carries; "
    "which doors are open and which keys gone is hidden; 5 actions",
    "near": "7x7 around the agent of the live grid, its own cell in the colour of what it carries; 5 actions",
    "held": "what the agent sees, 7x7, its own cell shows what it carries; 5 actions",
    "partial": "what the agent sees, 7x7, without what it carries; 5 actions",
    "notext": "MiniGrid's own observation without its text: image and direction; 7 actions",
}
_WHOLE = ("map", "full")
"""views of the whole grid"""
_DRAWN = ("map", "around")
"""views of the grid as it was drawn at the reset"""
_AROUND = ("around", "near")
"""views of the grid around the agent"""
_CORRIDOR = re.compile(r"corridor-([1-9][0-9]?)")


class MiniGridView(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):  # type: ignore[name-defined]
    """One MiniGrid task seen through one view, with events in `info`.

    `info["events"]`: what this step did, of "pickup", "drop", "door_opened", "door_closed", "goal".
    `info["success"]`: whether the episode has ended with a reward.
    `info["facts"]`: what is the case now, seen or not: "carrying" something, a "door_open".
    `info["layout"]`, at the reset: the hash of what is drawn without the agent (`thick.envs.splits`).

    Args:
        split: "train" or "test": only layouts of that split are shown.
    """

    def __init__(self, env: Any, *, view: str = "egocentric", split: str | None = None) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, view=view, split=split)
        gymnasium.Wrapper.__init__(self, env)
        check_split(split)
        self.split = split
        if view not in VIEWS:
            raise UnknownEnvironmentError(f"unknown MiniGrid view {view!r}; known: {', '.join(VIEWS)}")
        base = env.unwrapped
        self.metadata = {**env.metadata, "render_modes": ["rgb_array"]}
        self.view = view
        every = view in ("egocentric", "notext")
        self.action_names: tuple[str, ...] = ACTIONS if every else REDUCED_ACTIONS
        """The name of each action number of this environment."""
        self._native = [ACTIONS.index(name) for name in self.action_names]
        self._drawn: np.ndarray[Any, Any] | None = None
        seen = base.observation_space["image"].shape[:2]
        size = (base.width, base.height) if view in _WHOLE else seen
        high = np.empty((*size, 3), np.uint8)
        high[...] = (OBJECTS - 1, COLOURS - 1, STATES - 1)
        self.observation_space = gymnasium.spaces.Box(np.zeros_like(high), high, dtype=np.uint8)
        if view == "notext":
            direction = gymnasium.spaces.Discrete(4)
            self.observation_space = gymnasium.spaces.Dict(image=self.observation_space, direction=direction)
        self.action_space = gymnasium.spaces.Discrete(len(self.action_names))
        if view in (*_WHOLE, *_AROUND):
            # Ray-casting the agent's own view is most of a step's time and would be thrown away.
            base.gen_obs = dict

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As gymnasium's; the observation is uint8 `[W, H, 3]`, or with +notext a dict."""
        for _ in range(TRIES):
            raw, info = self.env.reset(seed=seed, options=options)
            drawn = getattr(self.unwrapped, "layout", None)
            drawn = self.unwrapped.grid.encode() if drawn is None else drawn
            layout = layout_hash(drawn)
            if self.split is None or split_of(layout) == self.split:
                break
            seed = None  # the next layout of the same sequence
        else:
            raise UnusableEnvironmentError(
                f"split: none of {TRIES} resets drew a layout of {self.split!r}: this task has too few layouts"
            )
        self._drawn = drawn if self.view in _DRAWN else None
        info = {**info, "events": [], "success": False, "facts": self._facts(), "layout": layout}
        return self._observe(raw), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As gymnasium's; `action` is an index into `action_names`."""
        if not 0 <= int(action) < len(self._native):
            names = ", ".join(self.action_names)
            raise ValueError(f"action: expected 0 to {len(self._native) - 1} ({names}), got {action}")
        base = self.unwrapped
        carried = base.carrying
        front = base.grid.get(*base.front_pos)
        was_open = front.is_open if isinstance(front, Door) else None
        raw, reward, terminated, truncated, info = self.env.step(self._native[int(action)])
        events: list[str] = []
        toggled = was_open is not None and front.is_open != was_open
        if base.carrying is not carried and not toggled:  # a door may keep its key: nothing is dropped
            events.append("pickup" if base.carrying is not None else "drop")
        if toggled:
            events.append("door_opened" if front.is_open else "door_closed")
        success = bool(terminated and reward > 0)
        if success:
            events.append("goal")
        info = {**info, "events": events, "success": success, "facts": self._facts()}
        return self._observe(raw), float(reward), bool(terminated), bool(truncated), info

    def _facts(self) -> dict[str, bool]:
        base = self.unwrapped
        doors = (thing for thing in base.grid.grid if isinstance(thing, Door))
        return {"carrying": base.carrying is not None, "door_open": any(door.is_open for door in doors)}

    def _observe(self, raw: dict[str, Any]) -> Any:
        if self.view in _AROUND:
            return self._around()
        if self.view not in _WHOLE:
            seen = np.array(raw["image"], np.uint8)
            if self.view == "partial":
                seen[seen.shape[0] // 2, seen.shape[1] - 1] = (
                    OBJECT_TO_IDX["empty"],
                    0,
                    0,
                )  # the agent's own cell
            return {"image": seen, "direction": int(raw["direction"])} if self.view == "notext" else seen
        base = self.unwrapped
        image = base.grid.encode() if self._drawn is None else self._drawn.copy()  # [W, H, 3]
        image[base.agent_pos[0], base.agent_pos[1]] = (*_AGENT, base.agent_dir)
        return image

    def _around(self) -> Any:
        """The drawn or live grid around the agent, north up; nothing is drawn beyond its edge."""
        base, size = self.unwrapped, self.observation_space.shape[0]
        half = size // 2
        grid = base.grid.encode() if self._drawn is None else self._drawn
        padded = np.pad(grid, ((half, half), (half, half), (0, 0)))
        x, y = base.agent_pos
        seen = padded[x : x + size, y : y + size].copy()
        colour = _AGENT[1] if base.carrying is None else COLOR_TO_IDX[base.carrying.color]
        seen[half, half] = (_AGENT[0], colour, base.agent_dir)
        return seen


@cache
def _tasks() -> Sequence[str]:
    registered = sorted(name for name in gymnasium.registry if name.startswith(("MiniGrid-", "BabyAI-")))
    return (*registered, *(f"corridor-{doors}" for doors in range(1, LONGEST + 1)))


def _build(
    spec: Spec, *, render_mode: str | None = None, split: str | None = None, **options: Any
) -> MiniGridView:
    views = spec.views or ("egocentric",)
    if len(views) > 1:
        raise UnknownEnvironmentError(f"{spec}: MiniGrid shows one view at a time, got {', '.join(views)}")
    corridor = _CORRIDOR.fullmatch(spec.task)
    try:
        if corridor:
            env: Any = Corridor(int(corridor[1]), render_mode=render_mode, **options)
        else:
            env = gymnasium.make(spec.task, render_mode=render_mode, disable_env_checker=True, **options)
    except TypeError as error:
        raise UnusableEnvironmentError(f"{spec} could not be made: {reason(error)}") from error
    return MiniGridView(env, view=views[0], split=split)


FAMILY = Family("minigrid", "rooms with keys, doors and goals; symbolic grids", VIEWS, _tasks, _build)
__all__ = ["ACTIONS", "FAMILY", "REDUCED_ACTIONS", "VIEWS", "MiniGridView", "MissingPackageError"]
