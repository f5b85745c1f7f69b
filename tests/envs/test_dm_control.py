"""The control suite: keys, repeats, time limits, bounds, pixels."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import thick.envs.dm_control
from thick.envs import make
from thick.envs.dm_control import DEFAULT_REPEAT, REPEATS, choose_backend

ROOT = Path(__file__).resolve().parents[2]


def test_states_and_rewards_are_the_suites_own() -> None:
    env = make("dm_control:cartpole-swingup", repeat=3)
    theirs = importlib.import_module("dm_control.suite").load(
        "cartpole", "swingup", task_kwargs={"random": 11}
    )
    observation, _ = env.reset(seed=11)
    time_step = theirs.reset()
    generator = np.random.default_rng(0)
    for _ in range(20):
        for key, value in time_step.observation.items():
            assert observation[key] == pytest.approx(value.astype(np.float32))
        action = generator.uniform(-1, 1, size=1).astype(np.float32)
        observation, reward, *_ = env.step(action)
        expected = 0.0
        for _ in range(3):
            time_step = theirs.step(action)
            expected += time_step.reward
        assert reward == pytest.approx(expected)


def test_spaces_follow_the_suite() -> None:
    env = make("dm_control:walker-walk")
    shapes = {key: box.shape for key, box in env.observation_space.spaces.items()}
    assert shapes == {"orientations": (14,), "height": (1,), "velocity": (9,)}
    assert {box.dtype for box in env.observation_space.spaces.values()} == {np.dtype(np.float32)}
    assert (env.action_space.shape, env.action_space.dtype) == ((6,), np.dtype(np.float32))
    assert (env.action_space.low.min(), env.action_space.high.max()) == (-1, 1)


@pytest.mark.parametrize(("options", "steps"), [({}, 125), ({"repeat": 50}, 20), ({"repeat": 300}, 4)])
def test_the_time_limit_truncates_after_a_thousand_of_the_suites_steps(
    options: dict[str, int], steps: int
) -> None:
    env = make("dm_control:cartpole-swingup", seed=0, **options)
    env.reset()
    ends = []
    while not ends or not ends[-1][1]:
        _, reward, terminated, truncated, info = env.step(np.zeros(1, np.float32))
        ends.append((terminated, truncated))
        assert 0 <= reward <= options.get("repeat", 8)
        assert info["events"] == [] and "success" not in info
    assert len(ends) == steps == env.unwrapped.max_steps
    assert not any(terminated for terminated, _ in ends)


def test_action_repeats_default_by_domain() -> None:
    assert make("dm_control:cartpole-balance").unwrapped.repeat == REPEATS["cartpole"] == 8
    assert make("dm_control:hopper-hop").unwrapped.repeat == DEFAULT_REPEAT == 2


@pytest.mark.parametrize("action", [np.zeros(2), np.array([np.nan])])
def test_a_wrong_action_is_refused_before_it_reaches_the_simulator(action: np.ndarray) -> None:
    env = make("dm_control:cartpole-swingup", seed=0)
    env.reset()
    with pytest.raises(ValueError, match=r"expected \(1,\) finite numbers"):
        env.step(action)


@pytest.mark.parametrize(
    ("options", "says"), [({"repeat": 0}, "repeat"), ({"render_mode": "human"}, "rgb_array")]
)
def test_wrong_options_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make("dm_control:cartpole-swingup", **options)


def test_pixels_show_the_scene_and_follow_it() -> None:
    env = make("dm_control:cartpole-swingup+pixels", seed=0)
    first, _ = env.reset()
    assert (first.shape, first.dtype) == ((64, 64, 3), np.uint8)
    assert first.std() > 10
    for _ in range(3):
        later, *_ = env.step(np.ones(1, np.float32))
    assert not np.array_equal(first, later)


def test_rendering_is_a_frame_of_the_size_asked_for() -> None:
    env = make("dm_control:cartpole-swingup", render_mode="rgb_array", size=96)
    env.reset(seed=0)
    assert env.render().shape == (96, 96, 3)


@pytest.mark.parametrize("backend", ["disabled", "glfw"])
def test_missing_opengl_says_what_to_install(backend: str) -> None:
    code = (
        "import dm_control.suite, thick.envs as e\n"
        "e.make('dm_control:cartpole-swingup').reset(seed=0)\n"
        "try: e.make('dm_control:cartpole-swingup+pixels')\n"
        "except e.MissingPackageError as error: print(error)"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environment["MUJOCO_GL"] = backend
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert "libegl1 libgl1 libosmesa6" in done.stdout and "MUJOCO_GL=egl" in done.stdout


def test_missing_opengl_is_one_line_for_who_collects(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environment |= {"MUJOCO_GL": "glfw", "PYTHONPATH": str(ROOT)}  # it warns on its own when it is imported
    words = ["collect", "--env", "dm_control:quadruped-walk+pixels", "--out", "data"]
    done = subprocess.run(
        [sys.executable, "-m", "thick", *words], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 2 and "libegl1" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_a_variable_that_is_set_to_nothing_chooses_no_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr("thick.envs.dm_control._has_screen", lambda: False)
    monkeypatch.setattr("thick.envs.dm_control._backend", lambda: "osmesa")
    choose_backend()
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_a_backend_that_cannot_be_imported_says_what_to_install() -> None:
    code = (
        "import thick.envs as e\n"
        "try: e.make('dm_control:cartpole-swingup')\n"
        "except e.MissingPackageError as error: print(error)"
    )
    environment = {**os.environ, "MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "osmesa"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert "cannot be imported with MUJOCO_GL=egl" in done.stdout
    assert "libegl1" in done.stdout and "MUJOCO_GL=disabled" in done.stdout


def test_a_missing_python_package_is_not_taken_for_a_missing_opengl() -> None:
    code = (
        "import sys, thick.envs as e\n"
        "sys.modules['mujoco'] = None\n"
        "try: e.make('dm_control:quadruped-walk')\n"
        "except e.MissingPackageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "dm_control needs mujoco" in done.stdout and "[envs]" in done.stdout
    assert "OpenGL" not in done.stdout


@pytest.mark.parametrize(
    ("libraries", "devices", "chosen"),
    [
        ({"GL", "EGL", "OSMesa"}, 1, "egl"),
        ({"GL", "EGL", "OSMesa"}, 0, "osmesa"),
        ({"EGL", "OSMesa"}, 1, "osmesa"),
        ({"GL"}, 0, "disabled"),
    ],
)
def test_the_backend_is_one_that_works_without_a_screen(
    libraries: set[str], devices: int, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda name: name if name in libraries else None)
    monkeypatch.setattr("thick.envs.dm_control._egl_devices", lambda: devices)
    assert thick.envs.dm_control._backend() == chosen


@pytest.mark.parametrize("task", ["walk", "run", "escape", "fetch"])
def test_the_quadruped_runs_with_every_numpy(task: str) -> None:
    env = make(f"dm_control:quadruped-{task}")
    observation, _ = env.reset(seed=0)
    assert all(np.isfinite(array).all() for array in observation.values())
    assert env.step(env.action_space.sample())[1] >= 0
