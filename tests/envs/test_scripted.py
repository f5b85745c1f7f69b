"""The scripted policy solves rooms, fails on purpose, and reproduces."""

from __future__ import annotations

import time

import numpy as np
import pytest

from benchmarks.environments import census
from thick.envs import make
from thick.envs.scripted import INTENTIONS, MIXTURE, NoisyExpert


@pytest.mark.parametrize("view", ["", "+map", "+full"])
@pytest.mark.parametrize("size", [5, 6, 8, 16])
def test_the_noiseless_expert_solves_every_room_in_few_steps(size: int, view: str) -> None:
    env = make(f"minigrid:MiniGrid-DoorKey-{size}x{size}-v0{view}")
    policy = NoisyExpert.expert()
    for seed in range(5):
        env.reset(seed=seed)
        policy.reset(env, np.random.default_rng(seed))
        for _ in range(10 * size):
            _, _, terminated, _, info = env.step(policy(env))
            if terminated:
                break
        assert info["success"]


@pytest.mark.parametrize(
    "task", ["MiniGrid-MultiRoom-N2-S4-v0", "MiniGrid-Unlock-v0", "MiniGrid-Empty-8x8-v0"]
)
def test_other_rooms_with_doors_keys_or_goals_are_solved_or_at_least_opened(task: str) -> None:
    env = make(f"minigrid:{task}")
    policy = NoisyExpert.expert()
    env.reset(seed=3)
    policy.reset(env, np.random.default_rng(3))
    terminated = False
    for _ in range(150):
        _, _, terminated, _, info = env.step(policy(env))
        if terminated:
            break
    assert terminated and info["success"]


@pytest.mark.slow
def test_the_default_mixture_is_dense_in_successes_and_failures_alike() -> None:
    steps = 12_000
    counts = census(NoisyExpert(), steps)
    shares = {name: count / steps for name, count in counts.items()}
    for name, least in {
        "pickup": 0.005,
        "pickup failed": 0.01,
        "door_opened": 0.01,
        "door_closed": 0.01,
        "toggled locked without key": 0.01,
        "bumped": 0.01,
        "through the door": 0.03,
        "entered key cell": 0.01,
        "goal": 0.005,
    }.items():
        assert shares.get(name, 0) >= least, (name, shares)


@pytest.mark.slow
def test_the_weight_of_the_goal_tunes_how_often_episodes_end_there() -> None:
    wander = {"wander": 1.0, "key": 1.0, "door": 1.0}
    never = census(NoisyExpert(epsilon=0.0, intentions=wander), 2000)
    rare = census(NoisyExpert(intentions={**wander, "goal": 0.2}), 6000)
    often = census(NoisyExpert(intentions={**wander, "goal": 3.0}), 6000)
    assert never["goal"] == 0
    assert 0 < rare["goal"] < 0.6 * often["goal"]


@pytest.mark.parametrize(
    ("names", "happens", "never"),
    [
        (["key"], ["pickup", "pickup failed"], ["door_opened", "goal"]),
        (["pickup_nothing"], ["pickup failed"], ["pickup", "door_opened", "goal"]),
        (["door"], ["toggled locked without key"], ["pickup", "door_opened"]),
        (["toggle_without_key"], ["toggled locked without key"], ["pickup", "door_opened"]),
        (["bump"], ["bumped"], ["pickup", "door_opened"]),
        (["wander"], [], ["pickup", "pickup failed", "door_opened", "bumped", "goal"]),
        (["key_cell"], [], ["pickup", "entered key cell"]),
        (["key_cell", "key"], ["pickup", "entered key cell"], ["door_opened"]),
        (["cross", "key"], ["pickup", "door_opened", "through the door"], ["goal", "bumped", "door_closed"]),
        (["goal"], [], ["goal"]),
        (["goal", "key", "door"], ["goal"], []),
        (["solve"], ["pickup", "door_opened", "goal"], ["pickup failed", "door_closed", "bumped"]),
    ],
)
def test_intentions_do_what_they_say_and_nothing_else(
    names: list[str], happens: list[str], never: list[str]
) -> None:
    counts = census(NoisyExpert(epsilon=0.0, intentions=dict.fromkeys(names, 1.0)), 600)
    assert [name for name in happens if not counts[name]] == []
    assert [name for name in never if counts[name]] == []


def test_the_default_mixture_knows_every_intention() -> None:
    assert set(MIXTURE) == set(INTENTIONS)


def test_the_same_generator_gives_the_same_actions() -> None:
    def actions(seed: int) -> list[int]:
        env, policy = make("minigrid:MiniGrid-DoorKey-6x6-v0+map"), NoisyExpert()
        env.reset(seed=0)
        policy.reset(env, np.random.default_rng(seed))
        taken = []
        for _ in range(80):
            taken.append(policy(env))
            if env.step(taken[-1])[2]:
                break
        return taken

    assert actions(1) == actions(1) != actions(2)


def test_full_noise_prefers_to_walk_forward() -> None:
    env, policy = make("minigrid:MiniGrid-DoorKey-8x8-v0+map"), NoisyExpert(epsilon=1.0, forward=0.5)
    env.reset(seed=0)
    policy.reset(env, np.random.default_rng(0))
    counts = np.bincount([policy(env) for _ in range(4000)], minlength=5) / 4000
    assert counts[2] == pytest.approx(0.5, abs=0.05)
    assert np.delete(counts, 2) == pytest.approx(0.125, abs=0.03)


def test_it_is_fast_enough_to_collect_data() -> None:
    started = time.process_time()
    census(NoisyExpert(), 5000)
    assert 5000 / (time.process_time() - started) > 2000  # about 20,000 on one core of a laptop


def test_unknown_intentions_and_odd_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown \['fly'\]; known: key"):
        NoisyExpert(intentions={"fly": 1.0})
    with pytest.raises(ValueError, match="expected weights >= 0, one above"):
        NoisyExpert(intentions={"key": 0.0})
    with pytest.raises(ValueError, match=r"expected 0 to 1, got 1\.5"):
        NoisyExpert(epsilon=1.5)
