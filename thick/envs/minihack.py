"""MiniHack: levels of NetHack seen as pixels around the agent, as the THICK paper shows them.

`minihack:KeyRoom-S5`, `minihack:River`, `minihack:WoD-Easy-Full`, any other of MiniHack's own, and corridors of N
locked doors and N keys (`minihack:corridor-N`). Source: Samvelyan et al., "MiniHack the Planet", 2021.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from thick.envs.errors import UnusableEnvironmentError, reason
from thick.envs.packages import require
from thick.envs.registry import Family, Spec
from thick.envs.spaces import IMAGE_SHAPE

gymnasium = require("gymnasium")
require("nle", extra="minihack")
require("minihack", extra="minihack")
from minihack.envs.keyroom import MiniHackKeyDoor  # noqa: E402
from nle import nethack  # noqa: E402

LONGEST = 12
"""doors of a corridor: more rooms do not fit on NetHack's map"""
SIDE = 3
"""cells of a corridor's room"""
CROP = 9
"""tiles around the agent"""
_NATIVE = ("pixel_crop", "chars_crop", "glyphs", "inv_strs", "inv_letters", "blstats", "message", "chars")
_OPEN_DOORS = (nethack.GLYPH_CMAP_OFF + 13, nethack.GLYPH_CMAP_OFF + 14)
"""glyphs of open doors, in a vertical and in a horizontal wall"""
_STRAIGHT = {(0, -1): "k", (0, 1): "j", (-1, 0): "h", (1, 0): "l"}
"""offset in x and y -> NetHack's letter of the direction"""
_TURNS = 30
"""that may be spent on a lock and on walking into its door"""
_CORRIDOR = re.compile(r"corridor-([1-9][0-9]?)")
VIEWS = {"chars": "the symbols of the 9x9 tiles around the agent, a grid [9, 9, 1], instead of pixels"}


