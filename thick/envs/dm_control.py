"""The DeepMind Control Suite: `dm_control:cartpole-swingup`, with `+pixels` for 64x64 images.

State observations are a Dict of float32 Boxes under the suite's own keys, actions a float32 Box in
the actuators' own bounds. Source: Tunyasuvunakool et al., "dm_control: Software and tasks for
continuous control", 2020; action repeats of Hafner et al., "PlaNet", 2019, table 1.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import os
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from thick.distribution import install_command
from thick.envs.packages import import_quietly, require
from thick.envs.registry import Family, MissingPackageError, Spec
from thick.envs.spaces import IMAGE_SHAPE

gymnasium = require("gymnasium")

DEFAULT_REPEAT = 2
REPEATS = {
    "acrobot": 4,
    "ball_in_cup": 4,
    "cartpole": 8,
    "cheetah": 4,
    "finger": 2,
    "pendulum": 4,
    "reacher": 4,
    "walker": 2,
}
"""Domain -> how many of the suite's steps one action lasts; DEFAULT_REPEAT for the others."""

CAMERAS = {"quadruped": 2, "dog": 2, "fish": 3}
"""Domain -> the camera that follows the body; 0 for the others."""

GL_ADVICE = (
    "rendering dm_control needs an OpenGL that works without a screen: install the Debian packages "
    "`libegl1 libgl1 libosmesa6` (apt-get install -y libegl1 libgl1 libosmesa6) and set MUJOCO_GL=egl "
    "(or MUJOCO_GL=osmesa) before Python starts"
)


class ControlSuite(gymnasium.Env):  # type: ignore[name-defined]
    """One task of the suite.

    Observation: Dict of float32 Boxes (scalars have shape (1,)), or uint8 [64, 64, 3] with `pixels`.
    Reward: the sum over the repeated steps, each within [0, 1]. The suite's time limit truncates;
    `terminated` only where the suite itself says that nothing can follow (discount 0).
    `info["events"]` is empty and `info["success"]` absent: the suite has no such notion.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012 (gymnasium's interface)

    def __init__(
        self,
        domain: str,
        task: str,
        *,
        pixels: bool = False,
        repeat: int | None = None,
        camera: int | None = None,
        size: int = 240,
        render_mode: str | None = None,
    ) -> None:
        """
        Args:
            repeat: the suite's steps an action lasts; None takes the domain's (REPEATS).
            camera: number of the camera for pixels and rendering; None takes the domain's.
            size: width and height of rendered frames, in pixels.
        """
        if repeat is not None and repeat < 1:
            raise ValueError(f"repeat: expected at least 1, got {repeat}")
        self.repeat = REPEATS.get(domain, DEFAULT_REPEAT) if repeat is None else repeat
        self.pixels = pixels
        self.render_mode = render_mode
        self._camera = CAMERAS.get(domain, 0) if camera is None else camera
        self._size = size
        self._control = _suite().load(domain, task)
        spec = self._control.action_spec()
        self.metadata = {**self.metadata, "render_fps": self._frame_rate()}
        low, high = (np.broadcast_to(b, spec.shape).astype(np.float32) for b in (spec.minimum, spec.maximum))
        self.action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        if pixels:
            self.observation_space = gymnasium.spaces.Box(0, 255, IMAGE_SHAPE, np.uint8)
            self._control.reset()
            self._frame(64)  # a missing OpenGL is reported here, not in the middle of a run
        else:
            box = partial(gymnasium.spaces.Box, -np.inf, np.inf, dtype=np.float32)
            entries = self._control.observation_spec().items()
            self.observation_space = gymnasium.spaces.Dict(
                {k: box(shape=v.shape or (1,)) for k, v in entries}
            )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As gymnasium's; the seed decides the initial state and everything random in the task."""
        super().reset(seed=seed)
        if seed is not None:
            self._control.task.random.seed(seed % 2**32)
        return self._observe(self._control.reset()), {"events": []}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As gymnasium's; `action` float [A], within the space's bounds."""
        action = np.asarray(action, np.float64)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise ValueError(f"action: expected {self.action_space.shape} finite numbers, got {action!r}")
        reward = 0.0
        for _ in range(self.repeat):
            time_step = self._control.step(action)
            reward += float(time_step.reward)
            if time_step.last():
                break
        terminated = bool(time_step.last() and time_step.discount == 0)
        truncated = bool(time_step.last() and not terminated)
        return self._observe(time_step), reward, terminated, truncated, {"events": []}

    def render(self) -> np.ndarray[Any, Any] | None:
        """The scene as uint8 [size, size, 3] when made with render_mode="rgb_array"."""
        return None if self.render_mode is None else self._frame(self._size)

    def close(self) -> None:
        """Frees the renderer."""
        self._control.close()

    @property
    def max_steps(self) -> int | None:
        """Steps (of this environment) until truncation; None where the suite sets no limit."""
        duration = self._control._step_limit
        return None if math.isinf(duration) else math.ceil(duration / self.repeat)

    def _frame_rate(self) -> int:
        return max(1, round(1 / (self._control.control_timestep() * self.repeat)))

    def _observe(self, time_step: Any) -> Any:
        if self.pixels:
            return self._frame(64)
        return {
            key: np.asarray(value, np.float32).reshape(np.shape(value) or (1,))
            for key, value in time_step.observation.items()
        }

    def _frame(self, size: int) -> np.ndarray[Any, Any]:
        if require("dm_control._render").BACKEND == "glfw" and not _has_screen():
            raise MissingPackageError(
                f"{GL_ADVICE} (GLFW was chosen and there is no screen)"
            )  # it would crash
        try:
            frame = self._control.physics.render(size, size, camera_id=self._camera)
        except Exception as error:  # each backend fails in its own way; the advice is the same
            raise MissingPackageError(f"{GL_ADVICE} ({type(error).__name__}: {error})") from error
        return np.ascontiguousarray(frame, np.uint8)


def _has_screen() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def choose_backend() -> None:
    """An OpenGL for MuJoCo that works without a screen, where nobody chose another; before MuJoCo is imported.

    A variable that is set to nothing chooses nothing, for dm_control as for a shell.
    """
    if not os.environ.get("MUJOCO_GL") and not _has_screen():
        os.environ["MUJOCO_GL"] = _backend()


def _backend() -> str:
    """An OpenGL that works here without a screen, or "disabled"."""
    if (ctypes.util.find_library("GL") or ctypes.util.find_library("OpenGL")) and _egl_devices() > 0:
        return "egl"
    return "osmesa" if ctypes.util.find_library("OSMesa") else "disabled"


def _egl_devices() -> int:
    """How many devices EGL can draw on; an EGL without a driver has none, and importing it would fail."""
    library = ctypes.util.find_library("EGL")
    if library is None:
        return 0
    lookup = ctypes.CDLL(library).eglGetProcAddress
    lookup.restype = ctypes.c_void_p
    address = lookup(b"eglQueryDevicesEXT")
    if not address:
        return 0
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))(
        address
    )
    count = ctypes.c_int(0)
    return count.value if query(0, None, ctypes.byref(count)) else 0


class _NumpyWithIn1d:
    """numpy as dm_control's quadruped expects it."""

    in1d = staticmethod(np.isin)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@cache
