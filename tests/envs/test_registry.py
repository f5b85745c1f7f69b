"""Identifiers, nearest suggestions, missing packages, seeds, and gymnasium's own checker for every family."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import thick.envs
from thick.envs import MissingPackageError, UnknownEnvironmentError, UnusableEnvironmentError, make, spec

ONE_OF_EACH = [
    "minigrid:MiniGrid-DoorKey-5x5-v0",
    "minigrid:MiniGrid-DoorKey-5x5-v0+map",
    "minigrid:MiniGrid-DoorKey-5x5-v0+full",
    "minigrid:MiniGrid-Dynamic-Obstacles-5x5-v0+full",
    "minigrid:MiniGrid-DoorKey-5x5-v0+partial",
    "minigrid:MiniGrid-DoorKey-5x5-v0+held",
    "minigrid:MiniGrid-DoorKey-5x5-v0+around",
    "minigrid:MiniGrid-DoorKey-5x5-v0+near",
    "minigrid:MiniGrid-DoorKey-5x5-v0+notext",
    "minigrid:corridor-1",
    "minigrid:corridor-3+map",
    "gym:CartPole-v1",
    "minihack:corridor-2",
    pytest.param("metaworld:push", marks=pytest.mark.slow),
    "dm_control:cartpole-swingup",
    "dm_control:walker-walk",
    pytest.param("dm_control:cartpole-swingup+pixels", marks=pytest.mark.slow),
    "pinpad:three",
    "pinpad:six",
    "pinpad:three+cells",
    "pinpad:four+cells+memory",
]


def leaves(observation: object) -> list[np.ndarray]:
    return list(observation.values()) if isinstance(observation, dict) else [np.asarray(observation)]


def trace(env: gymnasium.Env, steps: int, seed: int | None) -> list[np.ndarray]:
    """Everything an environment answers to a fixed sequence of actions, across episodes."""
    observation, _ = env.reset(seed=seed)
    seen = leaves(observation)
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        seen += [*leaves(observation), np.array([reward, terminated, truncated])]
        if terminated or truncated:
            seen += leaves(env.reset()[0])
    return seen


@pytest.mark.parametrize("env_id", ONE_OF_EACH)
def test_every_family_passes_gymnasiums_own_checker(env_id: str) -> None:
    env = make(env_id, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unbounded vectors and wrappers are meant
        check_env(env)
    env.close()


@pytest.mark.parametrize("env_id", ONE_OF_EACH)
def test_the_same_seed_gives_the_same_episodes_and_another_seed_others(env_id: str) -> None:
    steps = 5 if "pixels" in env_id else 60
    first, again, other = (trace(make(env_id, seed=s), steps, None) for s in (7, 7, 8))
    assert len(first) == len(again)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(first) != len(other) or any(
        not np.array_equal(a, b) for a, b in zip(first, other, strict=True)
    )


def test_an_explicit_reset_seed_wins_over_the_one_given_to_make() -> None:
    wanted, _ = make("pinpad:four").reset(seed=3)
    got, _ = make("pinpad:four", seed=99).reset(seed=3)
    assert np.array_equal(wanted, got)


def test_only_the_first_reset_uses_the_seed_given_to_make() -> None:
    env = make("minigrid:MiniGrid-DoorKey-8x8-v0+map", seed=5)
    layouts = [env.reset()[0] for _ in range(4)]
    assert any(not np.array_equal(layouts[0], later) for later in layouts[1:])


@pytest.mark.parametrize("env_id", ONE_OF_EACH)
def test_the_identifier_survives_parsing(env_id: str) -> None:
    assert spec(env_id).id == str(spec(env_id)) == env_id


@pytest.mark.parametrize(
    ("wrong", "suggested"),
    [
        ("minigrid:MiniGrid-DorKey-8x8-v0", "minigrid:MiniGrid-DoorKey-8x8-v0"),
        ("minigrid:MiniGrid-DoorKey-8x8-v0+mp", "+map"),
        ("MiniGrid-DoorKey-8x8-v0", "minigrid:MiniGrid-DoorKey-8x8-v0"),
        ("minigird:MiniGrid-DoorKey-8x8-v0", "minigrid"),
        ("dm_control:cartpol-swingup", "dm_control:cartpole-swingup"),
        ("cartpole-swingup+pixels", "dm_control:cartpole-swingup"),
        ("pinpad:thre", "pinpad:three"),
    ],
)
def test_an_unknown_identifier_is_answered_with_the_nearest_known_one(wrong: str, suggested: str) -> None:
    with pytest.raises(UnknownEnvironmentError, match="did you mean") as error:
        make(wrong)
    assert f"did you mean '{suggested}'?" in str(error.value)


def test_minigrid_shows_one_view_at_a_time() -> None:
    with pytest.raises(UnknownEnvironmentError, match="one view at a time"):
        make("minigrid:MiniGrid-DoorKey-5x5-v0+map+full")


@pytest.mark.parametrize(
    ("package", "env_id"),
    [
        ("minigrid", "minigrid:MiniGrid-DoorKey-5x5-v0"),
        ("dm_control", "dm_control:cartpole-swingup"),
        ("gymnasium", "pinpad:three"),
    ],
)
def test_a_missing_package_says_how_to_install_it(
    package: str, env_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ("thick.envs.registry", "thick.envs.errors", "thick.envs.packages")
    loaded = {m: sys.modules[m] for m in sys.modules if m.startswith("thick.envs.") and m not in kept}
    for module in loaded:
        monkeypatch.delitem(sys.modules, module)
        parent, _, name = module.rpartition(".")  # which an import sets, and a later test would find
        monkeypatch.delattr(loaded.get(parent) or sys.modules[parent], name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=r"pip install 'thick-planner\[envs\]'"):
        make(env_id)


def test_importing_the_registry_loads_no_simulator_and_no_torch() -> None:
    heavy = "{'torch', 'gymnasium', 'minigrid', 'dm_control', 'mujoco', 'fastapi'}"
    code = (
        "import sys, thick.envs, thick.envs.spaces, thick.envs.pictures;"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_family_from_elsewhere_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thick.envs.registry, "_MODULES", dict(thick.envs.registry._MODULES))
    thick.envs.register("boards", "thick.envs.pinpad")
    assert make("boards:three").reset(seed=0)[0].shape == (64, 64, 3)
    with pytest.raises(ValueError, match="already provided"):
        thick.envs.register("minigrid", "somewhere.else")


@pytest.mark.parametrize("env_id", ["pinpad:three", "minigrid:corridor-2"])
def test_an_option_that_a_family_does_not_have_is_named(env_id: str) -> None:
    with pytest.raises(UnusableEnvironmentError, match="has no option 'spilt'"):
        make(env_id, spilt="train")