class MiniHackTask(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):  # type: ignore[name-defined]
    """One task, with events in `info` and seeds that reproduce.

    Observation: uint8 [64, 64, 3], the 9x9 tiles around the agent; what it carries is not shown.
    `info["events"]`: "pickup" (a key), "door_opened", "goal". `info["success"]`: the task is solved.
    """

    def __init__(self, env: Any, *, chars: bool = False) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, chars=chars)
        gymnasium.Wrapper.__init__(self, env)
        self._chars = chars
        high, shape = (127, (CROP, CROP, 1)) if chars else (255, IMAGE_SHAPE)
        self.observation_space = gymnasium.spaces.Box(0, high, shape, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(int(env.action_space.n))
        self.action_names = tuple(action.name.lower() for action in env.unwrapped.actions)
        self.metadata = {**env.metadata, "render_modes": ["rgb_array"]}
        self._key = False
        self._opened: set[int] = set()

    @property
    def render_mode(self) -> str | None:
        """Frames are always there."""
        return "rgb_array"

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As gymnasium's; the seed decides the level and everything random in the game."""
        base = self.env.unwrapped
        if seed is not None:
            base.np_random = np.random.default_rng(seed)
        core, display, level = (int(n) for n in base.np_random.integers(1, 2**31, 3))
        base.seed(core, display, False, level)
        observation, _ = self.env.reset()
        self._key, self._opened = self._state(observation)
        return self._observe(observation), {"events": [], "success": False}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As gymnasium's; `action` is an index into `action_names`."""
        if not self.action_space.contains(action):
            raise ValueError(f"action: expected 0 to {self.action_space.n - 1}, got {action!r}")
        observation, reward, terminated, truncated, info = self.env.step(int(action))
        key, opened = self._state(observation)
        success = int(info["end_status"]) == 2  # StepStatus.TASK_SUCCESSFUL
        # A door that the agent stands in, or cannot see, is not opened again when it is seen.
        events = ["pickup"] * (key and not self._key) + ["door_opened"] * bool(opened - self._opened)
        self._key, self._opened = key, self._opened | opened
        info = {"events": events + ["goal"] * success, "success": success}
        return self._observe(observation), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """The tiles around the agent, uint8 [144, 144, 3]."""
        return self._pixels

    def _state(self, observation: Any) -> tuple[bool, set[int]]:
        """Whether a key is carried, and where open doors are seen."""
        carried = b" ".join(row.tobytes() for row in observation["inv_strs"])
        return b"key" in carried, set(np.flatnonzero(np.isin(observation["glyphs"], _OPEN_DOORS)).tolist())

    def _observe(self, observation: Any) -> np.ndarray[Any, Any]:
        self._pixels = observation["pixel_crop"]
        if self._chars:
            return np.ascontiguousarray(np.minimum(observation["chars_crop"], 127).T[..., None], np.uint8)
        small = Image.fromarray(self._pixels).resize(IMAGE_SHAPE[:2], Image.Resampling.BOX)
        return np.asarray(small, np.uint8)


class HackCorridor(MiniHackKeyDoor):
    """`doors` locked doors in series, a key in the room before each, the stairs in the last room."""

    def __init__(self, doors: int, **options: Any) -> None:
        super().__init__(des_file=corridor_level(doors), **options)

    def step(self, action: int) -> Any:
        """One action; `apply` next to a locked door, with a key, unlocks and opens it."""
        if self.actions[action].name == "APPLY":
            self._unlock()
        # Past MiniHackKeyDoor, whose own way of applying a key never ends where the door lies diagonally.
        return super(MiniHackKeyDoor, self).step(action)

    def _unlock(self) -> None:
        letter, direction = self.key_in_inventory("key"), self._door()
        if letter is None or direction is None:
            return
        for press in (ord("a"), ord(letter), ord(direction), ord("y")):
            observation, over = self.nethack.step(press)
        observation, over = self._perform_known_steps(observation, over, exceptions=True)
        for _ in range(_TURNS):
            if over or self._door(observation) is None:
                return
            observation, over = self.nethack.step(ord(direction))
            observation, over = self._perform_known_steps(observation, over, exceptions=True)

    def _door(self, observation: Any = None) -> str | None:
        """The letter of the direction of a closed door next to the agent; NetHack lets nobody through diagonally."""
        seen = self.last_observation if observation is None else observation
        x, y = seen[self._blstats_index][:2]
        for (dx, dy), letter in _STRAIGHT.items():
            if "closed door" in self.get_screen_description(x + dx, y + dy, seen):
                return letter
        return None


def corridor_level(doors: int) -> str:
    """NetHack's description of a corridor: doors, keys, stairs and the start are drawn anew in every episode."""
    rooms, height = doors + 1, SIDE + 2
    width = rooms * (SIDE + 1) + 1
    walls = range(SIDE + 1, width - 1, SIDE + 1)
    middle = "|" + "|".join(["." * SIDE] * rooms) + "|"
    lines = ["-" * width, *[middle] * SIDE, "-" * width]
    places = []
    for door, wall in enumerate(walls):
        rows = ",".join(f"({wall},{y})" for y in range(1, height - 1))
        name = chr(ord("a") + door)  # the level compiler takes no digits
        places += [
            f"$door{name} = {{ {rows} }}",
            f"SHUFFLE:$door{name}",
            f"DOOR:locked,$door{name}[0]",
            f"$key{name} = {{ {_cells(door)} }}",
            f"SHUFFLE:$key{name}",
            f"OBJECT:('(',\"skeleton key\"),$key{name}[0]",
        ]
    return "\n".join(
        [
            "MAZE: \"mylevel\", ' '",
            "FLAGS:noteleport,hardfloor",
            "INIT_MAP: solidfill,' '",
            "GEOMETRY:center,center",
            "MAP",
            *lines,
            "ENDMAP",
            f'REGION:(0,0,{width - 1},{height - 1}),lit,"ordinary"',
            f"BRANCH:(1,1,{SIDE},{SIDE}),(0,0,0,0)",
            *places,
            f"$goal = {{ {_cells(doors)} }}",
            "SHUFFLE:$goal",
            "STAIR:$goal[0],down",
            "",
        ]
    )


def _cells(room: int) -> str:
    left = room * (SIDE + 1) + 1
    return ",".join(f"({x},{y})" for x in range(left, left + SIDE) for y in range(1, SIDE + 1))


@cache
def _tasks() -> Sequence[str]:
    own = [f"corridor-{doors}" for doors in range(1, LONGEST + 1)]
    registered = [name for name in gymnasium.registry if name.startswith("MiniHack-")]
    return (*sorted(name.removeprefix("MiniHack-").removesuffix("-v0") for name in registered), *own)


def _build(spec: Spec, *, render_mode: str | None = None, **options: Any) -> MiniHackTask:
    corridor = _CORRIDOR.fullmatch(spec.task)
    given = {"observation_keys": _NATIVE, **options}
    try:
        if corridor:
            doors = int(corridor[1])
            given.setdefault("max_episode_steps", 100 * (doors + 1))
            env: Any = HackCorridor(doors, **given)
        else:
            env = gymnasium.make(f"MiniHack-{spec.task}-v0", disable_env_checker=True, **given)
    except TypeError as error:
        raise UnusableEnvironmentError(f"{spec} could not be made: {reason(error)}") from error
    return MiniHackTask(env, chars="chars" in spec.views)


FAMILY = Family(
    "minihack", "levels of NetHack, 64x64 images of the tiles around the agent", VIEWS, _tasks, _build
)
