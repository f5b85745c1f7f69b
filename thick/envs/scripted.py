"""A scripted, noisy policy for key-and-door rooms of MiniGrid, for collecting data.

Random play shows pick-ups and door openings on about 1 % of the steps. This policy draws one
*intention* after another (fetch the key, open the door, bump into it, ...), follows a shortest path
to it, and mixes in random actions, so that the data is dense in the events a world model has to
remember, in successful attempts and in failed ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thick.envs.minigrid import ACTIONS
from thick.envs.packages import require

require("minigrid")
from minigrid.core.world_object import Door, Key, WorldObj  # noqa: E402

Cell = tuple[int, int]
Pose = tuple[int, int, int]
"""x, y, direction (0 right, 1 down, 2 left, 3 up)."""

_STEPS: tuple[Cell, ...] = ((1, 0), (0, 1), (-1, 0), (0, -1))

INTENTIONS: Mapping[str, str] = {
    "key": "walk to where the key was at the reset and pick up; fails if it is already taken",
    "pickup_nothing": "pick up in front of a cell that holds nothing to take",
    "door": "walk to the door and toggle it, with or without the key",
    "toggle_without_key": "toggle the closed door while no key is carried",
    "bump": "walk into the closed door, once to three times",
    "cross": "go to the other side of the door, opening it if possible; come back half of the time",
    "wander": "walk to a random free cell",
    "key_cell": "walk into the cell where the key was at the reset: blocked while it lies there",
    "goal": "walk to the goal if it can be reached now",
    "solve": "key, door, goal: until the episode ends",
}
"""What the policy may intend; intentions that make no sense in the present state are redrawn."""

MIXTURE: Mapping[str, float] = {
    "key": 2.0,
    "pickup_nothing": 0.5,
    "door": 4.0,
    "toggle_without_key": 2.0,
    "bump": 1.5,
    "cross": 4.0,
    "wander": 2.0,
    "key_cell": 2.0,
    "goal": 0.9,
    "solve": 0.3,
}
"""Default weights. On DoorKey-8x8 with epsilon 0.15: see docs/environments.md for measured rates."""


@dataclass
class NoisyExpert:
    """Follows shortest paths to randomly drawn intentions, with random actions mixed in.

    Looks at the simulator's true state (`env.unwrapped`) and answers in the action numbering of
    `env` (its `action_names`). One instance serves one environment at a time.

        policy.reset(env, rng)      # after each env.reset
        action = policy(env)        # before each env.step
    """

    epsilon: float = 0.15
    """probability of a random action on each step"""
    intentions: Mapping[str, float] = field(default_factory=lambda: dict(MIXTURE))
    """intention -> weight (need not sum to one; missing ones are never drawn)"""
    forward: float = 0.5
    """share of "forward" among random actions; the others share the rest equally"""
    patience: int = 60
    """steps after which an intention is abandoned ("solve" never is)"""

    def __post_init__(self) -> None:
        unknown = set(self.intentions) - set(INTENTIONS)
        if unknown:
            raise ValueError(f"intentions: unknown {sorted(unknown)}; known: {', '.join(INTENTIONS)}")
        if not 0 <= self.epsilon <= 1 or not 0 <= self.forward <= 1:
            raise ValueError(f"epsilon and forward: expected 0 to 1, got {self.epsilon} and {self.forward}")
        weights = np.array([self.intentions.get(name, 0.0) for name in INTENTIONS])
        if not np.all(weights >= 0) or not weights.sum() > 0:
            raise ValueError(f"intentions: expected weights >= 0, one above, got {dict(self.intentions)}")
        self._cumulative = np.cumsum(weights / weights.sum())
        self.intention = ""
        """the present intention, a key of INTENTIONS"""

    @classmethod
    def expert(cls) -> NoisyExpert:
        """Solves the room by the shortest way it knows, without noise."""
        return cls(epsilon=0.0, intentions={"solve": 1.0})

    def reset(self, env: Any, rng: np.random.Generator) -> None:
        """Starts an episode: call right after `env.reset`. Randomness comes from `rng` alone."""
        names = env.get_wrapper_attr("action_names") if hasattr(env, "get_wrapper_attr") else ACTIONS
        self._number = {name: number for number, name in enumerate(names)}
        others = [number for name, number in self._number.items() if name not in ("forward", "done")]
        self._others = others
        self._rng = rng
        self._random: list[float] = []
        grid = env.unwrapped.grid
        cells = [((x, y), grid.get(x, y)) for x in range(grid.width) for y in range(grid.height)]
        self._keys = [cell for cell, thing in cells if isinstance(thing, Key)]
        self._doors = [cell for cell, thing in cells if isinstance(thing, Door)]
        self._goals = [cell for cell, thing in cells if thing is not None and thing.type == "goal"]
        self._floor = [cell for cell, thing in cells if thing is None or isinstance(thing, Key)]
        self._signature: tuple[Any, ...] = ()
        self._fields: dict[tuple[Any, ...], dict[Pose, int]] = {}
        self.intention = ""

    def __call__(self, env: Any) -> int:
        """The next action, in the numbering of the environment given to `reset`."""
        base = env.unwrapped
        self._notice_changes(base)
        if self.intention == "":
            self._draw(base)
        if self._uniform() < self.epsilon:
            if self._uniform() < self.forward:
                return self._number["forward"]
            return self._others[int(self._uniform() * len(self._others))]
        for _ in range(20):  # an intention that is fulfilled or impossible gives way to the next
            name = self._act(base)
            if name is not None:
                return self._number[name]
            self._draw(base)
        return self._number["forward"]

    # --- intentions -------------------------------------------------------------------------

    def _draw(self, base: Any) -> None:
        """Draws the next intention, its target cell and how often its last action is repeated."""
        index = int(np.searchsorted(self._cumulative, self._uniform(), side="right"))
        self.intention = tuple(INTENTIONS)[min(index, len(INTENTIONS) - 1)]
        self._age = 0
        self._times = 1
        places = {
            "key": self._keys,
            "key_cell": self._keys,
            "goal": self._goals,
            "wander": self._floor,
            "pickup_nothing": self._floor,
            "solve": self._goals,
        }.get(self.intention, self._doors)
        self._target: Cell | None = places[int(self._uniform() * len(places))] if places else None
        self._legs: list[Cell] = []
        if self.intention == "bump":
            self._times = 1 + int(self._uniform() * 3)
        if self.intention == "cross" and self._target is not None:
            self._legs = self._crossing(base, self._target)

    def _crossing(self, base: Any, door: Cell) -> list[Cell]:
        """The cells on either side of a door to visit in turn: far side, then maybe back."""
        sides = [c for dx, dy in _STEPS if _free(base, c := (door[0] + dx, door[1] + dy))]
        x, y = base.agent_pos
        here = self._distances(base, ((x, y),), facing=False)
        near = [c for c in sides if any((*c, d) in here for d in range(4))]
        if _is_open(base, door):  # both sides are in reach: the far one is the one further away
            sides.sort(key=lambda c: -min((here.get((*c, d), 10**6) for d in range(4)), default=0))
            far, back = sides[:1], sides[1:2]
        else:
            far, back = [c for c in sides if c not in near][:1], near[:1]
        return far + (back if self._uniform() < 0.5 else [])

    def _act(self, base: Any) -> str | None:
        """The next action of the present intention; None when it is done with or impossible."""
        self._age += 1
        if self.intention == "solve":
            return self._solve(base)
        if self._age > self.patience or self._target is None or self._times == 0:
            return None
        target, door_open = self._target, self.intention in _AT_DOORS and _is_open(base, self._target)
        match self.intention:
            case "key" | "pickup_nothing":
                if self.intention == "pickup_nothing" and base.grid.get(*target) is not None:
                    return None
                return self._use(base, target, "pickup")
            case "door":
                return self._use(base, target, "toggle")
            case "toggle_without_key":
                return None if door_open or base.carrying is not None else self._use(base, target, "toggle")
            case "bump":
                return None if door_open else self._use(base, target, "forward")
            case "key_cell":
                if isinstance(base.grid.get(*target), Key):
                    return self._use(base, target, "forward")
                return self._walk(base, (target,), facing=False)
            case "cross":
                return self._cross(base, target)
            case _:  # wander, goal
                return self._walk(base, (target,), facing=False)

    def _cross(self, base: Any, door: Cell) -> str | None:
        while self._legs:
            if not _is_open(base, door):
                if not _can_open(base, door):
                    return None
                return self._walk(base, (door,), facing=True) or "toggle"
            step = self._walk(base, (self._legs[0],), facing=False)
            if step is not None:
                return step
            del self._legs[0]
        return None

    def _solve(self, base: Any) -> str | None:
        """One step of key, door, goal; None when the room cannot be solved from here."""
        goals = tuple(self._goals)
        if goals and self._reachable(base, goals, facing=False):
            return self._walk(base, goals, facing=False)
        closed = [c for c in self._doors if not _is_open(base, c)]
        usable = tuple(c for c in closed if _can_open(base, c))
        if usable and self._reachable(base, usable, facing=True):
            return self._walk(base, usable, facing=True) or "toggle"
        wanted = {base.grid.get(*c).color for c in closed}
        keys = tuple(c for c, key in _lying_keys(base) if key.color in wanted)
        if keys and self._reachable(base, keys, facing=True):
            step = self._walk(base, keys, facing=True)
            if step is None and base.carrying is not None and "drop" in self._number:
                return "drop" if base.grid.get(*base.front_pos) is None else None
            return step or "pickup"
        return None

    def _use(self, base: Any, target: Cell, action: str) -> str | None:
        """Walks until the agent faces `target`, then does `action`; None if it cannot get there."""
        if not self._reachable(base, (target,), facing=True):
            return None
        step = self._walk(base, (target,), facing=True)
        if step is None:
            self._times -= 1
            return action
        return step

    # --- shortest paths ---------------------------------------------------------------------

    def _notice_changes(self, base: Any) -> None:
        """Forgets all distances when something that blocks the way has changed."""
        grid = base.grid
        carried: WorldObj | None = base.carrying
        signature = (id(carried), *(grid.get(*door).is_open for door in self._doors))
        if signature != self._signature:
            self._signature = signature
            self._fields.clear()

    def _reachable(self, base: Any, cells: tuple[Cell, ...], *, facing: bool) -> bool:
        return (*map(int, base.agent_pos), int(base.agent_dir)) in self._distances(base, cells, facing=facing)

    def _walk(self, base: Any, cells: tuple[Cell, ...], *, facing: bool) -> str | None:
        """One action nearer to standing on (or facing) one of `cells`; None when there or no way."""
        distances = self._distances(base, cells, facing=facing)
        x, y, d = int(base.agent_pos[0]), int(base.agent_pos[1]), int(base.agent_dir)
        here = distances.get((x, y, d))
        if not here:
            return None
        dx, dy = _STEPS[d]
        if distances.get((x + dx, y + dy, d)) == here - 1:
            return "forward"
        left = distances.get((x, y, (d - 1) % 4)) == here - 1
        right = distances.get((x, y, (d + 1) % 4)) == here - 1
        if left and right:
            return "left" if self._uniform() < 0.5 else "right"
        return "left" if left else "right"

    def _distances(self, base: Any, cells: tuple[Cell, ...], *, facing: bool) -> dict[Pose, int]:
        """Steps (turns and moves) from every pose that has a way to one of `cells`."""
        known = self._fields.get((cells, facing))
        if known is not None:
            return known
        grid = base.grid
        free = {c for x in range(grid.width) for y in range(grid.height) if _free(base, c := (x, y))}
        # The goal ends the episode: never walk over it on the way to somewhere else.
        goals = set(self._goals) - set(cells)
        free -= goals
        if facing:
            ends = [(x - dx, y - dy, d) for x, y in cells for d, (dx, dy) in enumerate(_STEPS)]
        else:
            ends = [(x, y, d) for x, y in cells for d in range(4)]
        distances = {pose: 0 for pose in ends if pose[:2] in free}
        queue = deque(distances)
        while queue:
            pose = queue.popleft()
            x, y, d = pose
            steps = distances[pose] + 1
            dx, dy = _STEPS[d]
            for before in ((x, y, (d + 1) % 4), (x, y, (d - 1) % 4), (x - dx, y - dy, d)):
                if before not in distances and before[:2] in free:
                    distances[before] = steps
                    queue.append(before)
        self._fields[cells, facing] = distances
        return distances

    def _uniform(self) -> float:
        """One uniform number; drawn in blocks because a call into numpy costs more than the number."""
        if not self._random:
            self._random = self._rng.random(64).tolist()
        return self._random.pop()


_AT_DOORS = ("door", "toggle_without_key", "bump", "cross")


def _free(base: Any, cell: Cell) -> bool:
    x, y = cell
    if not (0 <= x < base.grid.width and 0 <= y < base.grid.height):
        return False
    thing = base.grid.get(x, y)
    return thing is None or (bool(thing.can_overlap()) and thing.type != "lava")


def _is_open(base: Any, door: Cell) -> bool:
    return bool(base.grid.get(*door).is_open)


def _can_open(base: Any, door: Cell) -> bool:
    thing = base.grid.get(*door)
    carried = base.carrying
    return not thing.is_locked or (isinstance(carried, Key) and carried.color == thing.color)


def _lying_keys(base: Any) -> list[tuple[Cell, Key]]:
    grid = base.grid
    cells = ((x, y) for x in range(grid.width) for y in range(grid.height))
    return [(cell, thing) for cell in cells if isinstance(thing := grid.get(*cell), Key)]