def _suite() -> Any:
    """Imports the suite, with an OpenGL that works without a screen where nobody chose another.

    dm_control picks a backend while it is imported, by preference one that needs a screen.
    """
    choose_backend()
    require("dm_control")
    try:
        suite = import_quietly("dm_control.suite")
        if not hasattr(np, "in1d"):
            # numpy 2.4 removed what the four quadruped tasks of this dm_control call, once, on loading.
            quadruped: Any = import_quietly("dm_control.suite.quadruped")
            quadruped.np = _NumpyWithIn1d()
        return suite
    except ModuleNotFoundError as error:  # no library of the system, but a Python package
        raise MissingPackageError(
            f"dm_control needs {error.name}, which is not installed: {install_command('envs')}"
        ) from error
    except (
        AttributeError,
        ImportError,
        RuntimeError,
    ) as error:  # how PyOpenGL says that a library is missing
        raise MissingPackageError(
            f"dm_control cannot be imported with MUJOCO_GL={os.environ.get('MUJOCO_GL')} ({error}). "
            f"Unset it or set MUJOCO_GL=disabled to go without pixels; {GL_ADVICE}"
        ) from error


@cache
def _tasks() -> Sequence[str]:
    return tuple(f"{domain}-{task}" for domain, task in _suite().ALL_TASKS)


def _build(spec: Spec, *, render_mode: str | None = None, **options: Any) -> ControlSuite:
    domain, _, task = spec.task.partition("-")
    return ControlSuite(domain, task, pixels="pixels" in spec.views, render_mode=render_mode, **options)


VIEWS = {"pixels": "64x64 images instead of the state; needs OpenGL"}
FAMILY = Family("dm_control", "continuous control of simulated bodies", VIEWS, _tasks, _build)
