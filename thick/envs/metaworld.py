"""Meta-World: a Sawyer arm on a table, `metaworld:door-open`, `metaworld:pick-place`, `metaworld:push`.

The maintained successor of the robot tasks in the THICK paper. Source: Yu et al., "Meta-World", 2019; McLean et al.,
"Meta-World+", 2025.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from thick.envs.dm_control import GL_ADVICE, choose_backend
from thick.envs.errors import MissingPackageError
from thick.envs.packages import require
from thick.envs.registry import Family, Spec
from thick.envs.spaces import IMAGE_SHAPE

gymnasium = require("gymnasium")

MAX_STEPS = 500
CAMERAS = ("corner", "corner2", "corner3", "corner4", "topview", "behindGripper", "gripperPOV")
VIEWS = {"pixels": "64x64 images instead of the state; needs OpenGL"}


class Robot(gymnasium.Env):  # type: ignore[name-defined]
    """One task. Every reset draws the object and the goal anew, from the seed.

    Observation: float32 [39] (hand, gripper, objects, now and one step ago; goal), or uint8 [64, 64, 3] with `pixels`.
    Actions: float32 [4] in [-1, 1]: movement of the hand, and force of the gripper.
    `info["events"]`: "solved" when the task is for the first time. `info["success"]`: solved so far.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 40}  # noqa: RUF012 (gymnasium's interface)

    def __init__(
        self,
        task: str,
        *,
        pixels: bool = False,
        max_steps: int = MAX_STEPS,
        camera: str = "corner2",
        size: int = 240,
        render_mode: str | None = None,
    ) -> None:
        """
        Args:
            task: Meta-World's name, without its version.
            pixels: observe images.
            max_steps: steps until truncation, at most MAX_STEPS.
            camera: one of CAMERAS.
            size: side of rendered frames, in pixels.
        """
        if not 1 <= max_steps <= MAX_STEPS:
            raise ValueError(f"max_steps: expected 1 to {MAX_STEPS}, got {max_steps}")
        if camera not in CAMERAS:
            raise ValueError(f"camera: expected one of {', '.join(CAMERAS)}, got {camera!r}")
        self.render_mode, self._drawn, self._max_steps = render_mode, pixels, max_steps
        side = 64 if pixels else size
        draw = {"render_mode": "rgb_array", "camera_name": camera, "width": side, "height": side}
        self._robot = _package().ALL_V3_ENVIRONMENTS[f"{task}-v3"](**(draw if pixels or render_mode else {}))
        # As Meta-World's own factories set it: goals are seen, and every reset draws another.
        self._robot._set_task_called = True
        self._robot._partially_observable = False
        self._robot._freeze_rand_vec = False
        self._robot.seeded_rand_vec = True
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
        if pixels:
            self.observation_space = gymnasium.spaces.Box(0, 255, IMAGE_SHAPE, np.uint8)
            self._frame()  # a missing OpenGL is reported here, not in the middle of a run
        else:
            self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (39,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As gymnasium's; the seed decides where object and goal are."""
        super().reset(seed=seed)
        self._robot.seed(int(self.np_random.integers(2**31)))
        observation, _ = self._robot.reset()
        self._steps, self._solved = 0, False
        return self._observe(observation), {"events": [], "success": False}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As gymnasium's; `action` float [4]."""
        action = np.asarray(action, np.float32)
        if action.shape != (4,) or not np.isfinite(action).all():
            raise ValueError(f"action: expected 4 finite numbers, got {action!r}")
        observation, reward, _, _, info = self._robot.step(action.clip(-1, 1))
        self._steps += 1
        solved = bool(info["success"])
        events = ["solved"] * (solved and not self._solved)
        self._solved = self._solved or solved
        info = {"events": events, "success": self._solved}
        return self._observe(observation), float(reward), False, self._steps >= self._max_steps, info

    def render(self) -> Any:
        """The scene as uint8 [size, size, 3] when made with render_mode="rgb_array"."""
        return None if self.render_mode is None else self._frame()

    def close(self) -> None:
        """Frees the renderer."""
        self._robot.close()

    def _observe(self, observation: Any) -> np.ndarray[Any, Any]:
        return self._frame() if self._drawn else np.asarray(observation, np.float32)

    def _frame(self) -> np.ndarray[Any, Any]:
        try:
            frame = self._robot.render()
        except Exception as error:  # each backend fails in its own way; the advice is the same
            raise MissingPackageError(f"{GL_ADVICE} ({type(error).__name__}: {error})") from error
        return np.ascontiguousarray(np.flipud(frame), np.uint8)  # this camera hangs upside down


@cache
def _package() -> Any:
    choose_backend()
    require("metaworld", extra="metaworld")
    return importlib.import_module("metaworld.env_dict")


@cache
def _tasks() -> Sequence[str]:
    return tuple(sorted(name.removesuffix("-v3") for name in _package().ALL_V3_ENVIRONMENTS))


def _build(spec: Spec, *, render_mode: str | None = None, **options: Any) -> Robot:
    return Robot(spec.task, pixels="pixels" in spec.views, render_mode=render_mode, **options)


FAMILY = Family(
    "metaworld", "a robot arm at a table: doors, pushing, picking and placing", VIEWS, _tasks, _build
)
