"""Locked corridors: rooms in a row, each door locked, the key to each lying in the room before it.

Every door and every key is alike, and a key is used up by the door that it unlocks: whatever is learned of one room
holds in all of them, however many there are. One has to carry the right thing at the right time N times over, which is
what planning over contexts is for.
"""

from __future__ import annotations

from typing import Any

from thick.envs.packages import require

require("minigrid")
from minigrid.core.grid import Grid  # noqa: E402
from minigrid.core.mission import MissionSpace  # noqa: E402
from minigrid.core.world_object import Door, Goal, Key  # noqa: E402
from minigrid.minigrid_env import MiniGridEnv  # noqa: E402

COLOUR = "yellow"
LONGEST = 20
"""doors"""
Cell = tuple[int, int]


class UsingDoor(Door):
    """A door that keeps the key which unlocks it."""

    def toggle(self, env: Any, pos: Cell) -> bool:
        """Unlocks with a key, and takes it; opens and closes once unlocked."""
        locked = self.is_locked
        done = bool(super().toggle(env, pos))
        if locked and not self.is_locked:
            env.carrying = None
        return done


class Corridor(MiniGridEnv):
    """`doors` locked doors in series.

    The reward is MiniGrid's (1 - 0.9 · steps / max_steps) when the goal in the last room is reached. What an episode
    draws: the row of each door, the cell of each key and of the goal, and where the agent stands.
    """

    def __init__(
        self,
        doors: int,
        *,
        room: int = 3,
        exploring_starts: bool = False,
        max_steps: int | None = None,
        **options: Any,
    ) -> None:
        """
        Args:
            doors: N, 1 to LONGEST.
            room: side of a room, in cells.
            exploring_starts: an episode begins anywhere along the corridor, with as many doors open and keys gone as
                that takes, and the next key in hand half of the time; otherwise in the first room.
            max_steps: steps until truncation; None takes 30 for each cell of a room's side and each room.
            options: of MiniGridEnv.
        """
        if not 1 <= doors <= LONGEST:
            raise ValueError(f"corridor: expected 1 to {LONGEST} doors, got {doors}")
        if type(room) is not int or room < 2:
            raise ValueError(f"room: expected a side of at least 2 cells, got {room!r}")
        self.doors, self.room, self.exploring_starts = doors, room, exploring_starts
        super().__init__(
            mission_space=MissionSpace(mission_func=lambda: "open the doors one by one and get to the goal"),
            width=(doors + 1) * (room + 1) + 1,
            height=room + 2,
            max_steps=30 * room * (doors + 1) if max_steps is None else max_steps,
            **options,
        )

    def _gen_grid(self, width: int, height: int) -> None:
        self.mission = "open the doors one by one and get to the goal"
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        for door in range(self.doors):
            wall = (door + 1) * (self.room + 1)
            self.grid.vert_wall(wall, 0)
            self.grid.set(wall, self._rand_int(1, height - 1), UsingDoor(COLOUR, is_locked=True))
            self.grid.set(*self._cell(door), Key(COLOUR))
        self.grid.set(*self._cell(self.doors), Goal())
        self.agent_pos = self._cell(0, free=True)
        self.agent_dir = self._rand_int(0, 4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """As gymnasium's; with exploring starts, from anywhere along the corridor."""
        _, info = super().reset(seed=seed, options=options)
        self.layout = self.grid.encode()
        """uint8 [W, H, 3], as drawn: before anything was taken or opened"""
        if self.exploring_starts:
            self._advance(self._rand_int(0, self.doors + 1))
        return self.gen_obs(), info

    def _advance(self, opened: int) -> None:
        """As after `opened` doors: their keys are used up, and the agent is anywhere up to the next closed one."""
        for door in range(opened):
            self._door(door).is_locked = False
            self._door(door).is_open = True
            self._take_key(door)
        if opened < self.doors and self._rand_int(0, 2):
            self.carrying = self._take_key(opened)
        last = (opened + 1) * (self.room + 1)
        places = [
            (x, y)
            for x in range(1, last)
            for y in range(1, self.height - 1)
            if isinstance(self.grid.get(x, y), Door | None)
        ]
        self.agent_pos = places[self._rand_int(0, len(places))]

    def _door(self, door: int) -> Any:
        wall = (door + 1) * (self.room + 1)
        return next(thing for y in range(self.height) if isinstance(thing := self.grid.get(wall, y), Door))

    def _take_key(self, room: int) -> Any:
        """Removes the key of a room from the grid."""
        for x in range(room * (self.room + 1) + 1, (room + 1) * (self.room + 1)):
            for y in range(1, self.height - 1):
                thing = self.grid.get(x, y)
                if isinstance(thing, Key):
                    self.grid.set(x, y, None)
                    return thing
        raise AssertionError("every room but the last has a key")

    def _cell(self, room: int, *, free: bool = False) -> Cell:
        """A random cell of a room; `free`: one that nothing lies in."""
        while True:
            x = room * (self.room + 1) + 1 + self._rand_int(0, self.room)
            y = 1 + self._rand_int(0, self.room)
            if not free or self.grid.get(x, y) is None:
                return x, y
